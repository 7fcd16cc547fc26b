"""Omniglot with a single drawing per class: no variation within classes."""

from emergent_icl.presets.omniglot_identical import get_config as get_config
