"""What a run tells: metrics files for programs, an observer for people."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

Record = dict[str, Any]


class Observer:
    """Told of everything that happens in a run; this one ignores it.

    The library prints nothing: launchers pass an observer that does.
    """

    def started(self, facts: dict[str, Any]) -> None:
        """Before compilation; `facts` are names and values to show."""

    def advanced(self, step: int) -> None:
        """After the call that ended with this step was dispatched."""

    def logged(self, step: int, record: Record) -> None:
        """After a line of metrics was written."""


class MetricsWriter:
    """metrics.jsonl and TensorBoard events; continues exactly where a checkpoint ends."""

    def __init__(self, metrics: Path, tensorboard: Path, resume_step: int) -> None:
        """Opens both, without what a killed run wrote beyond its checkpoint.

        Args:
          metrics: the .jsonl file.
          tensorboard: folder of the event files.
          resume_step: lines of later steps are dropped, and so is half a line.
        """
        kept = [record for record in read_metrics(metrics) if record["step"] <= resume_step]
        temporary = metrics.with_name(metrics.name + ".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(_line(record) for record in kept)
        os.replace(temporary, metrics)
        self._file = metrics.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(tensorboard), purge_step=resume_step + 1)

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        self._events.close()

    def write(self, step: int, record: Record) -> None:
        """Adds one line, and one event for each number in it."""
        self._file.write(_line({"step": step, **record}))
        self._file.flush()
        for name, value in record.items():
            self._events.add_scalar(name, value, step)


def read_metrics(path: Path) -> list[Record]:
    """Reads metrics.jsonl, [] if there is none; ends where a line is not whole."""
    records: list[Record] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n"):
                break
            records.append(json.loads(line))
    return records


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
