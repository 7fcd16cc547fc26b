"""Options, rules for their values, and configs."""
