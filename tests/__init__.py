"""Tests of jaxlook, one folder for each of its packages."""
