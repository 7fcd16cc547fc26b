"""Held-out exemplars are never trained on, and evaluation shows only them if configured."""

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import has, with_options
from emergent_icl.config.identity import completed, identity
from emergent_icl.config.registry import EVALUATION_MODES, SEQUENCE_TYPES
from emergent_icl.data.task import make_task
from emergent_icl.runs.check import check

HELD_OUT, SHOWN = "data.split.num_holdout_exemplars", "evaluation.exemplars"
IMAGES = with_options(tiny.get_config("images"), {"evaluation.shots": 2})  # 5 exemplars per class.


def shown(kind):
    return set(kind.sample(np.random.default_rng(0), 400).exemplar_ids.ravel().tolist())


@settings(max_examples=10)
@given(count=st.integers(1, 4), seed=st.integers(0, 99), name=st.sampled_from([*SEQUENCE_TYPES]))
def test_training_and_evaluation_share_no_exemplar(count, seed, name):
    options = {HELD_OUT: count, "data.split.seed": seed, "evaluation.modes": (*EVALUATION_MODES,)}
    if name in ("mixed", "flip") or name.startswith("fewshot"):
        options |= {"data.sequences.seq_len": 7}
    config = with_options(IMAGES, {**options, "data.sequences.type": name})
    trained = shown(make_task(config).training)
    assert len(trained) == 5 - count
    for mode, kind in make_task(config).evaluation.items():
        assert shown(kind) == trained, mode
    for mode, kind in make_task(with_options(config, {SHOWN: "holdout"})).evaluation.items():
        # Every exemplar of a held-out class is new anyway.
        is_new = mode != "fewshot_holdout"
        assert shown(kind) == ({*range(5)} - trained if is_new else trained), mode


def test_the_same_exemplars_are_held_out_in_every_class_and_depend_on_the_split_seed():
    config = with_options(IMAGES, {HELD_OUT: 2})
    batch = make_task(config).training.sample(np.random.default_rng(0), 2000)
    by_class = {frozenset(batch.exemplar_ids[batch.class_ids == one]) for one in range(40)}
    assert len(by_class - {frozenset()}) == 1
    seeds = [with_options(config, {"data.split.seed": seed}) for seed in range(8)]
    assert len({frozenset(shown(make_task(one).training)) for one in seeds}) > 1


def test_without_held_out_exemplars_configs_are_those_of_earlier_versions():
    space = make_task(IMAGES).space
    assert space.exemplars is None
    stored = IMAGES.to_dict()
    del stored["data"]["split"]["num_holdout_exemplars"], stored["evaluation"]["exemplars"]
    assert completed(stored)["data"]["split"]["num_holdout_exemplars"] == 0
    assert completed(stored)["evaluation"]["exemplars"] == "trained"
    assert identity(with_options(IMAGES, {HELD_OUT: 1})) != identity(IMAGES)
    # A run can be evaluated on held-out exemplars after training.
    assert has(SHOWN, "reopenable")
    assert not has(HELD_OUT, "reopenable")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({HELD_OUT: 5}, f"{HELD_OUT} = 5 must be less than 5, the number of exemplars per class"),
        ({SHOWN: "holdout"}, "'no_support_zipfian': evaluation.exemplars = 'holdout' needs data"),
        # Held-out classes have no held-out exemplars, but the option promises some.
        (
            {SHOWN: "holdout", "evaluation.modes": ("fewshot_holdout",)},
            "'fewshot_holdout': evaluation.exemplars = 'holdout' needs data",
        ),
        ({HELD_OUT: 3}, "evaluation.shots = 2 needs 3 exemplars per class .* but 2 can be"),
        (
            {HELD_OUT: 2, SHOWN: "holdout", "evaluation.modes": ("flip",)},
            "evaluation.shots = 2 needs 3 exemplars per class .* but 2 can be shown",
        ),
        # A single exemplar would appear both in the context and as the query.
        ({HELD_OUT: 4}, "evaluation.shots = 2 needs 3 exemplars per class .* but 1 can be shown"),
        (
            {HELD_OUT: 1, SHOWN: "holdout", "evaluation.modes": ("bursty",)},
            r"data\.sequences\.shots = 1 needs 2 exemplars per class .* but 1 can be shown",
        ),
        ({HELD_OUT: 1, "data.drawings": "single"}, "must be less than 1, the number of exemplars"),
    ],
)
def test_impossible_holdouts_are_refused(options, message):
    options = {"data.sequences.shots": 1, **options}
    with pytest.raises(ConfigError, match=message):
        check(with_options(IMAGES, options))


def test_bursts_that_are_never_drawn_need_no_exemplars():
    options = {HELD_OUT: 2, "data.sequences.shots": 3, "evaluation.modes": ("no_support_common",)}
    with pytest.raises(ConfigError, match="shots = 3 needs 4 exemplars per class"):
        check(with_options(IMAGES, options))
    check(with_options(IMAGES, {**options, "data.sequences.p_bursty": 0.0}))
