"""Planning: tasks that need to look ahead, and causal tests of plans."""
