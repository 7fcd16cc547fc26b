"""What a model predicts at every example of a sequence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emergent_icl.plots import style
from emergent_icl.plots.examples import draw_example

if TYPE_CHECKING:
    # A picture needs no run, only what was traced of it.
    from emergent_icl.evaluation.trace import Trace

# Inches.
CELL, BARS, LINE, MARGIN = 0.85, 0.95, 0.17, 0.7
# Points.
TITLE = 9.0
RIGHT, WRONG = style.BLUE, style.GREY


def draw_predictions(trace: Trace, title: str, path: Path) -> None:
    """Draws the predictions on some sequences as a PNG; see `predictions_figure`."""
    style.save(predictions_figure(trace, title), path)


def predictions_figure(trace: Trace, title: str) -> Figure:
    """For each sequence its examples, and under each what the model says of its label.

    A bar is the probability of the true label, given what stands before; the text over it is
    the label that the model finds most probable. The query is the last example.

    Args:
      trace: the sequences.
      title: of the figure.
    """
    count, length = trace.batch.labels.shape
    width = MARGIN + length * CELL
    text = (
        f"{title}\nbar: probability of the true label, before it is shown; blue where it is the "
        "most probable one\nover the bar: the most probable label"
    )
    lines = style.wrap(text, width, TITLE)
    height = LINE * (len(lines) + 1) + count * (CELL + BARS + 0.35)
    figure = style.new_figure(width, height)
    figure.suptitle("\n".join(lines), fontsize=TITLE)
    for row, part in enumerate(np.atleast_1d(figure.subfigures(count, 1))):
        _draw_sequence(part, trace, row)
    return figure


def _draw_sequence(figure: Figure, trace: Trace, row: int) -> None:
    labels = trace.batch.labels[row]
    length = len(labels)
    grid = figure.add_gridspec(2, length, height_ratios=(CELL, BARS))
    for position in range(length):
        axes = figure.add_subplot(grid[0, position])
        draw_example(axes, trace.examples[row, position])
        is_query = position == length - 1
        axes.set_title(
            f"query: {labels[position]}" if is_query else str(labels[position]),
            fontsize=8,
            color=style.VERMILLION if is_query else style.INK,
            pad=3,
        )
        axes.spines[:].set_color(style.VERMILLION if is_query else style.PALE)
    _draw_bars(figure.add_subplot(grid[1, :]), trace, row)


def _draw_bars(axes: Axes, trace: Trace, row: int) -> None:
    labels, probabilities = trace.batch.labels[row], trace.probabilities[row]
    truth = labels[trace.positions]
    of_truth = probabilities[np.arange(len(truth)), truth]
    predicted = probabilities.argmax(axis=-1)
    colours = np.where(predicted == truth, RIGHT, WRONG)
    axes.bar(trace.positions, of_truth, color=colours, width=0.6)
    for position, height, label in zip(trace.positions, of_truth, predicted, strict=True):
        axes.text(position, height + 0.03, str(label), ha="center", va="bottom", fontsize=7)
    axes.set(xlim=(-0.5, len(labels) - 0.5), ylim=(0, 1.25), xticks=[], yticks=[0, 0.5, 1])
    axes.tick_params(labelsize=7)
    axes.set_ylabel("p(true label)", fontsize=7)
    style.tidy(axes)
