"""Tests of jaxlook.planning.couplets."""
