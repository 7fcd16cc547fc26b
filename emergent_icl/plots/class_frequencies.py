"""Class frequencies in training compared with Zipf's law."""

import itertools
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from emergent_icl.data.sequences.burstiness import BinnedFrequency, binned_frequency
from emergent_icl.data.sequences.classes import zipf_weights
from emergent_icl.data.sequences.split import ClassSplit
from emergent_icl.evaluation.metrics import Z_95
from emergent_icl.plots import style

BINS_PER_DECADE, LINEAR_BINS = 6, 24
# Inches, and points.
WIDTH, HEIGHT = 9.0, 5.6
LARGE, SMALL = 12.0, 8.5
# A ring and a point: both are visible if they coincide.
_ALL = {"label": "bin mean: all examples", "color": style.BLUE, "marker": "o",
        "markersize": 8, "fillstyle": "none"}  # fmt: skip
_QUERIES = {"label": "bin mean: queries", "color": style.VERMILLION, "marker": "D",
            "markersize": 3.5}  # fmt: skip
_UNSEEN: dict[str, Any] = {"label": "empty bin", "marker": "v"}


class ClassFrequencies(NamedTuple):
    """A sample of B sequences of S examples, query last, and the law it may follow."""

    split: ClassSplit
    exponent: float
    places: np.ndarray  # int [B, S], places of the classes in the split.
    follows_law: bool = True

    @property
    def ranks(self) -> np.ndarray:
        """Class ranks, int [B, S]; 1 is the most frequent class, which has the last place."""
        return self.split.num_train - self.places


@style.in_our_style
def class_frequencies_figure(data: ClassFrequencies, title: str, subtitle: str) -> Figure:
    """Frequency over class rank; both axes are logarithmic unless the law is uniform.

    Shows individual classes, means over bins of ranks with 95% intervals, and the law.
    """
    figure = style.new_figure(WIDTH, HEIGHT)
    axes = figure.subplots()
    is_log, num_train = data.exponent > 0, data.split.num_train
    law = zipf_weights(num_train, data.exponent)[::-1]
    counts = np.bincount(data.ranks.ravel(), minlength=num_train + 1)[1 : num_train + 1]
    single = counts / data.ranks.size
    edges = rank_edges(data.split, is_log)
    where = law_ranks(edges, data.exponent)
    bins = [binned_frequency(ranks, edges) for ranks in (data.ranks, data.ranks[:, -1:])]
    lowest = min(np.min(one.frequency, where=one.frequency > 0, initial=1.0) for one in bins)
    _set_scales(axes, data, law, single, lowest if is_log else 0.0)
    _mark_roles(axes, data.split)
    _draw_classes(axes, data, law, single)
    for binned, look in zip(bins, (_ALL, _QUERIES), strict=True):
        _draw_bins(axes, where, binned, look)
    if not is_log:  # Include the long error bars of small samples.
        axes.set_ylim(0, 1.05 * axes.dataLim.y1)
    axes.set_xlabel("class rank (1 = most frequent)")
    axes.set_ylabel("fraction of examples per class")
    style.tidy(axes)
    titles = style.wrap(title, WIDTH - 1.5, LARGE)
    figure.suptitle("\n".join(titles), x=0.01, ha="left", size=LARGE, weight="bold")
    sample = f"{len(data.places):,} sequences; error bars: 95% intervals."
    lines = style.wrap(f"{subtitle}\n{sample}", WIDTH - 1.5, SMALL)
    # Above the role names.
    axes.set_title("\n".join(lines), size=SMALL, color=style.GRAY, loc="left", pad=22)
    style.legend_below(figure, [axes], ncols=2)
    return figure


def _set_scales(
    axes: Axes, data: ClassFrequencies, law: np.ndarray, single: np.ndarray, lowest: float
) -> None:
    """Limits and scales; logarithmic if the lowest bin mean above 0 is given."""
    num_train = data.split.num_train
    top = max(law.max(), single.max(), 1 / len(data.places))
    if lowest:
        # Classes too rare to occur in the sample must not stretch the axis.
        bottom = min(max(law.min(), 1 / data.places.size) / 4, lowest / 2)
        axes.set(xscale="log", yscale="log", xlim=(0.8, num_train * 1.25), ylim=(bottom, top * 3))
    else:
        axes.set(xlim=(0, num_train + 1), ylim=(0, top * 1.15))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _mark_roles(axes: Axes, split: ClassSplit) -> None:
    """Shades the common classes and names the roles above the axes."""
    text: dict[str, Any] = {"size": 9, "transform": axes.transAxes}
    if count := split.num_common:
        left = axes.get_xlim()[0]
        axes.axvspan(left, count + 0.5, color=style.GREEN, alpha=0.12, linewidth=0)
        axes.text(0, 1.01, f"{count:,} common classes", color=style.GREEN, **text)
    if count := split.num_rare:
        axes.text(1, 1.01, f"{count:,} rare classes", color=style.GRAY, ha="right", **text)


def _draw_classes(axes: Axes, data: ClassFrequencies, law: np.ndarray, single: np.ndarray) -> None:
    """Observed and expected frequency of each class."""
    ranks, is_log = np.arange(1, len(law) + 1), data.exponent > 0
    # A logarithmic axis cannot show zeros.
    was_shown = single > 0 if is_log else np.full(len(ranks), True)
    axes.plot(
        ranks[was_shown], single[was_shown], ".", color=style.GRAY, markersize=3.5, alpha=0.5,
        markeredgewidth=0, label="single class" + " (if it occurs)" * is_log,
    )  # fmt: skip
    name = f"Zipf's law, exponent {data.exponent:g}" if is_log else "uniform"
    dashes, note = ("-", "") if data.follows_law else (":", " (not followed by these sequences)")
    axes.plot(ranks, law, dashes, color=style.INK, linewidth=1.2, label=name + note, zorder=3)


def _draw_bins(
    axes: Axes, ranks: np.ndarray, binned: BinnedFrequency, look: dict[str, Any]
) -> None:
    is_log = axes.get_yscale() == "log"
    was_shown = (binned.frequency > 0) | (not is_log)
    frequency, error = binned.frequency[was_shown], Z_95 * binned.error[was_shown]
    # On a logarithmic axis, bars down to 0 would extend beyond the figure.
    below = np.minimum(error, np.maximum(frequency - axes.get_ylim()[0], 0.0))
    axes.errorbar(
        ranks[was_shown], frequency, (below, error), **look, linestyle="", linewidth=1, zorder=4
    )
    if not was_shown.all():
        hidden = ranks[~was_shown]
        axes.plot(
            hidden, np.full(len(hidden), 0.03), **(look | _UNSEEN), linestyle="", zorder=4,
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip


def rank_edges(split: ClassSplit, is_log: bool) -> np.ndarray:
    """Edges of bins [edges[n], edges[n + 1]), int [N + 1]; no bin mixes common and rare classes."""
    borders = sorted({1, split.num_common + 1, split.num_train + 1})
    edges: set[int] = set()
    for low, high in itertools.pairwise(borders):
        decades, share = np.log10(high / low), (high - low) / split.num_train
        count = max(1, round(decades * BINS_PER_DECADE if is_log else share * LINEAR_BINS))
        between = (np.geomspace if is_log else np.linspace)(low, high, count + 1)
        edges.update(np.rint(between).astype(int).tolist())
    return np.array(sorted(edges))


def law_ranks(edges: np.ndarray, exponent: float) -> np.ndarray:
    """The rank at which the law equals its mean over each bin, float [N].

    Drawn there, a bin that follows the law lies on its line.
    """
    ranks = [np.arange(low, high) for low, high in itertools.pairwise(edges)]
    if not exponent:
        return np.array([bin_ranks.mean() for bin_ranks in ranks])
    # Relative to the first rank to avoid underflow.
    means = [np.mean((bin_ranks / bin_ranks[0]) ** -exponent) for bin_ranks in ranks]
    return edges[:-1] * np.array(means) ** (-1 / exponent)
