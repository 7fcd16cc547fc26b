"""What the figures share: colors, how a figure is made and written without a screen, durations."""

from __future__ import annotations

import colorsys
import textwrap
from pathlib import Path
from typing import NamedTuple

from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

# Okabe and Ito's colors: told apart by everyone.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY = "#E69F00", "#56B4E9"
GRAY, PALE, INK, SOFT = "#888888", "#DDDDDD", "#222222", "#555555"

DPI = 120
# Pixels of a figure's longer side: a very tall picture is drawn more coarsely.
MAX_PIXELS = 20_000
POINTS_PER_INCH = 72
FORMATS = (".png", ".pdf", ".svg")
# Small print below a figure: points, inches of a line, and how `save` finds it.
SMALL_PRINT, LINE_HEIGHT, SIGNATURE = 6.0, 0.11, "signature"
# Mean width of a letter over its size, rounded up.
LETTER_WIDTH = 0.58
# Our colors no lighter than this (of HLS) have a contrast of at least 4.5 with white, as WCAG 2
# asks of text.
TEXT_LIGHTNESS = 0.25
DASHES = ("-", "--", "-.", ":")


# A decorator: figures are the same with any matplotlibrc or style sheet.
in_our_style = rc_context({k: v for k, v in rcParamsDefault.items() if k != "backend"})


class Look(NamedTuple):
    """How something is drawn; color, dashes or marker alone tells it from others.

    Measures have names, too: a short one at a line's end, a long one above a panel.
    """

    color: str
    dashes: str
    marker: str
    short: str = ""
    long: str = ""


LOOKS = {
    "icl": Look(BLUE, "-", "o", "ICL", "in-context (ICL): accuracy on held-out classes"),
    "iwl": Look(VERMILLION, "--", "s", "IWL", "in-weights (IWL): accuracy without support"),
    "iwl_common": Look(ORANGE, ":", "D", "IWL, common", "in-weights (IWL) on common classes"),
    "iwl_rare": Look(PURPLE, "-.", "^", "IWL, rare", "in-weights (IWL) on rare classes"),
    "loss": Look(GREEN, ":", "v", "loss", "training loss (nats)"),
}


def new_figure(width: float, height: float, *, constrained: bool = True) -> Figure:
    """A figure of that many inches, with a canvas that needs no screen."""
    figure = Figure(figsize=(width, height), layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


class FigureError(ValueError):
    """A figure cannot be written under that name."""


def check_format(path: Path) -> None:
    """Raises FigureError unless the file name ends in one of FORMATS."""
    if path.suffix.lower() not in FORMATS:
        raise FigureError(f"{path}: figures are written as {', '.join(FORMATS)} files")


@in_our_style
def sign(figure: Figure, text: str) -> None:
    """Adds small print below a complete figure, which keeps its size and layout."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for legend in figure.legends:  # By default they move to the end of whatever is saved.
        legend.set_bbox_to_anchor((0, 0, 1, 1), figure.transFigure)
    width, height = figure.get_size_inches()
    lines = wrap(text, width, SMALL_PRINT)
    figure.text(
        1 - 0.05 / width, -0.06 / height, "\n".join(lines), ha="right", va="top",
        fontsize=SMALL_PRINT, color=GRAY, gid=SIGNATURE,
    )  # fmt: skip


@in_our_style
def save(figure: Figure, path: Path) -> None:
    """Writes a figure, as PNG, PDF or SVG by the file name, the same bytes each time.

    The folder is made. Raises FigureError for another file name.
    """
    check_format(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = figure.get_size_inches()
    signed = [text.get_text() for text in figure.texts if text.get_gid() == SIGNATURE]
    below = sum(0.1 + LINE_HEIGHT * (text.count("\n") + 1) for text in signed)
    undated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    with rc_context({"svg.hashsalt": "emergent-icl"}):
        figure.savefig(
            path, dpi=min(DPI, MAX_PIXELS / max(width, height)),
            bbox_inches=Bbox.from_bounds(0, -below, width, height + below) if signed else None,
            metadata=undated.get(path.suffix.lower()),
        )  # fmt: skip


def wrap(text: str, width: float, size: float) -> list[str]:
    """Lines of any length, broken to fit into a width (inches) with letters of a size (points)."""
    letters = int(width * POINTS_PER_INCH / (LETTER_WIDTH * size))
    return [
        part
        for line in text.splitlines()
        for part in textwrap.wrap(line, max(letters, 1), break_on_hyphens=False)
    ]


def tidy(axes: Axes) -> None:
    """No lines where nothing is measured."""
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, axes: Axes, ncols: int) -> None:
    """The legend of some axes, each label once, below the figure, where no curve can pass."""
    handles, labels = axes.get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))
    if entries:
        figure.legend(
            entries.values(), entries.keys(), frameon=False, fontsize=9,
            loc="outside lower center", ncols=ncols,
        )  # fmt: skip


def readable(color: str) -> str:
    """The same hue, as dark as text on white must be."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(color))
    return to_hex(colorsys.hls_to_rgb(hue, min(lightness, TEXT_LIGHTNESS), saturation))


def duration_text(seconds: float) -> str:
    """'40 s', '12 min', '3 h 05 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
