"""Completing, comparing, and identifying configs."""

import pytest
import tiny

from emergent_icl.config import identity as stored
from emergent_icl.config.configs import with_options
from emergent_icl.config.identity import completed, differing_options, identities, identity
from emergent_icl.config.options import OPTIONS
from emergent_icl.config.rules import STRING, Option


@pytest.fixture
def history(monkeypatch):
    """Later versions renamed `a.x` to `b.y`, then `b.z`; and added `probes.every` and `a.new`."""
    monkeypatch.setattr(stored, "RENAMED", {"a.x": "b.y", "b.y": "b.z"})
    added = {"probes.every": 0, "a.new": (1, 2)}
    options = {path: Option(value, STRING, "", before=value) for path, value in added.items()}
    monkeypatch.setattr(stored, "OPTIONS", options)


KEPT = [
    # (stored options, the command's options, what the run keeps)
    ({"draws": None}, {}, {"data.sequences.draws": 1}),
    ({"draws": 1}, {}, {}),
    ({"draws": 2}, {}, {}),
    ({"draws": None}, {"data.sequences.draws": 1}, {}),
    ({"draws": None, "shots": 6}, {}, {"data.sequences.draws": 1, "evaluation.shots": 6}),
    ({"shots": 6}, {"evaluation.shots": 5}, {}),
    # The unset option has the same derived value: nothing to keep.
    ({"shots": 4}, {}, {}),
    ({"shots": None}, {"evaluation.shots": 6}, {}),
]


@pytest.mark.parametrize(("there", "given", "expected"), KEPT)
def test_a_run_keeps_options_that_a_command_leaves_open(there, given, expected):
    config = with_options(tiny.get_config(), given)
    tree = with_options(tiny.get_config(), {"evaluation.shots": there.get("shots")}).to_dict()
    tree["data"]["sequences"]["draws"] = there.get("draws", 2)
    if tree["data"]["sequences"]["draws"] is None:
        del tree["data"]["sequences"]["draws"]
    whole, keeps = stored.kept(tree, config)
    assert keeps == expected
    assert whole == with_options(config, expected)
    assert whole.is_locked


def test_equal_values_that_are_written_differently_resume_the_same_run():
    overrides = [({"name": "iid", "data.sequences.p_bursty": zero}, {}) for zero in (0, 0.0)]
    there, here = (
        with_options(tiny.get_config(), {"training.replica_overrides": own}) for own in overrides
    )
    assert identity(there) != identity(here)
    whole, keeps = stored.kept(there.to_dict(), here)
    assert keeps == {}
    assert identity(whole) == identity(there)


def test_configs_of_any_version_are_completed(history):
    now = {"a": {"new": (1, 2)}, "b": {"z": 5}, "probes": {"every": 0}}
    for written in ({"a": {"x": 5}}, {"b": {"y": 5}, "a": {}}, {"b": {"z": 5}}):
        before = repr(written)
        assert completed(written) == now
        assert repr(written) == before


def test_existing_values_are_kept(history):
    written = {"a": {"new": (9,)}, "b": {"z": 1}, "probes": {"every": 7}}
    assert completed(written) == written


def test_options_of_replicas_are_renamed_too(history):
    stored = {"training": {"replica_overrides": [{"name": "n", "a.x": 5}, 3]}}
    assert completed(stored)["training"]["replica_overrides"] == [{"name": "n", "b.z": 5}, 3]


NEW = {"a": {"new": (1, 2)}, "probes": {"every": 0}}


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ({}, NEW),
        ({"a": 3}, {**NEW, "a": 3}),
        ({"probes": None}, {**NEW, "probes": None}),
        ({"a": {"x": 5}, "b": 3}, {**NEW, "a": {"x": 5, "new": (1, 2)}, "b": 3}),
        # Under two names, it is ambiguous.
        ({"b": {"y": 1, "z": 2}}, {**NEW, "b": {"y": 1, "z": 2}}),
    ],
)
def test_malformed_configs_are_left_to_validation(history, stored, found):
    assert completed(stored) == found


def test_an_option_that_changes_nothing_keeps_the_identity(config, monkeypatch):
    before = identity(config)
    monkeypatch.setitem(OPTIONS, "training.patience", Option(7, STRING, "", before=3))
    monkeypatch.setattr(stored, "RENAMED", {"data.split.seed": "data.split.permutation"})
    config.training.patience = 3
    config.data.split.permutation = config.data.split.seed
    del config.data.split.seed
    assert identity(config) == before
    config.training.replica_overrides = ({"name": "n", "data.split.permutation": 1},)
    renamed = identity(config)
    monkeypatch.setattr(stored, "RENAMED", {})
    assert identity(config) != renamed
    config.training.patience = 4
    assert identity(config) not in (before, renamed)


WRITTEN_OUT = {"model.num_labels": 40, "model.num_positions": 17}
WRITTEN_OUT |= {"evaluation.shots": 4, "evaluation.ways": 2}


def test_derived_options_are_compared_by_value():
    config = tiny.get_config()
    explicit = with_options(config, WRITTEN_OUT)
    for old, new in ((config, explicit), (explicit, config)):
        assert list(differing_options(old, new)) == []
        assert identity(old) in identities(new)
    assert len(identities(config)) == 4 * 4
    other = with_options(config, {**WRITTEN_OUT, "model.num_labels": 41})
    assert list(differing_options(config, other)) == [("model.num_labels", None, 41)]
    assert identity(config) not in identities(other)


def test_steps_per_call_is_compared_as_written():
    """The derived value depends on the machine and the number of steps."""
    config = tiny.get_config()
    unset = with_options(config, {"training.steps_per_call": None})
    assert list(differing_options(unset, config)) == [("training.steps_per_call", None, 1)]
    assert identity(unset) not in identities(config)


def test_an_underivable_option_differs():
    config = with_options(tiny.get_config(), {"data.split.num_rare": 4000})
    explicit = with_options(config, {"model.num_labels": 40})
    assert list(differing_options(config, explicit)) == [("model.num_labels", None, 40)]
    assert identities(config)[0] == identity(config)
