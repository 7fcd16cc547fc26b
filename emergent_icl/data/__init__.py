"""Data: what can be shown (banks), which of it is shown (sequences), and the way to the device."""

# Imported for their entries in the registries, so that whoever sees one sees it filled.
from emergent_icl.data import feed
from emergent_icl.data.sequences import bursty, probes
from emergent_icl.data.sources import features, gaussian, glyphs, images, omniglot, symbolic

__all__ = [
    "bursty", "features", "feed", "gaussian", "glyphs", "images", "omniglot", "probes", "symbolic",
]  # fmt: skip
