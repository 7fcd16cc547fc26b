"""Registrations name the user's own data, which a verdict's runs must have used."""

import dataclasses
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
    assert made["sweeps"]["tiny"]["data"] == dict.fromkeys(["p=0", "p=1"], finish_all(sweep, root))
    assert mark(sweep, root).startswith("registered on ")


def test_data_that_changed_after_the_registration_are_named(sweep, tmp_path):
    root = tmp_path / "runs"
    made = register([sweep], root)
    before = made["sweeps"]["tiny"]["data"]["p=0"]
    np.save(sweep.base.data.features.path, vectors(1))
    now = load_bank(sweep.base.data).source
    with pytest.raises(SweepError, match=f"tiny: data of p=0: '{now}', not '{before}'"):
        register([sweep], root)
    finish_all(sweep, root)
    said = [f"data of p={p}: '{now}', not '{before}'" for p in (0, 1)]
    assert mark(sweep, root) == CHANGED + "; ".join(said)
    # Registrations of earlier versions name no data.
    del made["sweeps"]["tiny"]["data"]
    (root / FILE).write_text(json.dumps(made | {"hash": hash_of(made["sweeps"])}))
    assert mark(sweep, root).startswith("registered on ")


def test_each_condition_has_its_own_registered_data(sweep, tmp_path):
    root, other = tmp_path / "runs", tmp_path / "y.npy"
    np.save(other, vectors(1))
    options = ({}, {"data.features.path": str(other)})
    conditions = [
        one._replace(overrides={**one.overrides, **own})
        for one, own in zip(sweep.conditions, options, strict=True)
    ]
    sweep = dataclasses.replace(sweep, conditions=tuple(conditions))
    found = register([sweep], root)["sweeps"]["tiny"]["data"]
    assert found["p=0"] != found["p=1"]
    # Both files now hold what the first one held.
    np.save(other, vectors(0))
    finish_all(sweep, root)
    assert mark(sweep, root) == f"{CHANGED}data of p=1: {found['p=0']!r}, not {found['p=1']!r}"


def test_built_in_data_are_not_registered(tmp_path):
    assert "data" not in register([tiny_sweep.get_sweep()], tmp_path)["sweeps"]["tiny"]
