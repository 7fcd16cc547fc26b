"""The presets and the paper's sweeps, at the paths that commands name."""
