"""Predictions and attention of a trained model on single sequences."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from emergent_icl.evaluation.trace import Trace
from emergent_icl.plots import style
from emergent_icl.plots.sequences import draw_example

# Inches: examples, bars, a line of text, the margin.
CELL, BARS, LINE, MARGIN = 0.85, 0.95, 0.17, 0.7
# Inches: attention maps, which are larger for fewer heads and longer sequences.
ALL_HEADS, SMALLEST_SIDE, LARGEST_SIDE, PER_TOKEN = 11.0, 1.4, 2.6, 0.08
TOKEN_SPACE, BAR, PAD = 0.75, 1.0, 0.02
# Points.
TITLE = 9.0


@style.in_our_style
def predictions_figure(trace: Trace, title: str) -> Figure:
    """Examples of each sequence (query last) and, below, the probability of each true label.

    Labels that the evaluation mode accepts as the same answer are added up.
    """
    count, length = trace.batch.labels.shape
    width = MARGIN + length * CELL
    label = "true label"
    if len(np.unique(trace.answers[trace.answers >= 0])) < np.count_nonzero(trace.answers >= 0):
        label = "true answer (all labels of the class)"
    legend = f"bars: probability of the {label} before it is shown (blue: most probable label)"
    lines = style.wrap(f"{title}\n{legend}\nnumbers: most probable label", width, TITLE)
    height = LINE * (len(lines) + 1) + count * (CELL + BARS + 0.35)
    figure = style.new_figure(width, height)
    figure.suptitle("\n".join(lines), fontsize=TITLE)
    for row, part in enumerate(figure.subfigures(count, 1, squeeze=False).flat):
        grid = part.add_gridspec(2, length, height_ratios=(CELL, BARS))
        for position, label in enumerate(trace.batch.labels[row]):
            axes = part.add_subplot(grid[0, position])
            draw_example(axes, trace.examples[row, position])
            text, color, frame = f"{label}", style.INK, style.PALE
            if position == length - 1:
                text, color, frame = f"query: {label}", style.VERMILLION, style.VERMILLION
            axes.set_title(text, size=8, color=color, pad=3)
            axes.spines[:].set_color(frame)
        _draw_bars(part.add_subplot(grid[1, :]), trace, row)
    return figure


def _draw_bars(axes: Axes, trace: Trace, row: int) -> None:
    labels, probabilities = trace.batch.labels[row], trace.probabilities[row]
    truth, predicted = trace.answers[labels[trace.positions]], probabilities.argmax(axis=-1)
    of_truth = np.sum(probabilities, axis=-1, where=trace.answers == truth[:, None])
    colors = np.where(trace.answers[predicted] == truth, style.BLUE, style.GRAY)
    bars = axes.bar(trace.positions, of_truth, color=colors, width=0.6)
    axes.bar_label(bars, predicted.astype(str), padding=2, fontsize=7)
    axes.set(xlim=(-0.5, len(labels) - 0.5), ylim=(0, 1.25), xticks=[], yticks=[0, 0.5, 1])
    axes.tick_params(labelsize=7)
    axes.set_ylabel("p(true label)", fontsize=7)
    style.tidy(axes)


@style.in_our_style
def attention_figure(trace: Trace, index: int, title: str) -> Figure:
    """Attention maps of all layers and heads for one sequence; requires a model with attention.

    Tokens of the query's class are colored.
    """
    assert trace.attention is not None
    weights = trace.attention[:, index]
    layers, heads, length, _ = weights.shape
    side = max(min(LARGEST_SIDE, ALL_HEADS / heads), SMALLEST_SIDE, length * PER_TOKEN)
    width = TOKEN_SPACE + heads * side + BAR
    text = f"{title}\nrows: attending tokens; columns: attended tokens"
    lines = style.wrap(text, width, TITLE)
    height = LINE * len(lines) + layers * (side + 0.1) + 0.5
    figure = style.new_figure(width, height)
    figure.suptitle("\n".join(lines), fontsize=TITLE)
    figure.set_layout_engine("compressed", w_pad=PAD, h_pad=PAD, wspace=PAD, hspace=PAD)
    size = min(6.5, 0.8 * style.POINTS_PER_INCH * side / length)
    grid = figure.subplots(layers, heads, squeeze=False)
    for (layer, head), axes in np.ndenumerate(grid):
        axes.imshow(weights[layer, head], cmap="Blues", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        if layer == 0:
            axes.set_title(f"head {head + 1}", fontsize=7)
        if head == 0:
            axes.set_ylabel(f"layer {layer + 1}", fontsize=7)
            _name_tokens(axes.yaxis, trace, index, size)
        if layer == layers - 1:
            _name_tokens(axes.xaxis, trace, index, size, rotation=90)
    bar = figure.colorbar(grid[0, 0].images[0], ax=grid, fraction=0.03, pad=0.01)
    bar.ax.tick_params(labelsize=6)
    bar.set_label("attention weight", fontsize=7)
    return figure


def _name_tokens(axis: Axis, trace: Trace, index: int, size: float, **options: Any) -> None:
    names = list(trace.tokens[index])
    axis.set_ticks(list(range(len(names))), labels=names, fontsize=size, **options)
    axis.set_tick_params(length=0, pad=2)
    for text, is_support in zip(axis.get_ticklabels(), query_class(trace, index), strict=True):
        text.set_color(style.VERMILLION if is_support else style.INK)


def query_class(trace: Trace, index: int) -> list[bool]:
    """Which tokens belong to the query's class, including the query."""
    class_ids = trace.batch.class_ids[index]
    same = class_ids == class_ids[-1]
    # With two tokens per example, the query has no label token.
    is_single = trace.tokens.shape[1] == len(same)
    return (same if is_single else same.repeat(2)[:-1]).tolist()
