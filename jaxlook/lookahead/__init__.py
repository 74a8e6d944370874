"""Lookahead: where gradient comes from, what it buys, what states hold."""
