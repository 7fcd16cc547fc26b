"""Loggers, which receive metrics besides metrics.jsonl: TensorBoard, Weights & Biases."""

import contextlib
import hashlib
import importlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

# tensorboardX's `SummaryWriter` writes in a thread. On a full disk, that thread dies and the run
# would wait for it forever.
from tensorboardX.event_file_writer import EventsWriter

# Their classes are created at import, where pyright cannot see them.
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

from emergent_icl.config.check import ConfigError
from emergent_icl.config.identity import identity
from emergent_icl.config.registry import LOGGERS
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training.replicas import Replica

Record = dict[str, Any]
# A killed run loses at most the events of this interval, and no line of metrics.jsonl.
FLUSH_SECONDS = 30.0
_warn = logging.getLogger(__name__).warning


class Opening(NamedTuple):
    """What a logger gets when it is opened, in process 0."""

    workdir: Workdir
    config: ConfigDict
    replicas: tuple[Replica, ...]  # one named '' if the run has no replicas
    resume_step: int  # last step that is already logged; -1 for a new run
    started: str  # when step 0 began, see `progress.utc_now`; unchanged when the run is resumed


@LOGGERS.register("tensorboard", is_essential=True)
class TensorBoard:
    """Event files in the work directory, in one folder per replica."""

    def __init__(self, opening: Opening) -> None:
        self._folder, self._resume_step = opening.workdir.tensorboard, opening.resume_step
        self._events: dict[str, EventsWriter] = {}
        self._next_flush = 0.0

    def write(self, step: int, records: Mapping[str, Record]) -> None:
        """Adds one event per replica; raises OSError if it cannot be written."""
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
        """Writes pending events; raises OSError if they cannot be written."""
        with named(self._folder):
            for events in self._events.values():
                events.close()

    def _events_of(self, replica: str) -> EventsWriter:
        if replica not in self._events:
            folder = self._folder / replica
            folder.mkdir(parents=True, exist_ok=True)
            self._events[replica] = EventsWriter(str(folder / "events"))
            # TensorBoard drops events in older files from this step on.
            start, step = SessionLog(status=SessionLog.START), self._resume_step + 1
            event = Event(step=step, wall_time=time.time(), session_log=start)
            self._events[replica].write_event(event)
        return self._events[replica]


@LOGGERS.register("wandb", package="wandb")
class WeightsAndBiases:
    """One Weights & Biases run per replica; a group for the replicas of one work directory.

    The ID depends on the config, the folder's name, and when step 0 began, so a resumed run
    continues. Repeated steps have the same numbers and are skipped.
    """

    def __init__(self, opening: Opening) -> None:
        import wandb  # pyright: ignore[reportMissingImports]  (an optional extra)

        config, folder = opening.config, opening.workdir.path
        run = [identity(config), opening.started, folder.name]
        # It must neither print nor capture the terminal's output.
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
        """Logs one row per replica."""
        for replica, record in records.items():
            self._runs[replica].log(record, step=step)

    def close(self, failed: bool) -> None:
        """Waits until everything is sent; in offline mode, until it is on disk."""
        for run in self._runs.values():
            run.finish(exit_code=int(failed))


def check_loggers(config: ConfigDict) -> None:
    """Imports the packages that loggers need; raises ConfigError if one cannot be imported."""
    for name in config.logging.loggers:
        if package := LOGGERS.about(name).package:
            try:
                importlib.import_module(package)
            except Exception as error:  # A broken package raises many kinds.
                what = f"logging.loggers: '{name}' needs the package {package} ({error})"
                hint = f"pip install 'emergent-icl[{package}]', or remove '{name}' from the list"
                raise ConfigError([f"{what}: {hint}"]) from error


class Loggers:
    """All loggers of a run. If one fails and is not essential, it is disabled."""

    def __init__(self, opening: Opening) -> None:
        """Opens all; raises ConfigError if one cannot be opened."""
        self._open: dict[str, Any] = {}
        for name in opening.config.logging.loggers:
            try:
                self._open[name] = LOGGERS[name](opening)
            except Exception as error:  # External services raise many kinds.
                self.close(failed=True)
                problem = f"logging.loggers: '{name}' cannot be started: {error}"
                raise ConfigError([problem]) from error

    def write(self, step: int, records: Mapping[str, Record]) -> None:
        """Passes metrics to all; raises OSError if an essential logger cannot write."""
        for name, one in list(self._open.items()):
            with self._guarded(name):
                one.write(step, records)

    def close(self, failed: bool) -> None:
        """Closes all; raises like `write`. `failed` says whether the run failed."""
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
            _warn("Logger '%s' failed and is now disabled: %s", name, error)


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Adds the path to an OSError without one, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or str(path)) from error
