"""Where in-context learning comes from: data-distributional experiments in JAX."""

__version__ = "0.1.0"
