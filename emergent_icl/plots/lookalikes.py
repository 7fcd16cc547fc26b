"""Held-out classes and their nearest training classes."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from emergent_icl.config.configs import with_options
from emergent_icl.data.bank import NUM_VARIANTS
from emergent_icl.data.materialize import Materialize, make_materialize
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

# Fraction of held-out characters (nearest first) that are left out.
SHARE = 0.05
# Number of pairs shown, and pairs per row.
PAIRS, COLUMNS = 12, 4
# Inches: the figure, a row of pairs with text, and the title.
WIDTH, ROW, HEADER = 7.4, 1.3, 0.75
# Points.
TITLE, TEXT, NAME = 9.0, 7.0, 5.5
NOTE = (
    "class means; left (framed): held out, right: training; number: 1 - cosine relative to the "
    "mean of the training classes (0: identical)"
)


class Lookalikes(NamedTuple):
    """Nearest classes by representation, {'blurred pixels': ..., 'encoder': ...}.

    `icl` is the accuracy with and without sequences that show the nearest characters; empty if
    there is no trained run or ICL is not evaluated.
    """

    nearest: dict[str, Nearest]
    icl: dict[str, Without]


def find_lookalikes(
    experiment: Experiment, trained: tuple[Params, BatchStats] | None = None
) -> Lookalikes | None:
    """Compares classes by their examples and, given a trained model, by its encoder.

    None for integers, or if no held-out class or no training class is shown as stored.
    """
    data, task, bank = experiment.config.data, experiment.task, experiment.arrays()
    split, size = task.space.split, task.shape.group_size
    role = "common" if data.random_rare_images else "zipfian"
    if task.shape.kind == "integer" or not split.places(role) or not split.num_holdout:
        return None
    way, describe = by_examples(_as_stored(experiment), bank, task.shape)
    found = Lookalikes({way: find_nearest(split, size, describe, role)}, {})
    if trained is None:
        return found
    bank, evaluator = jax.device_put(bank), experiment.evaluator()
    describe = by_encoder(evaluator, *trained, bank, split, task.shape.num_exemplars)
    found.nearest["encoder"] = find_nearest(split, size, describe, role)
    mode, metric = ICL
    if mode in evaluator.modes:
        right = evaluator.per_sequence(mode, *trained, bank)[metric]
        left_out = {"all": np.zeros(0, np.int32)}
        for way, nearest in found.nearest.items():
            left_out[f"without the nearest by {way}"] = nearest.first(SHARE).holdout
        for which, ids in left_out.items():
            found.icl[which] = accuracy_without(ids, size, evaluator.modes[mode].batch, right)
    return found


def named_pairs(experiment: Experiment, nearest: Nearest) -> list[tuple[str, str, float]]:
    """(held-out class, training class, distance), by the bank's names and variants."""
    names, augment = experiment.bank.class_names, experiment.config.data.augment

    def name(class_id: int) -> str:
        number, variant = divmod(class_id, NUM_VARIANTS if augment else 1)
        return f"{names[number]}, variant {variant}" if augment else names[number]

    columns = (column.tolist() for column in nearest)
    return [(name(one), name(other), far) for one, other, far in zip(*columns, strict=True)]


def lookalikes_report(experiment: Experiment, found: Lookalikes) -> dict[str, Any]:
    """The part of inspection.json about look-alikes: all held-out characters, nearest first."""
    mode, metric = ICL
    keys = ("holdout", "training", "distance")
    nearest = {
        way: [dict(zip(keys, pair, strict=True)) for pair in named_pairs(experiment, one)]
        for way, one in found.nearest.items()
    }
    icl = {
        which: one._asdict() | {"accuracy": one.accuracy and one.accuracy._asdict()}
        for which, one in found.icl.items()
    }
    return {"mode": mode, "metric": metric, "share": SHARE, "nearest": nearest, "icl": icl}


@style.in_our_style
def lookalikes_figure(experiment: Experiment, found: Lookalikes, who: str) -> Figure:
    """Class means of the nearest pairs by each representation, held-out classes on the left."""
    rows = [math.ceil(min(len(one.holdout), PAIRS) / COLUMNS) for one in found.nearest.values()]
    figure = style.new_figure(WIDTH, HEADER + sum(rows) * ROW)
    title = f"{who}: held-out classes and nearest training classes"
    figure.suptitle("\n".join(style.wrap(f"{title}\n{NOTE}", WIDTH, TITLE)), size=TITLE)
    parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=rows).flat
    for part, (way, nearest), count in zip(parts, found.nearest.items(), rows, strict=True):
        part.suptitle(f"compared by {way}", size=TITLE, weight="bold")
        # A pair, then space.
        widths = [1, 1, 0.4] * COLUMNS
        _draw_pairs(part.subplots(count, len(widths), width_ratios=widths), experiment, nearest)
    return figure


def _draw_pairs(grid: np.ndarray, experiment: Experiment, nearest: Nearest) -> None:
    """Fills axes [rows, 3 * COLUMNS]."""
    for axes in grid.flat:
        axes.set_axis_off()
    class_ids = np.stack(nearest[:2], axis=1)[:PAIRS]
    examples, is_image = _means(experiment, class_ids), experiment.task.shape.kind == "image"
    shown = zip(grid.reshape(-1, 3), examples, named_pairs(experiment, nearest), strict=False)
    for place, means, (*names, distance) in shown:
        scale = (float(means.min()), float(means.max())) if is_image else value_range(means[None])
        for axes, mean, name in zip(place, means, names, strict=False):
            axes.set_axis_on()
            draw_example(axes, mean, scale)
            axes.spines[:].set(color=style.PALE, linewidth=1.6)
            lines = style.wrap(name.replace("_", " "), WIDTH / (2.4 * COLUMNS), NAME)
            axes.set_xlabel("\n".join(lines), size=NAME, color=style.SOFT)
        place[0].spines[:].set(color=style.VERMILLION)
        place[0].set_title(f"{distance:.3f}", size=TEXT, loc="left")


def _means(experiment: Experiment, class_ids: np.ndarray) -> np.ndarray:
    """Class means as the encoder would see them, [N, 2, ...]."""
    bank = jax.device_put(mean_examples(experiment.arrays()))
    first, no_keys = np.zeros_like(class_ids), np.zeros((len(class_ids), 2), np.uint32)
    return np.asarray(_as_stored(experiment)(bank, class_ids, first, no_keys, np.float32(0)))


def _as_stored(experiment: Experiment) -> Materialize:
    """Materializes examples without noise, which would take seconds to compile."""
    plain = {"data.noise_scale": 0.0, "data.random_rare_images": False}
    return make_materialize(with_options(experiment.config, plain).data, experiment.task.shape)
