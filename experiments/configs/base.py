"""Every option at its default; see emergent_icl/config/options.py."""

from emergent_icl.presets.base import check_preset as check_preset
from emergent_icl.presets.base import get_config as get_config
from emergent_icl.presets.base import train_briefly as train_briefly
