"""Tests of jaxlook.planning.products."""
