"""Bad input of every kind: a sample of each, and many more by hand."""
