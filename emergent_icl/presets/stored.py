"""The config of an existing run, to resume, repeat, or vary it without its command line.

    python -m experiments.train --config=experiments/configs/stored.py:runs/small \
        --workdir=runs/another_seed --config.training.seed=1

Options added after the run was written have the values that describe what it did.
"""

import os
from pathlib import Path

from ml_collections import ConfigDict

from emergent_icl.presets import base
from emergent_icl.runs.workdir import Workdir, read_config


def get_config(where: str) -> ConfigDict:
    """Reads the config of a work directory or JSON file; raises WorkdirError if there is none."""
    path = Path(os.path.expanduser(where))
    stored = read_config(path) if path.suffix == ".json" else Workdir(where).read_config()
    config = base.get_config().unlock()
    try:
        config.update(stored)
    except (TypeError, AttributeError):  # A value of the wrong type, which `check` names.
        return stored
    return config.lock()
