"""Tests of jaxlook.planning."""
