"""Integer tokens: no images and no variation within a class, only the statistics of sequences."""

from emergent_icl.presets.symbolic import get_config as get_config
