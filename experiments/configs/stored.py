"""The config of a run that is there: resumes, repeats or varies it without its command line."""

from emergent_icl.presets.stored import get_config as get_config
