"""Simulates a later version with a new option, a renamed one, and a new derived one.

Computation does not change, so everything stored by this version must remain valid. Modules are
changed permanently; therefore `python -m net.newer FILE` runs as a separate process.
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
# As written by this version.
WRITTEN = observe.run_config("images")


def become_newer():
    """Turns this process into the later version."""
    stored.RENAMED[OLD] = NEW
    stored.DERIVED[DERIVED] = lambda config: 2 * config.model.embedding_size
    OPTIONS[NEW] = OPTIONS.pop(OLD)
    # For sweeps, the default is what was done before there was a choice.
    OPTIONS[ADDED] = Option(BEFORE, integer(0), "", before=BEFORE)
    OPTIONS[DERIVED] = Option(None, OPTIONAL_COUNT, "", before=None)


def newer(config, **changes):
    """A config of this version as the later version would make it, with its own default."""
    tree = completed(config.to_dict())
    tree["training"]["patience"] = DEFAULT
    made = ml_collections.ConfigDict(tuples(tree))
    made.update_from_flattened_dict({name.replace("__", "."): v for name, v in changes.items()})
    return made.lock()


def refusal(folder, config):
    """Why a folder's run is not that of a config; '' if it is."""
    try:
        train(config, Workdir(folder), Display())
    except WorkdirError as error:
        return str(error)
    return ""


def observations():
    """How the later version treats a stored run and the committed records."""
    as_before = newer(WRITTEN, training__patience=BEFORE)
    explicit = newer(as_before, training__patience=BEFORE, model__width=32)
    with tempfile.TemporaryDirectory() as place:
        folder = observe.unpack_workdir(place)
        refused = refusal(folder, newer(WRITTEN))
        # The checkpoint was written while the width was unset, before the option existed.
        found = observe.resumed_workdir(folder, explicit)
        again = refusal(folder, as_before)
        other = refusal(folder, newer(as_before, training__patience=BEFORE, model__width=33))
        # Now config.json is the later version's, and this checkpoint is still this version's.
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
    become_newer()
    Path(sys.argv[1]).write_text(json.dumps(observations()), encoding="utf-8")
