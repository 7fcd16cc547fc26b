"""Training: state, update, devices, checkpoints, and the loop around them."""
