"""The config of an existing run: resume, repeat, or vary it without its command line."""

from emergent_icl.presets.stored import get_config as get_config
