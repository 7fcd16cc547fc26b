"""The paper's sweeps, at the paths that commands name."""
