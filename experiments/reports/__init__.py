"""Claims, tables and figures, each module for the binary of its name."""
