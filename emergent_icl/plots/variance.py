"""Figure of a variance decomposition: sources, and errors of means over runs."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emergent_icl.evaluation.metrics import Interval
from emergent_icl.plots import style
from emergent_icl.sweeps.variance import SOURCES, TOGETHER, Decomposition

# Numbers of runs whose means are compared.
RUNS = (2, 3, 5, 8, 12, 20)
# By whether runs share a split and its evaluation sequences.
DASHES = {True: "--", False: "-"}
# Inches, then points.
WIDTH, HEIGHT, SIZE = 9.6, 3.8, 9.0


@style.in_our_style
def variance_figure(
    found: Decomposition, numbers: Sequence[int], num_sequences: int, title: str
) -> Figure:
    """Standard deviations of a run's ICL by source (left), standard errors of means (right).

    Args:
      found: what to show.
      numbers: numbers of held-out classes, one color each.
      num_sequences: evaluation sequences of a run.
      title: text above.
    """
    figure = style.new_figure(WIDTH, HEIGHT)
    figure.suptitle("\n".join(style.wrap(title, WIDTH, SIZE)), fontsize=SIZE)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    colors = style.series_colors(len(numbers))
    for index, (number, color) in enumerate(zip(numbers, colors, strict=True)):
        deviations = found.deviations(number, num_sequences)
        offset = (index - (len(numbers) - 1) / 2) * min(0.22, 0.8 / len(numbers))
        _dots(left, list(deviations.values()), offset, color, f"{number} held-out classes")
        for one_split, dashes in DASHES.items():
            errors = [
                found.error_of_mean(runs, number, num_sequences, one_split=one_split).mean
                for runs in RUNS
            ]
            right.plot(RUNS, errors, dashes, color=color, marker="o", ms=3.5)
    names = (*SOURCES, TOGETHER)
    left.set(yticks=range(len(names)), yticklabels=names, xlim=(0, None))
    left.invert_yaxis()
    left.set_xlabel("standard deviation of ICL, with 95% interval", fontsize=SIZE)
    right.set(xticks=RUNS, ylim=(0, None), xlim=(0, RUNS[-1] + 1))
    right.set_xlabel("number of runs, each with its own training seed", fontsize=SIZE)
    right.set_ylabel("standard error of mean ICL", fontsize=SIZE)
    left.legend(frameon=False, fontsize=8)
    right.plot([], [], DASHES[True], color=style.INK, label="all on one split")
    right.plot([], [], DASHES[False], color=style.INK, label="each on its own split")
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.tick_params(labelsize=8)
        style.tidy(axes)
    return figure


def _dots(
    axes: Axes, deviations: Sequence[Interval], offset: float, color: str, label: str
) -> None:
    places = [row + offset for row in range(len(deviations))]
    axes.hlines(places, [one.low for one in deviations], [one.high for one in deviations], color)
    axes.plot([one.mean for one in deviations], places, "o", ms=4, color=color, label=label)
