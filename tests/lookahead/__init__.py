"""Tests of jaxlook.lookahead."""
