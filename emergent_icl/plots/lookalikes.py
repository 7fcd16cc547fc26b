"""Held-out classes beside the classes trained on that they resemble most."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure, SubFigure

from emergent_icl.data.bank import NUM_VARIANTS
from emergent_icl.evaluation.lookalikes import (
    Nearest,
    Without,
    accuracy_without,
    by_encoder,
    by_examples,
    find_nearest,
    mean_examples,
)
from emergent_icl.evaluation.metrics import ICL
from emergent_icl.models.network import BatchStats, Params
from emergent_icl.plots import style
from emergent_icl.plots.sequences import draw_example, value_range
from emergent_icl.training.build import Experiment

# Of held-out characters: the nearest are left out.
SHARE = 0.05
PAIRS, COLUMNS = 12, 4
# Inches: a cell, what lies beside a pair and under it, and what surrounds all of them.
CELL, BESIDE, BELOW, TITLE_LINE, MARGIN = 0.72, 0.36, 0.62, 0.17, 0.15
NOTE = (
    "means of a class's examples; left, framed: held out; right: trained on; number: 1 - cosine, "
    "seen from the mean of the training classes (0: the same)"
)
# Points.
TITLE, TEXT, NAME = 10.0, 8.0, 5.5


class Lookalikes(NamedTuple):
    """The nearest classes by each way to compare them, {'blurred pixels': ..., 'encoder': ...}.

    `icl` is empty without a trained run; else the accuracy on all sequences, under '', and without
    those that show the nearest characters by each way.
    """

    nearest: dict[str, Nearest]
    icl: dict[str, Without]


def find_lookalikes(
    experiment: Experiment, trained: tuple[Params, BatchStats] | None = None
) -> Lookalikes | None:
    """Compares by examples and, given a trained model, by its encoder.

    None where there is nothing to compare: without held-out classes, without classes trained on as
    the bank shows them, and of integers, which look like nothing.
    """
    data, task, bank = experiment.config.data, experiment.task, experiment.arrays()
    split, size = task.space.split, task.shape.group_size
    role = "common" if data.random_rare_images else "zipfian"
    if task.shape.kind == "integer" or not split.places(role) or not split.num_holdout:
        return None
    way, describe = by_examples(experiment.materialize, bank, task.shape)
    nearest = {way: find_nearest(split, size, describe, role)}
    if trained is None:
        return Lookalikes(nearest, {})
    bank, evaluator = jax.device_put(bank), experiment.evaluator()
    describe = by_encoder(evaluator, *trained, bank, split, task.shape.num_exemplars)
    nearest["encoder"] = find_nearest(split, size, describe, role)
    mode, metric = ICL
    if mode not in evaluator.modes:
        return Lookalikes(nearest, {})
    right = evaluator.per_sequence(mode, *trained, bank)[metric]
    batch = evaluator.modes[mode].batch
    left_out = {"": np.zeros(0, np.int32)}
    left_out |= {way: one.first(SHARE) for way, one in nearest.items()}
    icl = {way: accuracy_without(ids, size, batch, right) for way, ids in left_out.items()}
    return Lookalikes(nearest, icl)


def class_name(experiment: Experiment, class_id: int) -> str:
    """The bank's name of a class, with its variant if there are any."""
    if not experiment.config.data.augment:
        return experiment.bank.class_names[class_id]
    number, variant = divmod(int(class_id), NUM_VARIANTS)
    return f"{experiment.bank.class_names[number]}, variant {variant}"


def lookalikes_report(experiment: Experiment, found: Lookalikes) -> dict[str, Any]:
    """What inspection.json says of them; every held-out character, the nearest first."""

    def pairs(nearest: Nearest) -> list[dict[str, Any]]:
        return [
            {
                "holdout": class_name(experiment, holdout),
                "training": class_name(experiment, training),
                "distance": float(distance),
            }
            for holdout, training, distance in zip(*nearest, strict=True)
        ]

    icl = {
        f"without the nearest by {way}" if way else "all": {
            **one._asdict(),
            "accuracy": one.accuracy and one.accuracy._asdict(),
        }
        for way, one in found.icl.items()
    }
    nearest = {way: pairs(one) for way, one in found.nearest.items()}
    mode, metric = ICL
    return {"share": SHARE, "mode": mode, "metric": metric, "nearest": nearest, "icl": icl}


def lookalikes_figure(experiment: Experiment, found: Lookalikes) -> Figure:
    """The nearest pairs by each way: the mean of each class's examples, held out on the left."""
    rows = [math.ceil(min(len(one.holdout), PAIRS) / COLUMNS) for one in found.nearest.values()]
    width = COLUMNS * (2 * CELL + BESIDE) + 2 * MARGIN
    title = f"{experiment.config.name}: held-out classes and the training classes nearest to them"
    titles, notes = style.wrap(title, width, TITLE), style.wrap(NOTE, width, TEXT)
    below = MARGIN + 1.2 * TITLE_LINE * len(titles)
    header = below + TITLE_LINE * len(notes)
    heights = [2 * TITLE_LINE + count * (CELL + BELOW) for count in rows]
    height = header + sum(heights)
    figure = style.new_figure(width, height, constrained=False)
    place = {"x": MARGIN / width, "va": "top"}
    figure.text(
        y=1 - MARGIN / height, s="\n".join(titles), size=TITLE, weight="bold", color=style.INK,
        **place,
    )  # fmt: skip
    figure.text(y=1 - below / height, s="\n".join(notes), size=TEXT, color=style.GRAY, **place)
    _, *parts = figure.subfigures(len(rows) + 1, 1, height_ratios=[header, *heights])
    for part, (way, nearest), count in zip(parts, found.nearest.items(), rows, strict=True):
        _draw_pairs(part, experiment, way, nearest, count)
    return figure


def _draw_pairs(
    part: SubFigure, experiment: Experiment, way: str, nearest: Nearest, rows: int
) -> None:
    height, width = 2 * TITLE_LINE + rows * (CELL + BELOW), COLUMNS * (2 * CELL + BESIDE)
    part.text(MARGIN / (width + 2 * MARGIN), 1, f"by {way}", va="top", size=TEXT, weight="bold")
    # Columns of a pair, then space.
    grid = part.add_gridspec(
        rows, 3 * COLUMNS, width_ratios=[CELL, CELL, BESIDE] * COLUMNS, wspace=0.06,
        hspace=BELOW / CELL, left=MARGIN / (width + 2 * MARGIN), right=1 - MARGIN / width,
        top=1 - 2 * TITLE_LINE / height, bottom=BELOW / height,
    )  # fmt: skip
    pairs = np.stack([nearest.holdout, nearest.training], axis=1)[:PAIRS]
    examples, is_image = _means(experiment, pairs), experiment.task.shape.kind == "image"
    for index, (pair, shown) in enumerate(zip(pairs, examples, strict=True)):
        row, column = divmod(index, COLUMNS)
        scale = (float(shown.min()), float(shown.max())) if is_image else value_range(shown[None])
        for side, color in enumerate((style.VERMILLION, style.PALE)):
            axes = part.add_subplot(grid[row, 3 * column + side])
            draw_example(axes, shown[side], scale)
            axes.spines[:].set(color=color, linewidth=1.6)
            name = class_name(experiment, pair[side]).replace("_", " ")
            lines = style.wrap(name, CELL, NAME)
            axes.set_xlabel("\n".join(lines), size=NAME, color=style.SOFT, labelpad=2)
        # Over the border between the two.
        axes.annotate(
            f"{nearest.distances[index]:.3f}", (0, 1), (0, 2), xycoords="axes fraction",
            textcoords="offset points", size=7, color=style.INK, ha="center",
        )  # fmt: skip


def _means(experiment: Experiment, class_ids: np.ndarray) -> np.ndarray:
    """The mean of each class's examples as the encoder would see it, [N, 2, ...]."""
    bank = jax.device_put(mean_examples(experiment.arrays()))
    first, no_keys = np.zeros_like(class_ids), np.zeros((len(class_ids), 2), np.uint32)
    return np.asarray(experiment.materialize(bank, class_ids, first, no_keys, np.float32(0)))
