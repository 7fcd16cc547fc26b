"""The program computes the same numbers as version 0.1.0.

Records are refreshed only deliberately, by `make record`; the commit explains why.
"""

import json

import jax
import ml_collections
import pytest
from launching import start
from net import observe

from emergent_icl.config.configs import tuples
from emergent_icl.config.identity import completed, differing_options, identities, identity, kept

REFRESH = "if the change is intended, run `make record` and explain it in the commit"


def recorded(name):
    return json.loads((observe.DATA / name).read_text(encoding="utf-8"))


CURVES, STORED, STEPS = recorded("curves.json"), recorded("workdir.json"), recorded("steps.json")
LEAN = recorded("lean.json")
CONFIGS, PARAMETERS = recorded("configs.json"), recorded("parameters.json")


def observations_of(module, folder, *words):
    """What a module in this folder writes, under the XLA flags that users have."""
    path = folder / "observed.json"
    env = {"XLA_FLAGS": "", "PYTHONPATH": str(observe.ROOT / "tests")}
    process = start("-m", f"net.{module}", path, *words, env=env)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    names = [name for name in observe.RUNS if name not in observe.RARE]
    return observations_of("observe", tmp_path_factory.mktemp("observed"), *names)


@pytest.fixture(scope="module")
def observed_rarely(tmp_path_factory):
    return observations_of("observe", tmp_path_factory.mktemp("rarely"), *observe.RARE)


@pytest.fixture(scope="module")
def observed_later(observed, tmp_path_factory):
    """What a later version writes; it reuses what the first process compiled."""
    return observations_of("newer", tmp_path_factory.mktemp("observed_later"))


def assert_same(found, record, here, there):
    """Bit for bit on the kind of machine that made the record, approximately on others."""
    if here == there:
        assert found == record, REFRESH
        return
    assert [sorted(line) for line in found] == [sorted(line) for line in record]
    for line, expected in zip(found, record, strict=True):
        for name, value in expected.items():
            # A few of fifty answers may differ where two labels are almost equally likely.
            slack = {"abs": 0.1} if "accuracy" in name or "predicts" in name else {"rel": 5e-3}
            assert line[name] == (
                value if isinstance(value, str) else pytest.approx(value, **slack)
            )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.faults] * (name in observe.RARE))
        for name in observe.RUNS
    ],
)
@pytest.mark.parametrize("way", ["uninterrupted", "resumed"])
def test_a_run_gives_the_same_curve(request, name, way):
    which = "observed_rarely" if name in observe.RARE else "observed"
    observed = request.getfixturevalue(which)
    found, record = observed["curves"][name][way], CURVES["curves"][name]
    assert [line["step"] for line in record][-1] == observe.STEPS
    assert_same(found, record, observed["machine"], CURVES["machine"])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.faults] * (name in observe.RARE))
        for name in observe.RUNS
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(request, name):
    which = "observed_rarely" if name in observe.RARE else "observed"
    ways = request.getfixturevalue(which)["curves"][name]
    assert ways["resumed"] == ways["uninterrupted"]


@pytest.mark.parametrize("name", observe.LEAN)
@pytest.mark.parametrize("way", ["uninterrupted", "resumed"])
def test_todays_arithmetic_gives_the_same_curve(observed, name, way):
    found, record = observed["lean"][name][way], LEAN["curves"][name]
    assert_same(found, record, observed["machine"], LEAN["machine"])


def test_a_stored_run_resumes_to_the_same_curve(observed):
    found = observed["workdir"]
    assert_same(found["records"], STORED["records"], observed["machine"], STORED["machine"])
    assert STORED["records"] == CURVES["curves"]["images"]


def test_a_stored_run_resumes_to_the_same_state_bit_for_bit(observed):
    # On other machines, the test above compares approximately.
    if observed["machine"] != STORED["machine"]:
        pytest.skip(f"the record was made on another machine: {STORED['machine']}")
    assert observed["workdir"]["state"] == STORED["state"], REFRESH


def test_a_stored_run_opens_with_the_same_logits(observed):
    for found, record in zip(observed["workdir"]["logits"], STORED["logits"], strict=True):
        assert found == pytest.approx(record, rel=1e-4, abs=1e-5)
    if observed["machine"] == STORED["machine"]:
        assert observed["workdir"]["logits"] == STORED["logits"], REFRESH


@pytest.mark.parametrize("name", observe.STEPPED)
def test_the_lowered_step_is_the_same(name):
    # Only the pinned version of JAX is compared.
    if jax.__version__ != STEPS["jax"]:
        pytest.skip(f"the record was made by JAX {STEPS['jax']}; other versions lower differently")
    assert observe.lowered_step(name) == STEPS["steps"][name], REFRESH


def test_every_preset_is_recorded():
    assert set(CONFIGS) == set(PARAMETERS) == set(observe.PRESETS)
    assert set(STEPS["steps"]) == set(observe.STEPPED) <= set(observe.PRESETS)
    assert set(CURVES["curves"]) == set(observe.RUNS)


@pytest.mark.parametrize("name", observe.PRESETS)
def test_a_preset_is_the_same_config(name):
    """Options added later have the value that describes earlier behavior; see Option.before."""
    config = observe.preset_config(name)
    assert tuples(completed(CONFIGS[name]["config"])) == tuples(config.to_dict()), REFRESH
    assert identity(config) == CONFIGS[name]["identity"]


@pytest.mark.parametrize("name", observe.PRESETS)
def test_the_command_of_a_preset_resumes_a_run_of_the_first_version(name):
    stored, today = CONFIGS[name]["config"], observe.preset_config(name, {})
    config, keeps = kept(stored, today)
    added = ("data.sequences.draws", "model.own_labels", "model.resnet.stem", "training.arithmetic")
    assert keeps == {name: observe.FIRST[name] for name in added}
    assert CONFIGS[name]["identity"] in identities(config)
    there = ml_collections.ConfigDict(tuples(completed(stored)))
    assert list(differing_options(there, config)) == []


@pytest.mark.parametrize("name", observe.PRESETS)
def test_a_preset_has_the_same_parameters(name):
    assert observe.parameters(name) == PARAMETERS[name], REFRESH


def test_the_options_page_is_the_same(observed):
    record = (observe.DATA / "options.md").read_text(encoding="utf-8")
    assert observed["options"].rstrip() == record.rstrip(), REFRESH


@pytest.mark.faults
def test_the_stored_records_give_the_same_verdicts():
    assert observe.verdicts() == recorded("verdicts.json"), REFRESH


# --------------------------------------------------- stored runs and a later version


@pytest.mark.faults
def test_a_later_version_resumes_a_stored_run_bit_for_bit(observed, observed_later):
    assert observed_later["workdir"] == observed["workdir"]


@pytest.mark.faults
def test_a_later_version_refuses_a_different_config(observed_later):
    assert "training.patience: 3 there, 7 here" in observed_later["refused"]
    assert observed_later["refused"].count(" there, ") == 1
    assert "model.width: 32 there, 33 here" in observed_later["other"]


@pytest.mark.faults
def test_a_derived_option_may_be_set_explicitly(observed_later):
    """Even in a run whose checkpoints were written while it was unset."""
    assert observed_later["again"] == ""
    assert (observed_later["opened"], observed_later["width"]) == (observe.STORED_STEP, 32)


@pytest.mark.faults
def test_a_later_version_judges_the_stored_records_as_before(observed_later):
    assert observed_later["verdicts"] == recorded("verdicts.json")
