"""Data: what can be shown (banks), which of it is shown (sequences), and the way to the device."""

# Imported for their entry in DATA_SOURCES, so that whoever sees the registry sees it filled.
from emergent_icl.datasets import glyphs, omniglot, symbolic

__all__ = ["glyphs", "omniglot", "symbolic"]
