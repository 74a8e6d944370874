"""How fast attention and training are, next to what others offer."""
