"""Omniglot with a single drawing of each class: within-class variation from none upwards."""

from emergent_icl.presets.omniglot_identical import get_config as get_config
