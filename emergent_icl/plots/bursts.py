"""Burstiness: how often the query's class occurs in the context, by sequence type."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from emergent_icl.data.sequences.burstiness import SequenceStatistics
from emergent_icl.plots import style

# Fewer bars are labeled with percentages.
FEW_BARS = 20


@style.in_our_style
def bursts_figure(statistics: Mapping[str, SequenceStatistics], title: str) -> Figure:
    """Fraction of sequences by the number of context examples of the query's class.

    One panel per sequence type, the training type first.
    """
    figure = style.new_figure(7, 1.1 + 1.25 * len(statistics))
    panels = figure.subplots(len(statistics), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    most = max(max(measured.support_examples) for measured in statistics.values())
    for axes, (name, measured) in zip(panels, statistics.items(), strict=True):
        shares = measured.support_examples
        color = style.BLUE if axes is panels[0] else style.VERMILLION
        bars = axes.bar(list(shares), list(shares.values()), width=0.7, color=color)
        if most < FEW_BARS:
            axes.bar_label(bars, map(share_text, shares.values()), padding=2, size=8)
        support = f"support in {share_text(measured.support)} of sequences"
        heading = f"{name}: {measured.seq_len - 1} context examples, {support}"
        axes.set_title(heading, size=9, loc="left")
        style.tidy(axes)
    # The axes are shared; leave room for numbers above the highest bars.
    panels[0].set(ylim=(0, 1.22), yticks=(0, 0.5, 1), xlim=(-0.6, most + 0.6))
    panels[-1].xaxis.set_major_locator(MaxNLocator(nbins=20, integer=True, min_n_ticks=1))
    panels[0].yaxis.set_major_formatter(PercentFormatter(1))
    panels[-1].set_xlabel("context examples of the query's class (support)")
    figure.supylabel("fraction of sequences", size=10)
    figure.suptitle(title, size=12, weight="bold")
    return figure


def share_text(share: float) -> str:
    """A fraction in percent, never rounded to 0 or 100."""
    percent = 100 * share
    if percent in (0, 100):
        return f"{percent:.0f}%"
    return "< 0.1%" if percent < 0.1 else "> 99.9%" if percent > 99.9 else f"{percent:.1f}%"
