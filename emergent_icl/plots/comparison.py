"""Comparison of several runs: curves in one figure, tables of final values and options."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
from matplotlib.figure import Figure

from emergent_icl.config.configs import alone, flatten, has, named_overrides, tuples
from emergent_icl.config.identity import differing_options
from emergent_icl.data.sources.source import DataUnavailableError
from emergent_icl.evaluation.measures import is_share, metric_key
from emergent_icl.evaluation.metrics import proportion
from emergent_icl.plots import style
from emergent_icl.plots.learning_curves import learning_curves_figure, levels_of, title_of
from emergent_icl.runs.open import Run
from emergent_icl.runs.provenance import citation, config_hash, short
from emergent_icl.runs.records import Record, is_evaluation, metrics_of
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training.replicas import make_replicas

MEASURES = {"ICL": "icl", "IWL": "iwl", "loss": "loss"}


class _Recorded(NamedTuple):
    """Metrics of a run or replica so far; `ends` is its row of `Comparison.ends`."""

    config: ml_collections.ConfigDict
    records: list[Record]
    ends: dict[str, Any]


class Comparison(NamedTuple):
    """The result of `compare`.

    Attributes:
      figure: ICL and IWL in [0, 1] and the training loss (nats) over steps, one line per run.
      ends: {run: {'state': text, 'step': of the last evaluation, 'ICL': Interval, 'IWL': Interval,
        'loss': number, 'config': hash, 'commit': of the code}}. Intervals are 95% intervals over
        evaluation sequences. None if not measured.
      options: {option: {run: value}} of options that differ between runs.
    """

    figure: Figure
    ends: dict[str, dict[str, Any]]
    options: dict[str, dict[str, Any]]

    def tables(self) -> list[dict[str, dict[str, str]]]:
        """Final values and, if any, differing options: {row: {column: text}}."""
        ends = {run: {k: _text(v) for k, v in cells.items()} for run, cells in self.ends.items()}
        options = {
            path: {run: str(v) for run, v in own.items()} for path, own in self.options.items()
        }
        return [table for table in (ends, options) if table]

    def __repr__(self) -> str:
        lines = []
        for table in self.tables():
            rows = [["", *next(iter(table.values()))]]
            rows += [[name, *cells.values()] for name, cells in table.items()]
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join(lines)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Saves the figure as .png, .pdf, or .svg, by its extension; returns its path.

        Creates the folder. Raises FigureError for any other extension.
        """
        path = Path(path).expanduser()
        style.save(self.figure, path)
        return path


def compare(runs: Iterable[Run | str | os.PathLike[str]]) -> Comparison:
    """Compares runs by their metrics from training, without evaluating them.

    Args:
      runs: opened runs or their folders (with all their replicas), complete or not.

    Raises:
      ValueError: there are no runs.
      WorkdirError: a folder contains no run, or its metrics are damaged.
    """
    found: dict[tuple[Path, str], _Recorded] = {}
    for run in [runs] if isinstance(runs, str | os.PathLike | Run) else runs:
        workdir = run.workdir if isinstance(run, Run) else Workdir(run)
        if workdir is None:
            raise ValueError(f"{run!r} was not opened from a folder: it has no learning curves")
        names = named_overrides(workdir.read_config())
        wanted = (run.replica,) if isinstance(run, Run) else [name for name, _ in names]
        found |= {(workdir.path, name): _recorded(workdir, name) for name in wanted}
    if not found:
        raise ValueError("there are no runs to compare")
    named = dict(zip(_labels(list(found)), found.values(), strict=True))
    options = differing({label: run.config for label, run in named.items()})
    return Comparison(_figure(named), {label: run.ends for label, run in named.items()}, options)


def differing(configs: Mapping[str, ml_collections.ConfigDict]) -> dict[str, dict[str, Any]]:
    """{option: {run: value}} of options that differ between configs {run: config}.

    Options of a machine, such as data paths, are omitted.
    """
    first, *others = configs.values()
    found = {path for other in others for path, *_ in differing_options(first, other)}
    flat = {run: flatten(tuples(config.to_dict())) for run, config in configs.items()}
    return {
        path: {run: options.get(path) for run, options in flat.items()}
        for path in sorted(found)
        if not has(path, "per_machine")
    }


def _recorded(workdir: Workdir, replica: str) -> _Recorded:
    together, summary = workdir.read_config(), workdir.read_summary() or {}
    config = alone(together, dict(named_overrides(together))[replica]) if replica else together
    records = metrics_of(workdir, replica)
    about = summary.get("replicas", {}).get(replica, {}) if replica else summary
    # The training of an incomplete run may be ahead of its last evaluation.
    evaluated = list(filter(is_evaluation, records))
    last = evaluated[-1]["step"] if evaluated else None
    is_complete = evaluated and summary.get("step") == config.training.num_steps == last
    state = "complete" if is_complete else "incomplete"
    if (step := about.get("diverged_at_step")) is not None:
        state = f"diverged at step {step}"
    ends: dict[str, Any] = {"state": state, "step": last}
    for name, measure in MEASURES.items():
        key = metric_key(measure)
        values = [line[key] for line in records if key in line and line["step"] <= (last or 0)]
        ends[name] = values[-1] if values and step is None else None
        if ends[name] is not None and is_share(measure):
            ends[name] = proportion(ends[name], config.evaluation.num_sequences)
    commit = summary.get("commit")
    ends |= {"config": config_hash(config), "commit": commit and short(commit)}
    return _Recorded(config, records, ends)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def _labels(places: list[tuple[Path, str]]) -> list[str]:
    """The shortest distinct ends of paths, with replica names."""
    paths, depth, names = {path for path, _ in places}, 0, {}
    while len(set(names.values())) < len(paths):
        depth += 1
        names = {path: "/".join(path.parts[-depth:]) for path in paths}
    return [", ".join(filter(None, (names[path], replica))) for path, replica in places]


def _figure(runs: Mapping[str, _Recorded]) -> Figure:
    lines = [{**line, "replica": label} for label, run in runs.items() for line in run.records]
    try:
        tasks = [make_replicas(run.config)[0].task for run in runs.values()]
        configs = (run.config for run in runs.values())
        title, levels = title_of([*zip(configs, tasks, strict=True)]), levels_of(tasks)
    except (DataUnavailableError, ValueError, KeyError, OSError):
        # The data, or the extension that a run needs, are unavailable.
        title, levels = "\n".join(dict.fromkeys(run.config.name for run in runs.values())), {}
    figure = learning_curves_figure(lines, title, levels)
    cited = (f"{label}: {citation(run.config, run.ends['commit'])}" for label, run in runs.items())
    style.sign(figure, "; ".join(cited))
    return figure
