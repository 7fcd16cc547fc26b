"""Procedural handwritten-like characters: needs no download."""

from emergent_icl.presets.glyphs import get_config as get_config
