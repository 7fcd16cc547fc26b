"""Training on devices: state, optimizers, the update, and the compiled step."""
