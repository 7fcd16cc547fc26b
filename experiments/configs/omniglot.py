"""Omniglot."""

from emergent_icl.presets.omniglot import get_config as get_config
