"""Tests of jaxlook.planning.stars."""
