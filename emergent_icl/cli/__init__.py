"""The commands. What they print is said here and nowhere below."""
