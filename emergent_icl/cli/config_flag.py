"""--config=FILE[:preset], for the launchers that start from a config."""

from __future__ import annotations

from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file("config", help_string="FILE[:preset] of the experiment.")
