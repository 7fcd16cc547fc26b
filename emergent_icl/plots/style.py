"""What all figures share: colors, and how they are made and saved without a display."""

import colorsys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps, rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

# Okabe and Ito's colorblind-safe palette, without its yellow, which is invisible on white.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY = "#E69F00", "#56B4E9"
GRAY, PALE, INK, SOFT = "#888888", "#DDDDDD", "#222222", "#555555"
CATEGORIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK)
# Viridis is too pale on white beyond this.
PALEST = 0.78

DPI = 120
# Maximum length in pixels: longer figures are saved at a lower resolution.
MAX_PIXELS = 20_000
POINTS_PER_INCH = 72
FORMATS = (".png", ".pdf", ".svg")
# Small print below a figure: font size (points), line height (inches), and its id for `save`.
SMALL_PRINT, LINE_HEIGHT, SIGNATURE = 6.0, 0.11, "signature"
LEGEND_SIZE = 9.0
# Mean width / font size of letters and of capital letters, rounded up.
LETTER_WIDTH, CAPITAL_WIDTH = 0.58, 0.72
# Up to this lightness (HLS), our colors have the contrast of 4.5 with white that WCAG 2 requires of
# text.
TEXT_LIGHTNESS = 0.25
DASHES = ("-", "--", "-.", ":")


# Decorator: makes figures independent of matplotlibrc and style sheets.
in_our_style = rc_context({k: v for k, v in rcParamsDefault.items() if k != "backend"})


class Look(NamedTuple):
    """Style of a line, and a measure's names: short at the end of a line, long above a panel."""

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
    """An empty figure, size in inches, that needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


class FigureError(ValueError):
    """A file name has no supported extension."""


def check_format(path: Path) -> None:
    """Raises FigureError unless the file name ends in one of FORMATS."""
    if path.suffix.lower() not in FORMATS:
        raise FigureError(f"{path}: figures are written as {', '.join(FORMATS)} files")


@in_our_style
def sign(figure: Figure, text: str) -> None:
    """Adds small print below a finished figure without changing its size or layout."""
    if figure.get_layout_engine():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for legend in figure.legends:  # They would move to the edge of the saved area.
            legend.set_bbox_to_anchor((0, 0, 1, 1), figure.transFigure)
    width, height = figure.get_size_inches()
    lines = wrap(plain(text), width, SMALL_PRINT)
    figure.text(
        1 - 0.05 / width, -0.06 / height, "\n".join(lines), ha="right", va="top",
        fontsize=SMALL_PRINT, color=GRAY, gid=SIGNATURE,
    )  # fmt: skip


@in_our_style
def save(figure: Figure, path: Path) -> None:
    """Saves a figure reproducibly as PNG, PDF, or SVG (by extension); creates the folder.

    Raises FigureError for other extensions.
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
    """Wraps text to a width (inches) at a font size (points)."""
    letters = int(width * POINTS_PER_INCH / (LETTER_WIDTH * size))
    return [
        part
        for line in text.splitlines()
        for part in textwrap.wrap(line, max(letters, 1), break_on_hyphens=False)
    ]


def tidy(axes: Axes) -> None:
    """Hides the top and right spines."""
    axes.spines[["top", "right"]].set_visible(False)


def plain(text: str) -> str:
    """Text that Matplotlib shows as it is, without formulas, also in legends."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def legend_shape(labels: Sequence[str], width: float, most: int) -> tuple[int, int]:
    """Rows and columns of a legend that fits into a width (inches)."""
    # Between two texts: a line of 2 letters, and gaps.
    longest = (max(map(len, labels), default=0) * CAPITAL_WIDTH + 5) * LEGEND_SIZE
    columns = max(min(int(width * POINTS_PER_INCH / longest), most), 1)
    num_rows = max(-(-len(labels) // columns), 1)
    return num_rows, max(-(-len(labels) // num_rows), 1)


def legend_below(figure: Figure, panels: Iterable[Axes], ncols: int) -> None:
    """Puts a legend of the panels' unique labels below the figure."""
    entries: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    if entries:
        figure.legend(
            entries.values(), entries.keys(), frameon=False, fontsize=LEGEND_SIZE,
            loc="outside lower center", ncols=ncols,
        )  # fmt: skip


def series_colors(count: int, *, ordered: bool = False) -> list[str]:
    """Colors of `count` lines: categorical if few and unordered, else viridis, dark to light."""
    if count <= len(CATEGORIES) and not ordered:
        return list(CATEGORIES[:count])
    return [to_hex(shade) for shade in colormaps["viridis"](np.linspace(0, PALEST, count))]


def readable(color: str) -> str:
    """The same hue, dark enough for text on white."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(color))
    return to_hex(colorsys.hls_to_rgb(hue, min(lightness, TEXT_LIGHTNESS), saturation))
