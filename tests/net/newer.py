"""Pretends to be a later version: one option more, one renamed, one more that is derived.

Nothing computes anything else, so whatever this version stored must stay what it is. It changes
modules for good: `python -m net.newer FILE` is a process of its own.
"""

import json
import sys
import tempfile
from pathlib import Path

import ml_collections
from net import observe

from emergent_icl.config import identity as stored
from emergent_icl.config.configs import tuples
from emergent_icl.config.identity import completed
from emergent_icl.config.options import OPTIONS
from emergent_icl.config.rules import OPTIONAL_COUNT, Option, integer
from emergent_icl.runs.open import load_run
from emergent_icl.runs.records import Display
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir, WorkdirError

OLD, NEW = "data.symbolic.num_classes", "data.symbolic.num_integers"
ADDED, BEFORE, DEFAULT = "training.patience", 3, 7
DERIVED = "model.width"
# By this version.
WRITTEN = observe.run_config("images")


def pretend():
    """From now on it is."""
    stored.RENAMED[OLD] = NEW
    stored.DERIVED[DERIVED] = lambda config: 2 * config.model.embedding_size
    OPTIONS[NEW] = OPTIONS.pop(OLD)
    # What the sweeps start from: the default is what was done before there was a choice.
    OPTIONS[ADDED] = Option(BEFORE, integer(0), "", before=BEFORE)
    OPTIONS[DERIVED] = Option(None, OPTIONAL_COUNT, "", before=None)


def newer(config, **changes):
    """A config of this version as that one would make it, with its own default."""
    tree = completed(config.to_dict())
    tree["training"]["patience"] = DEFAULT
    made = ml_collections.ConfigDict(tuples(tree))
    made.update_from_flattened_dict({name.replace("__", "."): v for name, v in changes.items()})
    return made.lock()


def refusal(folder, config):
    """Why the run of a folder is not that of a config; '' if it is."""
    try:
        train(config, Workdir(folder), Display())
    except WorkdirError as error:
        return str(error)
    return ""


def seen():
    """What that version makes of a stored run and of the committed records."""
    as_before = newer(WRITTEN, training__patience=BEFORE)
    explicit = newer(as_before, training__patience=BEFORE, model__width=32)
    with tempfile.TemporaryDirectory() as place:
        folder = observe.unpack_workdir(place)
        refused = refusal(folder, newer(WRITTEN))
        # Its checkpoint was written while the width was unset, and had no name.
        found = observe.resumed_workdir(folder, explicit)
        again = refusal(folder, as_before)
        other = refusal(folder, newer(as_before, training__patience=BEFORE, model__width=33))
        # By now config.json is that version's, and this checkpoint still of this one.
        opened = load_run(folder, step=observe.STORED_STEP)
        stored = Workdir(folder).read_config()
    return {
        "refused": refused,
        "workdir": found,
        "again": again,
        "other": other,
        "opened": opened.step,
        "width": stored.model.width,
        "verdicts": observe.verdicts(),
    }


if __name__ == "__main__":
    pretend()
    Path(sys.argv[1]).write_text(json.dumps(seen()), encoding="utf-8")
