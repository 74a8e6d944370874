"""Tests of jaxlook.circuits."""
