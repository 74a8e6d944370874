"""Products by digits: what a model computes before it has to write it."""
