"""The config of a run that exists: resumes, repeats or varies it without its command line.

    python -m experiments.train --config=experiments/configs/stored.py:runs/small \
        --workdir=runs/another_seed --config.training.seed=1

An option that came after the run was written has the value that says what the run did without it.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from emergent_icl.presets import base
from emergent_icl.runs.workdir import Workdir


def get_config(workdir: str) -> ConfigDict:
    """The config.json of a work directory; raises WorkdirError where there is no such config."""
    config = base.get_config().unlock()
    config.update(Workdir(workdir).read_config())
    return config.lock()
