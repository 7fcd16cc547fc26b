"""Procedural characters that resemble handwriting: no download needed."""

from emergent_icl.presets.glyphs import get_config as get_config
