"""Omniglot with its flips and quarter turns as classes of their own: 12,880 of 12,984."""

from emergent_icl.presets.omniglot_augmented import get_config as get_config
