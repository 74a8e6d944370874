"""Products: which digits a model computes before it writes them."""
