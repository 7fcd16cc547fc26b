"""What the benchmark launcher is made of: the original's way, timing, floors, suites, figures."""
