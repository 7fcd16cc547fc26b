"""Few-shot sequences are as long as in training by default; another length is announced."""

import importlib

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import with_options
from emergent_icl.data.task import fewshot_options, make_task
from emergent_icl.plots.learning_curves import draw
from emergent_icl.runs.check import check
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training.replicas import make_replicas
from emergent_icl.training.warnings import warnings

PAPERS = ("omniglot", "omniglot_augmented", "omniglot_identical")


@pytest.mark.parametrize("preset", PAPERS)
def test_the_papers_presets_derive_4_shots_and_2_ways(preset):
    config = importlib.import_module(f"emergent_icl.presets.{preset}").get_config("paper")
    found = fewshot_options(config)
    assert (found.shots, found.ways) == (4, 2)
    assert make_task(config).evaluation["fewshot_holdout"].seq_len == 9


@settings(max_examples=25)
@given(ways=st.integers(1, 4), seq_len=st.integers(2, 20), mode=st.sampled_from(("few", "flip")))
def test_an_unset_length_is_derived_from_training_or_refused(ways, seq_len, mode):
    mode = {"few": "fewshot_holdout"}.get(mode, mode)
    options = {"data.sequences.ways": ways, "data.sequences.seq_len": seq_len}
    options |= {"data.sequences.p_bursty": 0.0, "evaluation.modes": (mode, "no_support_rare")}
    config = with_options(tiny.get_config(), options)
    asked = max(ways, 2)
    if (seq_len - 1) % asked == 0:
        kind = make_task(config).evaluation[mode]
        assert kind.seq_len == seq_len
        assert kind.shots == (seq_len - 1) // asked
        assert make_task(config).length_note == ""
        return
    with pytest.raises(ConfigError) as raised:
        check(config)
    message = str(raised.value)
    assert f"evaluation.modes: '{mode}': evaluation.shots is unset" in message
    assert message.count("evaluation.shots is unset") == 1  # no_support_* has no shots.
    nearest = [int(word) for word in message.partition("a seq_len of ")[2].split(" or ")]
    assert 0 < len(nearest) <= 2
    for length in nearest:
        assert abs(length - seq_len) < asked
        check(with_options(config, {"data.sequences.seq_len": length}))
    check(with_options(config, {"evaluation.shots": 2}))


@pytest.mark.parametrize("kind", ["fewshot_rare", "mixed", "flip", "relabelled", "no_support_rare"])
def test_every_training_type_has_the_configured_length(kind):
    options = {"data.sequences.type": kind, "data.sequences.shots": 3}
    config = with_options(tiny.get_config(), options)
    if kind in ("relabelled", "no_support_rare"):
        assert make_task(config).training.seq_len == 9
        return
    # `check` reports the same.
    with pytest.raises(ValueError, match="seq_len = 9 must be 7 with shots = 3, ways = 2"):
        make_task(config)
    with pytest.raises(ConfigError, match=f"type '{kind}'.: seq_len = 9 must be 7"):
        check(config)
    task = make_task(with_options(config, {"data.sequences.shots": 4}))
    assert {one.seq_len for one in (task.training, *task.evaluation.values())} == {9}


def test_each_replica_derives_its_own_length():
    config = with_options(
        tiny.get_config(),
        {"training.replica_overrides": ({"name": "a"}, {"name": "b", "data.sequences.ways": 4},),
         "data.sequences.shots": 2},
    )  # fmt: skip
    found = [fewshot_options(replica.config) for replica in make_replicas(config)]
    assert [(one.shots, one.ways) for one in found] == [(4, 2), (2, 4)]


NOTE = "trained on 8 pairs, evaluated on fewshot_holdout 4"


def test_a_different_length_is_announced(tmp_path, monkeypatch):
    """In `describe` and in the figure; for the start, see tests/runs/test_stored_choices.py."""
    config = with_options(tiny.get_config(), {"evaluation.shots": 2})
    task = make_task(config)
    assert task.length_note == NOTE
    assert "fewshot_holdout has 9 tokens, training has 17" in warnings(config, task)
    Workdir(tmp_path).claim(config)
    titles = []
    monkeypatch.setattr(
        "emergent_icl.plots.style.save",
        lambda figure, path: titles.append(figure.get_suptitle()),
    )
    draw(Workdir(tmp_path))
    assert titles == [f"tiny symbols\n{NOTE}"]
    longer = with_options(config, {"evaluation.shots": 6})
    assert make_task(longer).length_note == "trained on 8 pairs, evaluated on fewshot_holdout 12"
