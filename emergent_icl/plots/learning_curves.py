"""The paper's two curves, and the loss, over training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emergent_icl.evaluation import evaluate
from emergent_icl.evaluation.evaluate import ICL, IWL
from emergent_icl.plots import style
from emergent_icl.runs.records import read_metrics
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training.replicas import make_replicas

Records = Sequence[Mapping[str, Any]]

# Told apart in gray, too, by their lightness and dashes.
DASHES = ("-", "--", "-.", ":")
REPLICAS_A_ROW = 6
ICL_COLOR, IWL_COLOR, LOSS_COLOR = style.BLUE, style.VERMILLION, style.GREEN
ICL_KEY, IWL_KEY, LOSS_KEY = f"eval/{ICL[0]}/{ICL[1]}", f"eval/{IWL[0]}/{IWL[1]}", "train/loss"
ICL_NAME, IWL_NAME = f"in-context (ICL): {ICL[0]}", f"in-weights (IWL): {IWL[0]}"
ACCURACY, LOSS = "accuracy on queries", "cross-entropy on the query (nats)"
# Points up to this many are marked.
FEW_POINTS = 40


def draw(workdir: Workdir) -> None:
    """Draws the learning curves of the run in a folder, from what is there so far.

    Raises:
      WorkdirError: there is no run, or its lines are damaged.
    """
    config = workdir.read_config()
    levels = {evaluate.chance(replica.task) for replica in make_replicas(config)}
    level = levels.pop() if len(levels) == 1 else None
    records = read_metrics(workdir.metrics)
    figure = learning_curves_figure(records, config.name, level)
    style.save(figure, workdir.learning_curves)


def learning_curves_figure(records: Records, title: str, chance: float | None) -> Figure:
    """ICL and IWL accuracy, and the training loss, over steps.

    Args:
      records: lines of metrics.jsonl; those of several replicas are told apart by color.
      title: of the figure.
      chance: in-context accuracy of guessing, None to leave it out.
    """
    replicas = list(dict.fromkeys(record.get("replica", "") for record in records))
    if any(replicas):
        figure = _replicas_figure(records, replicas, chance)
    else:
        figure = _run_figure(records, chance)
    figure.suptitle(title)
    return figure


def _run_figure(records: Records, chance: float | None) -> Figure:
    """Both accuracies in a panel, the loss in another."""
    figure = style.new_figure(10, 4.2)
    accuracy, loss = figure.subplots(1, 2)
    _curve(accuracy, records, ICL_KEY, ICL_NAME, ICL_COLOR, "-")
    _curve(accuracy, records, IWL_KEY, IWL_NAME, IWL_COLOR, "--")
    _curve(loss, records, LOSS_KEY, "training loss", LOSS_COLOR, "-")
    _finish(accuracy, "Where does it learn?", ACCURACY, chance)
    _finish(loss, "Training loss", LOSS)
    if chance is not None:
        accuracy.text(
            0.99, chance - 0.05, "chance, in context", color=style.GRAY, fontsize=8, ha="right",
            transform=accuracy.get_yaxis_transform(),
        )  # fmt: skip
    style.legend_below(figure, accuracy, ncols=2)
    return figure


def _replicas_figure(records: Records, names: Sequence[str], chance: float | None) -> Figure:
    """A panel for each of the three curves, a line for each replica."""
    figure = style.new_figure(13, 4.2 + 0.2 * -(-len(names) // REPLICAS_A_ROW))
    panels = figure.subplots(1, 3)
    for axes, key in zip(panels, (ICL_KEY, IWL_KEY, LOSS_KEY), strict=True):
        for index, name in enumerate(names):
            own = (record for record in records if record.get("replica", "") == name)
            # In order from dark to light, and told apart by dashes where there are many.
            color = colormaps["viridis"](0.9 * index / max(len(names) - 1, 1))
            _curve(axes, own, key, name, color, DASHES[index % len(DASHES)])
    _finish(panels[0], ICL_NAME, ACCURACY, chance)
    _finish(panels[1], IWL_NAME, ACCURACY)
    _finish(panels[2], "training loss", LOSS)
    style.legend_below(figure, panels[-1], ncols=min(len(names), REPLICAS_A_ROW))
    return figure


def _curve(
    axes: Axes, records: Iterable[Mapping[str, Any]], key: str, label: str, color: Any, dashes: str
) -> None:
    points = [(record["step"], record[key]) for record in records if key in record]
    if points:
        marker = "o" if len(points) < FEW_POINTS else None
        axes.plot(*zip(*points, strict=True), dashes, color=color, label=label, marker=marker,
                  markersize=3)  # fmt: skip


def _finish(axes: Axes, title: str, what: str, chance: float | None = None) -> None:
    axes.set(title=title, ylabel=what, xlabel="training step")
    axes.set_xlim(left=0)
    axes.set_ylim(*((-0.03, 1.03) if what == ACCURACY else (0, None)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    style.tidy(axes)
    if chance is not None:
        axes.axhline(chance, color=style.GRAY, linewidth=0.8, linestyle=":")
