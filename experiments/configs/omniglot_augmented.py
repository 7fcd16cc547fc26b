"""Omniglot with flips and 90-degree rotations as separate classes."""

from emergent_icl.presets.omniglot_augmented import get_config as get_config
