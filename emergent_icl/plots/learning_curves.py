"""The paper's two curves, and the loss, over training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emergent_icl.data.task import Task
from emergent_icl.evaluation.metrics import IWL
from emergent_icl.plots import style
from emergent_icl.plots.style import DASHES, LOOKS
from emergent_icl.runs.provenance import citation
from emergent_icl.runs.records import read_metrics
from emergent_icl.runs.workdir import Workdir
from emergent_icl.sweeps.measures import chance, metric_key
from emergent_icl.training.replicas import make_replicas

Records = Sequence[Mapping[str, Any]]
# Measure -> an accuracy that takes no learning, None for none.
Levels = Mapping[str, float | None]

REPLICAS_A_ROW = 6
# Points up to this many are marked.
FEW_POINTS = 40


def draw(workdir: Workdir) -> None:
    """Draws the learning curves of the run in a folder, from what is there so far.

    Raises WorkdirError where there is no run, or its lines are damaged.
    """
    config = workdir.read_config()
    tasks = [replica.task for replica in make_replicas(config)]
    notes = [one.length_note for one in tasks]
    if config.evaluation.exemplars == "holdout":
        notes.append("classes trained on: evaluated on held-out exemplars")
    title = "\n".join(dict.fromkeys((config.name, *notes))).strip()
    figure = learning_curves_figure(read_metrics(workdir.metrics), title, levels_of(tasks))
    commit = (workdir.read_summary() or {}).get("commit")
    style.sign(figure, citation(config, commit))
    style.save(figure, workdir.learning_curves)


def levels_of(tasks: Sequence[Task]) -> Levels:
    """The accuracies that take no learning, where all runs have them in common."""
    return {
        "icl": _common(chance("icl", task) for task in tasks),
        "iwl": _common(_constant(task) for task in tasks),
    }


def _common(levels: Iterable[float | None]) -> float | None:
    """The level that replicas have in common."""
    different = set(levels)
    return different.pop() if len(different) == 1 else None


def _constant(task: Task) -> float | None:
    """IWL of always the commonest answer, where it is above chance."""
    kind = task.evaluation.get(IWL[0])
    return kind.constant if kind else None


@style.in_our_style
def learning_curves_figure(records: Records, title: str, levels: Levels) -> Figure:
    """ICL and IWL accuracy, and the training loss, over steps; replicas are told apart by color.

    Records are lines of metrics.jsonl; the levels are the ICL of guessing, and the IWL of always
    the commonest answer, None to leave it out.
    """
    replicas = list(dict.fromkeys(record.get("replica", "") for record in records))
    if any(replicas):
        figure = _replicas_figure(records, replicas, levels)
    else:
        figure = _run_figure(records, levels)
    figure.suptitle(title)
    return figure


def _run_figure(records: Records, levels: Levels) -> Figure:
    """Both accuracies in a panel, the loss in another."""
    figure = style.new_figure(10, 4.2)
    accuracy, loss = figure.subplots(1, 2)
    shown = ((accuracy, "icl", "-"), (accuracy, "iwl", "--"), (loss, "loss", "-"))
    for axes, measure, dashes in shown:
        _curve(axes, records, measure, LOOKS[measure].long, LOOKS[measure].color, dashes)
    _finish(accuracy, "icl", "Where does it learn?", *levels.values())
    _finish(loss, "loss", "Training loss")
    said = {"icl": "chance, in context", "iwl": "always the commonest class, in weights"}
    for name, level in levels.items():
        if level is not None:
            accuracy.text(
                0.99, level - 0.05, said[name], color=style.GRAY, fontsize=8, ha="right",
                transform=accuracy.get_yaxis_transform(),
            )  # fmt: skip
    style.legend_below(figure, accuracy, ncols=2)
    return figure


def _replicas_figure(records: Records, names: Sequence[str], levels: Levels) -> Figure:
    """A panel for each of the three curves, a line for each replica."""
    figure = style.new_figure(13, 4.2 + 0.2 * -(-len(names) // REPLICAS_A_ROW))
    panels = figure.subplots(1, 3)
    for axes, measure in zip(panels, ("icl", "iwl", "loss"), strict=True):
        for index, name in enumerate(names):
            own = [record for record in records if record.get("replica", "") == name]
            # In order from dark to light, and told apart by dashes where there are many.
            color = colormaps["viridis"](0.9 * index / max(len(names) - 1, 1))
            _curve(axes, own, measure, name, color, DASHES[index % len(DASHES)])
        _finish(axes, measure, LOOKS[measure].long, levels.get(measure))
    style.legend_below(figure, panels[-1], ncols=min(len(names), REPLICAS_A_ROW))
    return figure


def _curve(axes: Axes, records: Records, measure: str, label: str, color: Any, dashes: str) -> None:
    key = metric_key(measure)
    points = [(record["step"], record[key]) for record in records if key in record]
    if points:
        marker = "o" if len(points) < FEW_POINTS else None
        axes.plot(*zip(*points, strict=True), dashes, color=color, label=label, marker=marker,
                  markersize=3)  # fmt: skip


def _finish(axes: Axes, measure: str, title: str, *levels: float | None) -> None:
    is_loss = measure == "loss"
    what = "cross-entropy on the query (nats)" if is_loss else "accuracy on queries"
    axes.set(title=title, ylabel=what, xlabel="training step")
    axes.set_xlim(left=0)
    axes.set_ylim(0 if is_loss else -0.03, None if is_loss else 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    style.tidy(axes)
    for level in filter(None, levels):
        axes.axhline(level, color=style.GRAY, linewidth=0.8, linestyle=":")
