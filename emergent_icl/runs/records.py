"""Records of a run: metrics.jsonl, facts, and the interface of displays."""

import contextlib
import errno
import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import jax
from ml_collections import ConfigDict

from emergent_icl.models.network import Params
from emergent_icl.runs.loggers import Loggers, Record, named
from emergent_icl.runs.workdir import Workdir, WorkdirError, write_whole
from emergent_icl.training.build import Experiment
from emergent_icl.training.step import Step
from emergent_icl.training.update import TrainState

# Other packages that affect the numbers of a run.
PACKAGES = ("jax", "jaxlib", "dm-haiku", "optax", "orbax-checkpoint", "numpy")
# In bytes; a line with eight evaluation modes has 3,000.
_LONGEST_LINE = 2**16


class Display:
    """Receives the events of a run; this one prints nothing. Commands pass one that does."""

    reached_step, last_step = 0, 0  # the first: resumed from or dispatched

    def started(self, facts: dict[str, Any]) -> None:
        """Called before compilation; `facts` are what `facts` returns."""
        self.reached_step, self.last_step = facts["first_step"], facts["last_step"]

    def set_aside(self, step: int, why: str, place: Path) -> None:
        """Called after an unreadable checkpoint was moved to another place."""

    def warned(self, text: str) -> None:
        """Called before `started` with a warning about the run's files."""

    def advanced(self, step: int) -> None:
        """Called after the device call that ends with this step was dispatched."""
        self.reached_step = step

    def logged(self, step: int, records: dict[str, Record]) -> None:
        """Called after metrics were written, by replica name ('' for a single run)."""

    def diverged(self, name: str, step: int, last_loss: float | None) -> None:
        """Called after a replica diverged; `last_loss` is None if no loss was finite."""

    def close(self) -> None:
        """Called last."""


SILENT = Display()


class MetricsWriter:
    """metrics.jsonl and the loggers; continues exactly after a checkpoint."""

    def __init__(self, workdir: Workdir, resume_step: int, loggers: Loggers | None = None) -> None:
        """Opens the file and drops incomplete lines and those after `resume_step`."""
        self._path, self._loggers = workdir.metrics, loggers
        kept = [record for record in read_metrics(self._path) if record["step"] <= resume_step]
        write_whole(self._path, "".join(_line(record) for record in kept))
        self._file = self._path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *others: object) -> None:
        # Report the first error; closing would probably raise it again.
        ignored = () if kind is None else (OSError,)
        with contextlib.suppress(*ignored):
            self.sync()  # Before the summary, which marks the run as complete.
            with named(self._path):
                self._file.close()
        with contextlib.suppress(*ignored):
            if self._loggers:
                self._loggers.close(failed=kind is not None)

    def write(self, step: int, records: Mapping[str, Record]) -> None:
        """Adds one line per replica, named unless '', and passes the metrics to the loggers.

        Raises:
          OSError: a line cannot be written, or the file was deleted.
        """
        if not os.fstat(self._file.fileno()).st_nlink:
            what = "Deleted during the run"
            raise FileNotFoundError(errno.ENOENT, what, str(self._path))
        with named(self._path):
            for replica, record in records.items():
                who = {"replica": replica} if replica else {}
                self._file.write(_line({"step": step, **who, **record}))
            self._file.flush()
        if self._loggers:
            self._loggers.write(step, records)

    def sync(self) -> None:
        """Waits until all lines are on disk, as they must be before a checkpoint of their step.

        Raises:
          OSError: they cannot be written.
        """
        with named(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())


def read_metrics(path: Path) -> list[Record]:
    """Reads metrics.jsonl, [] if there is none; the last line may be incomplete.

    Raises:
      WorkdirError: another line is damaged.
    """
    if not path.exists():
        return []
    *whole, _ = path.read_bytes().split(b"\n")
    records = [_record(line) for line in whole]
    if None in records[:-1]:
        number = records.index(None) + 1
        raise WorkdirError(f"line {number} of {path} is not a line of metrics")
    return [record for record in records if record is not None]


def metrics_of(workdir: Workdir, replica: str = "") -> list[Record]:
    """The lines of one replica, '' for a single run; raises like `read_metrics`."""
    return [one for one in read_metrics(workdir.metrics) if one.get("replica", "") == replica]


def lines_at(path: Path, step: int) -> dict[str, Record]:
    """Metrics at a step, {replica: {metric: value}}, '' for a single run; see `read_metrics`."""
    about = ("step", "replica")
    return {
        line.get("replica", ""): {name: value for name, value in line.items() if name not in about}
        for line in read_metrics(path)
        if line["step"] == step
    }


def is_evaluation(record: Record) -> bool:
    """Whether a line contains an evaluation."""
    return any(name.startswith("eval/") for name in record)


def is_whole(record: Record) -> bool:
    """Whether a line contains training metrics and an evaluation, as the last one of a run does."""
    return is_evaluation(record) and any(name.startswith("train/") for name in record)


def check_lines(workdir: Workdir, config: ConfigDict, step: int) -> None:
    """Checks that metrics.jsonl reaches the checkpoint of a step, from which the run resumes.

    Raises:
      WorkdirError: the last line that this checkpoint implies is missing.
    """
    # The line of the last step is completed when the run resumes there.
    until = step - (step == config.training.num_steps)
    # Log-spaced evaluations depend on the devices of an earlier command.
    due = [one for one in config.evaluation.at if isinstance(one, int) and one <= until]
    due += [until - until % every for every in (config.training.log_every, config.evaluation.every)]
    there = {line["step"] for line in read_metrics(workdir.metrics)}
    if (last := max(due)) and last not in there:
        ends = max((one for one in there if one < last), default=0)
        raise WorkdirError(
            f"{workdir.metrics} lacks the line of step {last} (the one before it is of step "
            f"{ends}), but the run would resume after step {step}.\nTo compute it again, move "
            f"all checkpoints after step {ends} out of {workdir.checkpoints}. To resume "
            f'without it, add this line to the file: {{"step": {last}}}'
        )


def last_step(path: Path) -> int:
    """Step of the last complete line of metrics.jsonl, or 0; reads only the end of the file."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _LONGEST_LINE, 0))
        *whole, _ = file.read().split(b"\n")
    # The last line may be damaged: see `read_metrics`.
    records = (record for line in reversed(whole) if (record := _record(line)) is not None)
    return next(records, {"step": 0})["step"]


def facts(
    experiment: Experiment, state: TrainState, step: Step, kept: Mapping[str, Any]
) -> dict[str, Any]:
    """Names and values to show before compilation; `state` is [R, ...] on the host.

    `kept` are stored options, {option: value}, that differ from those of the command.
    """
    config, space = experiment.config, experiment.task.space
    return {
        "experiment": config.name,
        "data": f"{experiment.bank.name}: {space.split.num_rare} rare, "
        f"{space.split.num_common} common, {space.split.num_holdout} holdout classes, "
        f"{space.num_exemplars} exemplar{'s' * (space.num_exemplars != 1)}",
        "labels": experiment.task.num_labels,
        "model": f"{config.model.encoder} + {config.model.sequence_model}, "
        f"{config.model.num_layers} layers, {count_parameters(state.params):,} parameters",
        "initial": _joined(initial_text(one.config) for one in experiment.replicas),
        "replicas": ", ".join(replica.name for replica in experiment.replicas),
        "devices": devices_text(),
        "feeder": step.feeder,
        "keeps": ", ".join(f"{path} = {value!r}, as stored" for path, value in kept.items()),
        "lengths": _joined(one.task.length_note for one in experiment.replicas),
        "first_step": int(state.step[0]),
        "last_step": config.training.num_steps,
    }


def _joined(texts: Iterable[str | None]) -> str:
    return "; ".join(dict.fromkeys(filter(None, texts)))


def initial_text(config: ConfigDict) -> str:
    """The source of initial weights, 'checksum 123, run /runs/a'; '' if they are random."""
    given = config.training.initial.to_dict().items()
    return ", ".join(f"{name} {value}" for name, value in given if value not in (None, "", ()))


def count_parameters(params: Params) -> int:
    """Parameters per replica, given those of all: leaves [R, ...]."""
    return sum(leaf[0].size for leaf in jax.tree.leaves(params))


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of the packages that are installed."""
    found = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def processor() -> str:
    """The name of this machine's processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def devices_text() -> str:
    """'2 x cpu', and the number of processes if there are several."""
    count = jax.process_count()
    where = f" in {count} processes" if count > 1 else ""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}{where}"


def _record(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and "step" in record else None


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
