"""Tests of jaxlook.decoding."""
