"""Pairs of similar classes in the figure and in inspection.json."""

import json

import pytest
import tiny

from emergent_icl.plots.lookalikes import find_lookalikes, lookalikes_figure, lookalikes_report
from emergent_icl.runs.check import check
from emergent_icl.training.build import build


def built(preset, **changes):
    config = tiny.get_config(preset).unlock()
    config.update_from_flattened_dict(changes)
    check(config)
    return build(config)


@pytest.mark.parametrize("preset", ["images", "vectors"])
def test_each_held_out_class_has_a_pair_without_a_run(preset):
    experiment = built(preset)
    found = find_lookalikes(experiment)
    (way,) = found.nearest
    assert way == {"images": "blurred pixels", "vectors": "vectors"}[preset]
    content = json.loads(json.dumps(lookalikes_report(experiment, found), allow_nan=False))
    names = experiment.bank.class_names
    split = experiment.task.space.split
    pairs = content["nearest"][way]
    assert {pair["holdout"] for pair in pairs} == {names[i] for i in split.class_ids[32:]}
    assert {pair["training"] for pair in pairs} <= {names[i] for i in split.class_ids[:32]}
    assert content["icl"] == {}
    figure = lookalikes_figure(experiment, found, "name")
    # Two rows of four pairs.
    assert sum(axes.axison for axes in figure.axes) == 16


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("symbols", {}),
        ("vectors", {"data.split.num_holdout": 0, "evaluation.modes": ("no_support_zipfian",)}),
        ("images", {"data.random_rare_images": True, "data.split.num_common": 0}),
    ],
)
def test_without_comparable_classes_the_result_is_none(preset, changes):
    assert find_lookalikes(built(preset, **changes)) is None


def test_random_images_are_not_compared():
    experiment = built("images", **{"data.random_rare_images": True})
    common = experiment.task.space.split.class_ids[28:32]
    found = find_lookalikes(experiment)
    assert set(found.nearest["blurred pixels"].training) <= set(common)
