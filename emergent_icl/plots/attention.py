"""Attention maps of one sequence: a row of maps a layer, a column a head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from emergent_icl.plots import style

# Inches; few heads have larger maps, and so have long sequences, whose tokens' names would
# run into one another.
ALL_HEADS, SMALLEST_SIDE, LARGEST_SIDE, A_TOKEN = 11.0, 1.4, 2.6, 0.08
TOKEN_SPACE, BAR, LINE, PAD = 0.75, 1.0, 0.17, 0.02
# Points.
TITLE = 8.5


def draw_attention(
    weights: np.ndarray, tokens: np.ndarray, supports: np.ndarray, title: str, path: Path
) -> None:
    """Draws the attention of one sequence as a PNG; see `attention_figure`."""
    style.save(attention_figure(weights, tokens, supports, title), path)


def attention_figure(
    weights: np.ndarray, tokens: np.ndarray, supports: np.ndarray, title: str
) -> Figure:
    """A map for each head of each layer: row t shows where token t looks.

    Args:
      weights: float [layers, heads, T, T], rows sum to 1.
      tokens: str [T], names of tokens.
      supports: bool [T], tokens of the query's class, whose names are coloured.
      title: of the figure.
    """
    layers, heads, length, _ = weights.shape
    side = max(min(LARGEST_SIDE, ALL_HEADS / heads), SMALLEST_SIDE, length * A_TOKEN)
    width = TOKEN_SPACE + heads * side + BAR
    text = f"{title}\nrow: the token that looks; column: what it looks at"
    lines = style.wrap(text, width, TITLE)
    height = LINE * len(lines) + layers * (side + 0.1) + TOKEN_SPACE
    figure = style.new_figure(width, height)
    figure.suptitle("\n".join(lines), fontsize=TITLE)
    figure.get_layout_engine().set(w_pad=PAD, h_pad=PAD, wspace=PAD, hspace=PAD)
    tick_size = min(6.5, 0.8 * style.POINTS_PER_INCH * side / length)
    grid = figure.subplots(layers, heads, squeeze=False)
    for layer in range(layers):
        for head in range(heads):
            axes = grid[layer, head]
            image = axes.imshow(weights[layer, head], cmap="Blues", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            if layer == 0:
                axes.set_title(f"head {head + 1}", fontsize=7)
            if head == 0:
                axes.set_ylabel(f"layer {layer + 1}", fontsize=7)
                _name_tokens(axes.yaxis, tokens, supports, tick_size)
            if layer == layers - 1:
                _name_tokens(axes.xaxis, tokens, supports, tick_size, rotation=90)
    bar = figure.colorbar(image, ax=grid, fraction=0.03, pad=0.01)
    bar.ax.tick_params(labelsize=6)
    bar.set_label("attention", fontsize=7)
    return figure


def _name_tokens(
    axis: Axis, tokens: np.ndarray, supports: np.ndarray, size: float, **options: float
) -> None:
    axis.set_ticks(list(range(len(tokens))), labels=list(tokens), fontsize=size, **options)
    axis.set_tick_params(length=0, pad=1)
    for text, is_support in zip(axis.get_ticklabels(), supports, strict=True):
        text.set_color(style.VERMILLION if is_support else style.INK)
