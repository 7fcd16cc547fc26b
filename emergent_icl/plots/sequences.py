"""Sequences as a model sees them: examples in their order, labels under them, the query marked."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from emergent_icl.plots import style

QUERY_COLOUR = style.VERMILLION
# Of other classes that repeat: the commonest three.
REPEAT_COLOURS = (style.BLUE, style.GREEN, style.PURPLE)
THICK, THIN, HAIR = 3.0, 1.6, 0.6

# Longer sequences continue on the next line.
MAX_COLUMNS = 17
# Inches, and whole pixels at style.DPI: the pixels of an image are all drawn alike.
MARGIN, NUMBER, CELL, GAP, BELOW, BETWEEN = 0.15, 0.3, 0.7, 0.15, 0.45, 0.1
TITLE_LINE, TEXT_LINE, LEGEND, FOOTER = 0.225, 0.175, 0.4, 0.625
MIN_WIDTH = 7.2
# Points.
TITLE, TEXT, LABEL, NOTE = 11.0, 8.0, 8.5, 5.5


class Shown(NamedTuple):
    """B sequences of S examples, the last of which is the query.

    Attributes:
      kind: 'image', 'vector' or 'integer'.
      examples: what the encoder sees: float32 [B, S, H, W, 1] (images, about 0 to 1),
        float32 [B, S, D] (vectors) or int32 [B, S] (integers).
      class_ids: int [B, S].
      labels: int [B, S].
      notes: str [B, S], small print under the labels, of one or two lines.
    """

    kind: Literal["image", "vector", "integer"]
    examples: np.ndarray
    class_ids: np.ndarray
    labels: np.ndarray
    notes: np.ndarray


def draw_sequences(shown: Shown, title: str, subtitle: str, note: str, path: Path) -> None:
    """Draws sequences as a PNG; see `sequences_figure`.

    Args:
      shown: the sequences.
      title: what they are.
      subtitle: the options that matter.
      note: what the small print means.
      path: of the PNG; its folder is made.
    """
    style.save(sequences_figure(shown, title, subtitle, note), path)


def sequences_figure(shown: Shown, title: str, subtitle: str, note: str) -> Figure:
    """A figure with a row for each sequence, of several lines where it is long.

    The query is framed thickly, with its label as the answer to be found; context examples
    of its class have thin frames of the same colour, and other classes that repeat have
    thin frames of their own colours.
    """
    layout = _Layout(*shown.labels.shape, _lines_above(shown, title, subtitle))
    figure = style.new_figure(layout.width, layout.height, constrained=False)
    # Data coordinates are inches from the top left: texts and cells are laid out alike.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, layout.width), ylim=(layout.height, 0), autoscale_on=False)
    axes.axis("off")
    _draw_header(axes, layout, title, subtitle)
    scale = value_range(shown)
    for row in range(len(shown.labels)):
        top = layout.cell(row, 0)[1]
        number = f"{row + 1}"
        axes.text(MARGIN, top + CELL / 2, number, size=TEXT, color=style.GREY, va="center")
        colours = class_colours(shown.class_ids[row])
        for column in range(shown.labels.shape[1]):
            _draw_example(axes, shown, (row, column), layout.cell(row, column), colours, scale)
    _draw_footer(axes, layout, shown.kind, note, scale)
    return figure


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where everything stands, in inches from the top left."""

    num_sequences: int
    seq_len: int
    header: float

    @property
    def lines(self) -> int:
        return math.ceil(self.seq_len / MAX_COLUMNS)

    @property
    def columns(self) -> int:
        return math.ceil(self.seq_len / self.lines)

    @property
    def row_height(self) -> float:
        return self.lines * (CELL + BELOW) + BETWEEN

    @property
    def footer_top(self) -> float:
        return self.header + self.num_sequences * self.row_height

    @property
    def width(self) -> float:
        return _width(self.seq_len)

    @property
    def height(self) -> float:
        return self.footer_top + FOOTER

    def cell(self, row: int, column: int) -> tuple[float, float]:
        """Top left corner of an example."""
        line, place = divmod(column, self.columns)
        left = MARGIN + NUMBER + place * (CELL + GAP)
        return left, self.header + row * self.row_height + line * (CELL + BELOW)


def _width(seq_len: int) -> float:
    columns = math.ceil(seq_len / math.ceil(seq_len / MAX_COLUMNS))
    return max(MARGIN + NUMBER + columns * (CELL + GAP), MIN_WIDTH)


def _lines_above(shown: Shown, title: str, subtitle: str) -> float:
    """Height of the header."""
    width = _width(shown.labels.shape[1]) - 2 * MARGIN
    titles, subtitles = style.wrap(title, width, TITLE), style.wrap(subtitle, width, TEXT)
    return MARGIN + TITLE_LINE * len(titles) + TEXT_LINE * len(subtitles) + LEGEND


def _draw_header(axes: Axes, layout: _Layout, title: str, subtitle: str) -> None:
    top, width = MARGIN, layout.width - 2 * MARGIN
    for line in style.wrap(title, width, TITLE):
        axes.text(MARGIN, top, line, size=TITLE, weight="bold", color=style.INK, va="top")
        top += TITLE_LINE
    for line in style.wrap(subtitle, width, TEXT):
        axes.text(MARGIN, top, line, size=TEXT, color=style.GREY, va="top")
        top += TEXT_LINE
    left, middle = MARGIN + 0.03, top + 0.13
    for colours, thickness, text in (
        ((QUERY_COLOUR,), THICK, "the query: which label?"),
        ((QUERY_COLOUR,), THIN, "its class in the context"),
        (REPEAT_COLOURS, THIN, "other classes that repeat (the 3 commonest)"),
    ):
        for colour in colours:
            _frame(axes, left, middle - 0.06, 0.12, colour, thickness)
            left += 0.2
        axes.text(left, middle, text, size=TEXT, color=style.INK, va="center")
        left += len(text) * TEXT * style.LETTER_WIDTH / style.POINTS_PER_INCH + 0.15


def _draw_footer(
    axes: Axes, layout: _Layout, kind: str, note: str, scale: tuple[float, float]
) -> None:
    """What colours and small print mean."""
    left, top = MARGIN, layout.footer_top + 0.08
    if kind != "integer":
        low, high = (
            axes.text(0, top + 0.06, f"{end:.2g}", size=TEXT, va="center") for end in scale
        )
        low.set_x(left)
        ramp = np.linspace(*scale, 64)[None]
        _show(axes, ramp, (left + 0.4, top), (1.0, 0.12), _colour_map(kind), scale)
        high.set_x(left + 1.48)
        what = "grey of a pixel" if kind == "image" else "a number of the vector, row by row"
        axes.text(left + 1.95, top + 0.06, what, size=TEXT, color=style.GREY, va="center")
        top += 0.2
    for line in style.wrap(note, layout.width - 2 * MARGIN, TEXT):
        axes.text(left, top, line, size=TEXT, color=style.GREY, va="top")
        top += TEXT_LINE


def _draw_example(
    axes: Axes,
    shown: Shown,
    where: tuple[int, int],
    corner: tuple[float, float],
    colours: dict[int, str],
    scale: tuple[float, float],
) -> None:
    """One example with its frame, label and small print; `corner` is its top left."""
    left, top = corner
    is_query = where[1] == shown.labels.shape[1] - 1
    colour = colours.get(int(shown.class_ids[where]))
    example = shown.examples[where]
    if shown.kind == "integer":
        _draw_integer(axes, int(example), corner)
    else:
        picture = example[..., 0] if shown.kind == "image" else vector_square(example)
        _show(axes, picture, corner, (CELL, CELL), _colour_map(shown.kind), scale)
    thickness = THICK if is_query else THIN if colour else HAIR
    _frame(axes, left, top, CELL, colour or style.PALE, thickness)
    label = f"? \N{RIGHTWARDS ARROW} {shown.labels[where]}" if is_query else shown.labels[where]
    middle, weight = left + CELL / 2, "bold" if is_query else "normal"
    axes.text(
        middle, top + CELL + 0.06, f"{label}", size=LABEL, weight=weight,
        color=colour or style.INK, ha="center", va="top",
    )  # fmt: skip
    axes.text(
        middle, top + CELL + 0.21, shown.notes[where], size=NOTE, color=style.GREY, ha="center",
        va="top",
    )  # fmt: skip


def _draw_integer(axes: Axes, value: int, corner: tuple[float, float]) -> None:
    text = f"{value}"
    # As large as fits, up to a size that leaves short numbers alike.
    fitting = 0.85 * CELL * style.POINTS_PER_INCH / (0.66 * len(text))
    axes.text(
        corner[0] + CELL / 2, corner[1] + CELL / 2, text, size=min(16.0, fitting),
        color=style.INK, ha="center", va="center",
    )  # fmt: skip


def _show(
    axes: Axes,
    picture: np.ndarray,
    corner: tuple[float, float],
    size: tuple[float, float],
    colour_map: str | Colormap,
    scale: tuple[float, float],
) -> None:
    extent = (corner[0], corner[0] + size[0], corner[1] + size[1], corner[1])
    # Small pictures pixel by pixel: smoothing would take noise away, in some cells only.
    is_small = 3 * len(picture) <= size[1] * style.DPI
    axes.imshow(
        picture, cmap=colour_map, vmin=scale[0], vmax=scale[1], extent=extent, aspect="auto",
        interpolation="nearest" if is_small else "auto",
    )  # fmt: skip


def _colour_map(kind: str) -> str:
    # Vectors have a sign: white is 0.
    return "gray" if kind == "image" else "RdBu_r"


def _frame(axes: Axes, left: float, top: float, size: float, colour: str, thickness: float) -> None:
    """A frame around a square."""
    # Half a pixel lies on the square: no gap where both are rounded to pixels.
    out = thickness / 2 / style.POINTS_PER_INCH - 0.5 / style.DPI
    frame = Rectangle((left - out, top - out), size + 2 * out, size + 2 * out, fill=False)
    frame.set(edgecolor=colour, linewidth=thickness, joinstyle="miter")
    axes.add_patch(frame)


def class_colours(class_ids_S: np.ndarray) -> dict[int, str]:
    """Colours of the query's class, and of the commonest others that repeat in the context."""
    *context, query = class_ids_S.tolist()
    others = Counter(name for name in context if name != query)
    repeated = [name for name, count in others.most_common(len(REPEAT_COLOURS)) if count > 1]
    return {query: QUERY_COLOUR, **dict(zip(repeated, REPEAT_COLOURS, strict=False))}


def vector_square(vector_D: np.ndarray) -> np.ndarray:
    """The numbers of a vector, row by row, in the smallest square; NaN where none are left."""
    side = math.ceil(math.sqrt(len(vector_D)))
    square = np.full(side * side, np.nan, np.float32)
    square[: len(vector_D)] = vector_D
    return square.reshape(side, side)


def value_range(shown: Shown) -> tuple[float, float]:
    """What black and white (images) or blue and red (vectors) stand for; nothing is clipped."""
    if shown.kind == "image":
        return min(0.0, float(shown.examples.min())), max(1.0, float(shown.examples.max()))
    largest = float(np.abs(shown.examples).max())
    return -largest, largest
