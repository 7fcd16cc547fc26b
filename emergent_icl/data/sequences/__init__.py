"""Which examples and labels stand in a sequence."""
