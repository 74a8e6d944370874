"""Tasks that ask for a plan: where it is held, and what hangs on it."""
