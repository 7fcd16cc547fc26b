"""Registrations name the user's own data, which a verdict's runs must have used."""

import json

import numpy as np
import pytest
import tiny_sweep
from finished_runs import Ends, finish

from emergent_icl.data.sources.source import load_bank
from emergent_icl.runs.recorded_data import record_data
from emergent_icl.sweeps.jobs import make_jobs
from emergent_icl.sweeps.registration import CHANGED, FILE, hash_of, register, status
from emergent_icl.sweeps.spec import SweepError


def vectors(seed):
    return np.random.default_rng(seed).normal(size=(40, 6, 5))


@pytest.fixture
def sweep(tmp_path):
    file = tmp_path / "x.npy"
    np.save(file, vectors(0))
    options = {"data.source": "features", "data.features.path": str(file), "model.encoder": "mlp"}
    return tiny_sweep.get_sweep().with_base_options(options)


def mark(sweep, root):
    return status([sweep], root)["status"][sweep.name]


def finish_all(sweep, root):
    """Completes the runs on the data as they are now; returns their description."""
    bank = load_bank(sweep.base.data)
    for job in make_jobs([sweep], root):
        finish(job, Ends(icl=0.7, iwl=0.1), started="2999-01-01T00:00:00Z")
        record_data(job.workdir, bank, (), 0)
    return bank.source


def test_runs_on_the_registered_data(sweep, tmp_path):
    root = tmp_path / "runs"
    made = register([sweep], root)
    assert register([sweep], root) == made
    assert made["sweeps"]["tiny"]["data"] == [finish_all(sweep, root)]
    assert mark(sweep, root).startswith("registered on ")


def test_data_that_changed_after_the_registration_are_named(sweep, tmp_path):
    root = tmp_path / "runs"
    made = register([sweep], root)
    (before,) = made["sweeps"]["tiny"]["data"]
    np.save(sweep.base.data.features.path, vectors(1))
    now = load_bank(sweep.base.data).source
    with pytest.raises(SweepError, match=f"tiny: data: '{now}', not {before}"):
        register([sweep], root)
    finish_all(sweep, root)
    assert mark(sweep, root) == f"{CHANGED}data: '{now}', not {before}"
    # Registrations of earlier versions name no data.
    del made["sweeps"]["tiny"]["data"]
    (root / FILE).write_text(json.dumps(made | {"hash": hash_of(made["sweeps"])}))
    assert mark(sweep, root).startswith("registered on ")


def test_built_in_data_are_not_registered(tmp_path):
    assert "data" not in register([tiny_sweep.get_sweep()], tmp_path)["sweeps"]["tiny"]
