"""Clouds of vectors after Reddy 2023 (arXiv 2312.03002): the smallest place to watch ICL emerge."""

from emergent_icl.presets.gaussian import get_config as get_config
