"""Products by digits: what is ready before it is asked for."""
