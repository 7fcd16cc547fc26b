"""What can be shown: one file a source."""
