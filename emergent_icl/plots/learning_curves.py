"""Learning curves: ICL, IWL, and the training loss."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from ml_collections import ConfigDict

from emergent_icl.data.task import Task
from emergent_icl.evaluation.measures import chance, metric_key, visible_constant
from emergent_icl.plots import style
from emergent_icl.plots.style import DASHES, LOOKS
from emergent_icl.runs.provenance import citation
from emergent_icl.runs.records import read_metrics
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training.replicas import make_replicas

Records = Sequence[Mapping[str, Any]]
# Measure -> accuracy without learning, None if unknown.
Levels = Mapping[str, float | None]

# Names and dashes of levels.
LEVELS = {"icl": ("chance (ICL)", ":"), "iwl": ("most frequent label (IWL)", (0, (1, 5)))}
LEGEND_COLUMNS = 6
TITLE_SIZE = 12.0
# Curves with fewer points have markers.
FEW_POINTS = 40


def draw(workdir: Workdir) -> None:
    """Saves the learning curves of a run from the metrics recorded so far.

    Raises WorkdirError if there is no run or its metrics are damaged.
    """
    config = workdir.read_config()
    tasks = [replica.task for replica in make_replicas(config)]
    title = title_of([(config, task) for task in tasks])
    figure = learning_curves_figure(read_metrics(workdir.metrics), title, levels_of(tasks))
    commit = (workdir.read_summary() or {}).get("commit")
    style.sign(figure, citation(config, commit))
    style.save(figure, workdir.learning_curves)


def title_of(runs: Sequence[tuple[ConfigDict, Task]]) -> str:
    """The names of runs, and what is special about their evaluations, in lines."""
    names = dict.fromkeys(config.name for config, _ in runs)
    notes = {(task.length_note, config.evaluation.exemplars) for config, task in runs}
    if len(notes) > 1:
        return "\n".join((*names, "evaluations of these runs differ"))
    ((lengths, exemplars),) = notes
    on = "training classes are evaluated on held-out exemplars" * (exemplars == "holdout")
    return "\n".join(filter(None, (*names, lengths, on)))


def levels_of(tasks: Sequence[Task]) -> Levels:
    """Chance for ICL and the best constant answer for IWL; None if runs differ."""
    found = {
        "icl": {chance("icl", task) for task in tasks},
        "iwl": {visible_constant("iwl", task) for task in tasks},
    }
    return {name: levels.pop() if len(levels) == 1 else None for name, levels in found.items()}


@style.in_our_style
def learning_curves_figure(records: Records, title: str, levels: Levels) -> Figure:
    """ICL, IWL, and training loss over steps, one color per replica.

    Records are the lines of metrics.jsonl; levels are drawn as dotted lines.
    """
    replicas = list(dict.fromkeys(record.get("replica", "") for record in records))
    if any(replicas):
        figure = _replicas_figure(records, replicas, levels)
    else:
        figure = _run_figure(records, levels)
    width, _ = figure.get_size_inches()
    lines = style.wrap(style.plain(title), width, TITLE_SIZE)
    figure.suptitle("\n".join(lines), fontsize=TITLE_SIZE)
    return figure


def _run_figure(records: Records, levels: Levels) -> Figure:
    """One panel of accuracies and one of the loss."""
    figure = style.new_figure(10, 4.2)
    accuracy, loss = figure.subplots(1, 2)
    shown = ((accuracy, "icl", "-"), (accuracy, "iwl", "--"), (loss, "loss", "-"))
    for axes, measure, dashes in shown:
        _curve(axes, records, measure, LOOKS[measure].long, LOOKS[measure].color, dashes)
    _finish(accuracy, "icl", "Accuracy", levels)
    _finish(loss, "loss", "Training loss", {})
    style.legend_below(figure, [accuracy], ncols=2)
    return figure


def _replicas_figure(records: Records, names: Sequence[str], levels: Levels) -> Figure:
    """One panel per measure, one line per replica."""
    said = [text for name, (text, _) in LEVELS.items() if levels.get(name)]
    width = 13
    num_rows, columns = style.legend_shape([*names, *said], width, LEGEND_COLUMNS)
    figure = style.new_figure(width, 4.2 + 0.2 * num_rows)
    panels, colors = figure.subplots(1, 3), style.series_colors(len(names))
    for axes, measure in zip(panels, ("icl", "iwl", "loss"), strict=True):
        for index, name in enumerate(names):
            own = [record for record in records if record.get("replica", "") == name]
            _curve(axes, own, measure, name, colors[index], DASHES[index % len(DASHES)])
        _finish(axes, measure, LOOKS[measure].long, {measure: levels.get(measure)})
    style.legend_below(figure, panels, ncols=columns)
    return figure


def _curve(axes: Axes, records: Records, measure: str, label: str, color: str, dashes: str) -> None:
    key = metric_key(measure)
    points = [(record["step"], record[key]) for record in records if key in record]
    if points:
        marker = "o" if len(points) < FEW_POINTS else None
        axes.plot(*zip(*points, strict=True), dashes, color=color, label=style.plain(label),
                  marker=marker, markersize=3)  # fmt: skip


def _finish(axes: Axes, measure: str, title: str, levels: Levels) -> None:
    is_loss = measure == "loss"
    what = "cross-entropy (nats)" if is_loss else "query accuracy"
    axes.set(title=title, ylabel=what, xlabel="training step")
    axes.set_xlim(left=0)
    axes.set_ylim(0 if is_loss else -0.03, None if is_loss else 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    style.tidy(axes)
    for name, level in levels.items():
        if level:
            said, dashes = LEVELS[name]
            axes.axhline(level, color=style.GRAY, linewidth=1, linestyle=dashes, label=said)
