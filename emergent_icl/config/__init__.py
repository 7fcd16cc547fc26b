"""Options and configs: what there is to choose, and a choice as a value."""
