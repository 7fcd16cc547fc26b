"""Labels at the ends of lines, instead of a legend, pushed apart where they would overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emergent_icl.plots import style
from emergent_icl.plots.sweep_curves import readable

# Points, and how many times as high a line of letters is.
LABEL_SIZE, LABEL_HEIGHT = 8.5, 1.3
# Inches from a label to the next.
LINE_HEIGHT = LABEL_HEIGHT * LABEL_SIZE / style.POINTS_PER_INCH
LONGEST_LABEL = 26
# Where labels begin, in widths of the axes.
LABELS_AT = 1.045


class EndLabel(NamedTuple):
    """A text right of the axes, level with the end of a line.

    Attributes:
      text: short.
      colour: of the line.
      x: where the line ends, in the axes' data.
      y: likewise.
    """

    text: str
    colour: str
    x: float
    y: float


Ends = list[tuple[Axes, list[EndLabel]]]


def label_ends(figure: Figure, ends: Ends) -> None:
    """Texts right of the axes, pushed apart, each with a hair to its line."""
    # Only a figure that is laid out knows how high its axes are; what is right of them takes none
    # of it.
    figure.draw_without_rendering()
    for axes, labels in ends:
        if labels:
            _label_axes(axes, labels, axes.get_window_extent().height / figure.dpi)


def _label_axes(axes: Axes, labels: Sequence[EndLabel], height: float) -> None:
    low, high = axes.get_ylim()
    # A hair less than what there is, so that rounding cannot ask for more.
    gap = min(LINE_HEIGHT / height, 0.999 / len(labels))
    shares = [(label.y - low) / (high - low) for label in labels]
    places = spread(shares, gap, gap / 2, 1 - gap / 2)
    size = min(LABEL_SIZE, gap * height * style.POINTS_PER_INCH / LABEL_HEIGHT)
    left, right = axes.get_xlim()
    for label, share, place in zip(labels, shares, places, strict=True):
        end = (label.x - left) / (right - left)
        axes.annotate(
            "", (end, share), xytext=(LABELS_AT, place), xycoords="axes fraction",
            textcoords="axes fraction",
            arrowprops={
                "arrowstyle": "-", "color": label.colour, "linewidth": 0.6, "alpha": 0.7,
                "shrinkA": 0, "shrinkB": 1,
            },
        )  # fmt: skip
        axes.text(
            LABELS_AT + 0.01, place, short(label.text), transform=axes.transAxes, va="center",
            fontsize=size, color=readable(label.colour),
        )  # fmt: skip


def short(text: str, longest: int = LONGEST_LABEL) -> str:
    """Without its middle where it is too long: names often differ in their ends."""
    if len(text) > longest:
        half = longest // 2
        text = f"{text[: longest - half]}…{text[-half:]}"
    # A dollar would begin a formula.
    return text.replace("$", r"\$")


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places at least `gap` apart, each as near as it can be to where it is wanted.

    The sum of the squared moves is the least possible, and the order is kept (isotonic regression
    of the places less what the gaps take, by pooling neighbours that violate it).

    Args:
      wanted: places along a line, in any order.
      gap: between neighbours, in the same unit, >= 0.
      low: least place.
      high: greatest place.

    Returns:
      A place for each of `wanted`, within [low, high].

    Raises:
      ValueError: that many gaps do not fit between low and high.
    """
    room = high - low - gap * (len(wanted) - 1)
    if room < 0 and wanted:
        raise ValueError(f"{len(wanted)} labels {gap:g} apart do not fit into {high - low:g}")
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    # Blocks of labels that touch: the sum of their places less the gaps before them, their number.
    blocks: list[tuple[float, int]] = []
    for index, label in enumerate(order):
        total, count = wanted[label] - index * gap, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / count:
            before, number = blocks.pop()
            total, count = total + before, count + number
        blocks.append((total, count))
    free = [
        min(max(total / count, low), low + room) for total, count in blocks for _ in range(count)
    ]
    places = [0.0] * len(wanted)
    for index, label in enumerate(order):
        places[label] = free[index] + index * gap
    return places
