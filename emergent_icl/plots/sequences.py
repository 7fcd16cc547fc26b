"""Sequences as the model sees them: examples, labels, and the query."""

import math
from collections import Counter
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from emergent_icl.plots import style

QUERY_COLOR = style.VERMILLION
# Of the three most frequent other classes that repeat.
REPEAT_COLORS = (style.BLUE, style.GREEN, style.PURPLE)
THICK, THIN, HAIR = 3.0, 1.6, 0.6
COLOR_MAPS = ("RdBu_r", "gray")  # Of vectors and of images.

# Longer sequences are wrapped.
MAX_COLUMNS = 17
# Inches: an example, the space beside and below it, and the margins.
CELL, BESIDE, BELOW, LEFT, RIGHT, MIN_WIDTH = 0.7, 0.15, 0.5, 0.45, 0.15, 7.4
TITLE_LINE, TEXT_LINE, LEGEND, FOOTER = 0.225, 0.175, 0.45, 0.35
# Points.
TITLE, TEXT, LABEL, NOTE = 11.0, 8.0, 8.5, 5.5


class Shown(NamedTuple):
    """B sequences of S examples, query last."""

    kind: Literal["image", "vector", "integer"]
    # The encoder's input: float32 [B, S, H, W, 1] (about 0 to 1), float32 [B, S, D], int32 [B, S].
    examples: np.ndarray
    class_ids: np.ndarray  # int [B, S]
    labels: np.ndarray  # int [B, S]
    notes: np.ndarray  # str [B, S], one or two lines of small print.


@style.in_our_style
def sequences_figure(shown: Shown, title: str, subtitle: str, note: str) -> Figure:
    """Draws one sequence per row; long ones are wrapped.

    The query has a thick frame. Thin frames mark context examples of its class and, in other
    colors, other classes that repeat. The note explains the small print.
    """
    count, length = shown.labels.shape
    lines = math.ceil(length / MAX_COLUMNS)
    columns = math.ceil(length / lines)
    width = max(LEFT + columns * (CELL + BESIDE), MIN_WIDTH)
    titles = style.wrap(title, width - 2 * RIGHT, TITLE)
    subtitles, notes = (style.wrap(text, width - 2 * RIGHT, TEXT) for text in (subtitle, note))
    header = RIGHT + TITLE_LINE * len(titles) + TEXT_LINE * len(subtitles) + LEGEND
    footer = FOOTER + TEXT_LINE * len(notes)
    rows = count * lines
    height = header + rows * (CELL + BELOW) + footer
    figure = style.new_figure(width, height, constrained=False)
    _draw_header(figure, titles, subtitles)
    grid = figure.add_gridspec(
        rows, columns, left=LEFT / width, right=(LEFT + columns * (CELL + BESIDE) - BESIDE) / width,
        top=1 - header / height, bottom=(footer + BELOW) / height, wspace=BESIDE / CELL,
        hspace=BELOW / CELL,
    )  # fmt: skip
    scale = value_range(shown.examples)
    for row in range(count):
        colors = class_colors(shown.class_ids[row])
        for position in range(length):
            line, column = divmod(position, columns)
            axes = figure.add_subplot(grid[row * lines + line, column])
            draw_example(axes, shown.examples[row, position], scale)
            _name_example(axes, shown, row, position, colors)
            if position == 0:
                axes.set_ylabel(f"{row + 1}", size=TEXT, color=style.GRAY, rotation=0, va="center",
                                labelpad=9)  # fmt: skip
    _draw_footer(figure, shown.kind, notes, scale)
    return figure


def _draw_header(figure: Figure, titles: list[str], subtitles: list[str]) -> None:
    width, height = figure.get_size_inches()
    left, top, below = RIGHT / width, 1 - RIGHT / height, TITLE_LINE * len(titles) / height
    title = {"size": TITLE, "weight": "bold", "color": style.INK}
    figure.text(left, top, "\n".join(titles), va="top", **title)
    figure.text(left, top - below, "\n".join(subtitles), va="top", size=TEXT, color=style.GRAY,
                linespacing=1.5)  # fmt: skip
    top -= below + TEXT_LINE * len(subtitles) / height
    frames = (
        (QUERY_COLOR, THICK, "query  "),
        (QUERY_COLOR, THIN, "query's class in the context (support)  "),
        *((color, THIN, "") for color in REPEAT_COLORS[:-1]),
        (REPEAT_COLORS[-1], THIN, "other repeated classes (3 most frequent)"),
    )
    figure.legend(
        [Patch(fill=False, edgecolor=color, linewidth=thick) for color, thick, _ in frames],
        [text for *_, text in frames], loc="upper left", bbox_to_anchor=(left, top),
        ncols=len(frames), frameon=False, fontsize=TEXT, handlelength=1.2, handleheight=1.2,
        borderaxespad=0, borderpad=0.5, columnspacing=0.5, handletextpad=0.5,
    )  # fmt: skip


def _draw_footer(
    figure: Figure, kind: str, notes: list[str], scale: tuple[float, float] | None
) -> None:
    """The color scale and the note."""
    width, height = figure.get_size_inches()
    left, bottom = RIGHT / width, RIGHT / height
    figure.text(left, bottom, "\n".join(notes), size=TEXT, color=style.GRAY, va="bottom")
    if scale is None:
        return
    middle = bottom + (TEXT_LINE * len(notes) + 0.15) / height
    bar = figure.add_axes((left + 0.4 / width, middle - 0.06 / height, 1 / width, 0.12 / height))
    is_image = kind == "image"
    bar.imshow(np.linspace(0, 1, 256)[None], COLOR_MAPS[is_image], aspect="auto")
    bar.set_axis_off()
    what = "pixel intensity" if is_image else "vector component, row by row"
    texts = ((0, f"{scale[0]:.2g}", "k"), (1.48, f"{scale[1]:.2g}", "k"), (1.95, what, style.GRAY))
    for x, text, color in texts:
        figure.text(left + x / width, middle, text, color=color, size=TEXT, va="center")


def _name_example(
    axes: Axes, shown: Shown, row: int, position: int, colors: dict[int, str]
) -> None:
    """Frame, label, and small print of an example."""
    is_query = position == shown.labels.shape[1] - 1
    color = colors.get(int(shown.class_ids[row, position]))
    axes.spines[:].set(
        color=color or style.PALE, linewidth=THICK if is_query else THIN if color else HAIR
    )
    label = f"{shown.labels[row, position]}"
    axes.set_xlabel(
        f"? \N{RIGHTWARDS ARROW} {label}" if is_query else label, size=LABEL, labelpad=3,
        color=color or style.INK, weight="bold" if is_query else "normal",
    )  # fmt: skip
    axes.annotate(
        shown.notes[row, position], (0.5, 0), (0, -14), xycoords="axes fraction",
        textcoords="offset points", size=NOTE, color=style.GRAY, ha="center", va="top",
    )  # fmt: skip


def draw_example(axes: Axes, example: np.ndarray, scale: tuple[float, float] | None = None) -> None:
    """Draws an image [H, W, 1], a vector [D], or an integer [].

    The scale is the range of the color map; by default, that of the example (`value_range`).
    """
    axes.set(xticks=[], yticks=[])
    if example.ndim == 0:
        text = f"{example}"
        # As large as fits; short numbers have the same size.
        fitting = 0.85 * CELL * style.POINTS_PER_INCH / (0.66 * len(text))
        axes.text(0.5, 0.5, text, size=min(16.0, fitting), color=style.INK, ha="center",
                  va="center", transform=axes.transAxes)  # fmt: skip
        axes.set_box_aspect(1)
        return
    limits = scale or value_range(example[None, None])
    assert limits is not None  # Integers were drawn above.
    low, high = limits
    is_image = example.ndim == 3
    picture = example[..., 0] if is_image else vector_square(example)
    # Smoothing would hide noise.
    smoothing = "nearest" if 3 * len(picture) <= CELL * style.DPI else "auto"
    axes.imshow(picture, COLOR_MAPS[is_image], vmin=low, vmax=high, interpolation=smoothing)


def class_colors(class_ids_S: np.ndarray) -> dict[int, str]:
    """Colors of the query's class and of the most frequent others that repeat in the context."""
    *context, query = class_ids_S.tolist()
    others = Counter(name for name in context if name != query)
    repeated = [name for name, count in others.most_common(len(REPEAT_COLORS)) if count > 1]
    return {query: QUERY_COLOR, **dict(zip(repeated, REPEAT_COLORS, strict=False))}


def vector_square(vector_D: np.ndarray) -> np.ndarray:
    """A vector in the smallest square, row by row, padded with NaN."""
    side = math.ceil(math.sqrt(len(vector_D)))
    padding = (0, side * side - len(vector_D))
    numbers_D = vector_D.astype(np.float32)
    return np.pad(numbers_D, padding, constant_values=np.nan).reshape(side, side)


def value_range(examples: np.ndarray) -> tuple[float, float] | None:
    """Range of the color map without clipping: at least [0, 1] for images, symmetric for vectors.

    None for integers [B, S].
    """
    if examples.ndim == 2:
        return None
    if examples.ndim == 5:
        return min(0.0, float(examples.min())), max(1.0, float(examples.max()))
    largest = max(float(np.abs(examples).max()), 1e-6)
    return -largest, largest
