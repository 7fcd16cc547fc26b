"""Clusters of vectors after Reddy 2023 (arXiv 2312.03002): a minimal setting for ICL."""

from emergent_icl.presets.gaussian import get_config as get_config
