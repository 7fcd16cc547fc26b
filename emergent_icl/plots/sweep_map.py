"""Heat maps of sweeps over two options: final values of a measure."""

import math
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from emergent_icl.evaluation.measures import is_share
from emergent_icl.plots import style
from emergent_icl.plots import sweep_data as data
from emergent_icl.plots.sweep_data import Json

# Perceptually uniform, and readable in gray.
COLORS = colormaps["viridis"]
# Lighter shades have dark text.
LIGHT = 0.6
# Color bar ticks closer to chance than this would overlap its label.
NEAR = 0.07


def map_of(sweep: Json, measure: str) -> tuple[list[float], list[float], np.ndarray]:
    """Sorted values of both axes, and means over seeds [second axis, first axis] (NaN: no runs)."""
    conditions = sweep["conditions"].values()
    columns, rows = (sorted({one["value"][axis] for one in conditions}) for axis in (0, 1))
    means_RC = np.full((len(rows), len(columns)), math.nan)
    for one in conditions:
        if ends := data.finals(one, measure):
            column, row = one["value"]
            means_RC[rows.index(row), columns.index(column)] = np.mean(ends)
    return columns, rows, means_RC


def draw(figure: Figure, axes: Axes, sweep: Json, measure: str) -> None:
    """Draws one cell per pair of values, hatched if there is no data, and marks chance.

    The color scale of accuracies is always [0, 1].
    """
    columns, rows, means_RC = map_of(sweep, measure)
    known = means_RC[np.isfinite(means_RC)]
    is_open = known.size and not is_share(measure)
    low, high = (known.min(), known.max()) if is_open else (0.0, 1.0)
    size = len(columns), len(rows)
    axes.add_patch(Rectangle((0, 0), *size, hatch="////", facecolor="w", edgecolor=style.PALE))
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(means_RC), cmap=COLORS, vmin=low, vmax=high, edgecolor="w", linewidth=1
    )
    for (row, column), mean in np.ndenumerate(means_RC):
        is_known = math.isfinite(mean)
        shade: Any = mesh.norm(mean)
        axes.text(
            column + 0.5, row + 0.5, f"{mean:.2f}" if is_known else "none", fontsize=8,
            ha="center", va="center",
            color=style.INK if not is_known or shade > LIGHT else "w",
        )  # fmt: skip
    axes.set_xticks(np.arange(size[0]) + 0.5, [f"{value:g}" for value in columns], fontsize=8)
    axes.set_yticks(np.arange(size[1]) + 0.5, [f"{value:g}" for value in rows], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(sweep["axis"][0], fontsize=8.5)
    axes.set_ylabel(sweep["axis"][1], fontsize=8.5)
    # Attached to its axes; otherwise, it would lie right of the widest panel of the column.
    bar = figure.colorbar(mesh, cax=axes.inset_axes((1.02, 0, 0.05, 1)))
    bar.outline.set_visible(False)
    bar.set_label(data.look_of(measure).short, fontsize=8.5)
    levels = [level for *_, level in data.levels(sweep["conditions"], measure, {})]
    ticks = [one for one in bar.get_ticks() if low <= one <= high]
    ticks = [one for one in ticks if all(abs(one - level) > NEAR for level in levels)]
    names = [f"{one:.3g}" for one in ticks] + [f"chance {one:.3g}" for one in levels]
    bar.set_ticks(ticks + levels, labels=names, fontsize=8)
    for level in levels:
        bar.ax.axhline(level, color="w", linewidth=2)
