"""One small file an experiment, presets by argument; base.py declares every option."""
