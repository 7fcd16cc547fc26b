"""Where metrics go besides metrics.jsonl, by name: TensorBoard's events, Weights & Biases."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

# tensorboardX's own `SummaryWriter` writes in a thread. On a full disk that thread dies, and the
# run would wait for it forever.
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import (
    Event,  # pyright: ignore[reportAttributeAccessIssue]  (made while it is imported)
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]  (made while it is imported)
)
from tensorboardX.proto.summary_pb2 import (
    Summary,  # pyright: ignore[reportAttributeAccessIssue]  (made while it is imported)
)

from emergent_icl.config.check import ConfigError
from emergent_icl.config.identity import identity
from emergent_icl.config.registry import LOGGERS
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training.replicas import Replica

Record = dict[str, Any]
# A killed run loses no more than this of its events, and none of its lines.
FLUSH_SECONDS = 30.0
_warn = logging.getLogger(__name__).warning


class Opening(NamedTuple):
    """What a logger may read when it is opened, in process 0 of a run."""

    workdir: Workdir
    config: ml_collections.ConfigDict
    replicas: tuple[Replica, ...]  # one without a name, '', if the run has no replicas
    resume_step: int  # the last step that is logged already; -1 for a new run
    started: str  # when step 0 began, see `progress.utc_now`; the same in every resumed run


@LOGGERS.register("tensorboard", is_essential=True)
class TensorBoard:
    """Event files in the work directory, a folder for each replica."""

    def __init__(self, opening: Opening) -> None:
        self._folder, self._resume_step = opening.workdir.tensorboard, opening.resume_step
        self._events: dict[str, EventsWriter] = {}
        self._next_flush = 0.0

    def write(self, step: int, records: Mapping[str, Record]) -> None:
        """Adds one event of each replica; raises OSError if it cannot be written."""
        with named(self._folder):
            for replica, record in records.items():
                numbers = [Summary.Value(tag=name, simple_value=x) for name, x in record.items()]
                event = Event(step=step, wall_time=time.time(), summary=Summary(value=numbers))
                self._events_of(replica).write_event(event)
            if time.monotonic() >= self._next_flush:
                for events in self._events.values():
                    events.flush()
                self._next_flush = time.monotonic() + FLUSH_SECONDS

    def close(self, failed: bool) -> None:
        """Writes what is left; raises OSError if it cannot be written."""
        del failed
        with named(self._folder):
            for events in self._events.values():
                events.close()

    def _events_of(self, replica: str) -> EventsWriter:
        """The file of a replica."""
        if replica not in self._events:
            folder = self._folder / replica
            folder.mkdir(parents=True, exist_ok=True)
            self._events[replica] = EventsWriter(str(folder / "events"))
            # TensorBoard drops events of this step and later ones in older files.
            start, step = SessionLog(status=SessionLog.START), self._resume_step + 1
            event = Event(step=step, wall_time=time.time(), session_log=start)
            self._events[replica].write_event(event)
        return self._events[replica]


@LOGGERS.register("wandb", package="wandb")
class WeightsAndBiases:
    """A run in Weights & Biases for each replica, those of one work directory in a group.

    Its ID depends on the config, the name of the folder, and when step 0 began, so that a resumed
    run continues there. Steps that are logged already have the same numbers, and are skipped.
    """

    def __init__(self, opening: Opening) -> None:
        import wandb  # pyright: ignore[reportMissingImports]  (an optional extra)

        config, folder = opening.config, opening.workdir.path
        run = [identity(config), opening.started, folder.name]
        # It must neither print nor replace the terminal's output.
        settings = wandb.Settings(silent=True, console="off")
        self._runs = {
            name: wandb.init(
                project=config.logging.wandb_project or None,
                id=hashlib.sha256(json.dumps([*run, name]).encode()).hexdigest()[:16],
                name=name or folder.name,
                group=folder.name if name else None,
                config=own.to_dict(),
                dir=str(folder),
                resume="allow",
                reinit="create_new",
                settings=settings,
            )
            for name, own, _ in opening.replicas
        }

    def write(self, step: int, records: Mapping[str, Record]) -> None:
        """Logs one row of each replica."""
        for replica, record in records.items():
            self._runs[replica].log(record, step=step)

    def close(self, failed: bool) -> None:
        """Waits until everything is sent, or on disk in offline mode."""
        for run in self._runs.values():
            run.finish(exit_code=int(failed))


def check_loggers(config: ml_collections.ConfigDict) -> None:
    """Imports the packages that loggers need; raises ConfigError if one cannot be imported."""
    for name in config.logging.loggers:
        if package := LOGGERS.about(name).package:
            try:
                importlib.import_module(package)
            except Exception as error:  # A broken package can raise nearly anything.
                raise ConfigError([
                    f"logging.loggers: '{name}' needs the package {package} ({error}): "
                    f"pip install 'emergent-icl[{package}]', or leave it out"
                ]) from error  # fmt: skip


class Loggers:
    """The loggers of a run as one. If one fails that is not essential, it alone is left out."""

    def __init__(self, opening: Opening) -> None:
        """Opens them; raises ConfigError if one cannot be opened."""
        self._open: dict[str, Any] = {}
        for name in opening.config.logging.loggers:
            try:
                self._open[name] = LOGGERS[name](opening)
            except Exception as error:  # Of services of others; they raise nearly anything.
                self.close(failed=True)
                problem = f"logging.loggers: '{name}' cannot be started: {error}"
                raise ConfigError([problem]) from error

    def write(self, step: int, records: Mapping[str, Record]) -> None:
        """Passes metrics to all; raises OSError if an essential one cannot write."""
        for name, one in list(self._open.items()):
            with self._guarded(name):
                one.write(step, records)

    def close(self, failed: bool) -> None:
        """Closes all, after a run that failed or not; raises OSError as `write` does."""
        while self._open:
            name, one = self._open.popitem()
            with self._guarded(name):
                one.close(failed)

    @contextlib.contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # See `__init__`.
            if LOGGERS.about(name).is_essential:
                raise
            self._open.pop(name, None)
            _warn("Logger '%s' failed and is left out from here on: %s", name, error)


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """A full disk does not say where."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or str(path)) from error
