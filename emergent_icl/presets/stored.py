"""The config of a run that exists: resumes, repeats or varies it without its command line.

    python -m experiments.train --config=experiments/configs/stored.py:runs/small \
        --workdir=runs/another_seed --config.training.seed=1

An option that came after the run was written has the value that says what the run did without it.
"""

from __future__ import annotations

import os
from pathlib import Path

from ml_collections import ConfigDict

from emergent_icl.presets import base
from emergent_icl.runs.workdir import Workdir, read_config


def get_config(where: str) -> ConfigDict:
    """The config of a work directory, or in a JSON file; raises WorkdirError if there is none."""
    path = Path(os.path.expanduser(where))
    stored = read_config(path) if path.suffix == ".json" else Workdir(where).read_config()
    config = base.get_config().unlock()
    config.update(stored)
    return config.lock()
