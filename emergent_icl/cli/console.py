"""What the launchers say: progress, errors. The library itself prints nothing."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import jax
from absl import flags
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from emergent_icl.cli import overrides
from emergent_icl.cli.extensions import ExtensionError, import_extensions
from emergent_icl.config.rules import ConfigError
from emergent_icl.data.sources.source import DataUnavailableError
from emergent_icl.evaluation.evaluate import ICL, IWL
from emergent_icl.runs.checkpoints import CheckpointError, NonFiniteStateError
from emergent_icl.runs.processes import DisagreementError
from emergent_icl.runs.reporting import Observer, Record
from emergent_icl.runs.window import NonFiniteLossError
from emergent_icl.runs.workdir import WorkdirError

_console = Console(highlight=False, soft_wrap=True)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)

# Errors whose message tells a user all there is to know; anything else is a bug.
EXPECTED_ERRORS = (
    ConfigError,
    WorkdirError,
    DataUnavailableError,
    NonFiniteLossError,
    NonFiniteStateError,
)


# What processes that were started alike all find: none has to be told by another one's end.
SHARED_ERRORS = (ConfigError, DisagreementError, NonFiniteLossError, NonFiniteStateError)
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
LESS_MEMORY = (
    "Less takes: a smaller training.batch_size, model.precision=bfloat16, fewer "
    "training.replicas, a smaller evaluation.batch_size, more devices."
)


def say(text: str) -> None:
    """Prints plain text, whatever brackets it holds."""
    _console.print(_printable(text), markup=False)


def say_error(text: str) -> None:
    """Prints one error message on the standard error stream."""
    _errors.print(f"error: {_printable(text)}", markup=False)


def _printable(text: str) -> str:
    """Names from files may hold what no stream takes: halves of surrogate pairs."""
    return text.encode(errors="backslashreplace").decode()


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    """Ends the process without an exception: one that is raised inside a callback is lost."""
    with contextlib.suppress(RuntimeError):  # Whoever was interrupted may be writing.
        sys.stdout.flush()
    os.write(1, b"Stopped.\n")
    # Not sys.exit: JAX's threads may be in the middle of a compilation.
    os._exit(128 + number)


@contextlib.contextmanager
def clear_errors(*also: type[Exception], advice: str = "") -> Iterator[None]:
    """Turns expected errors into one message and exit status 1; others keep their traceback.

    Ctrl-C, where the launcher does not answer it in its own way, ends at once.

    Args:
      *also: expected besides EXPECTED_ERRORS.
      advice: to be added where the machine failed, not the user.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    # Of every try of a download: that it failed in the end is enough.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    # TensorFlow Datasets and Orbax speak of their own affairs.
    warnings.filterwarnings("ignore", module="tensorflow_datasets|orbax")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop_at_once)
    try:
        yield
    except (*EXPECTED_ERRORS, *also) as error:
        alone = jax.distributed.is_initialized() and not isinstance(error, SHARED_ERRORS)
        if alone or isinstance(error, CheckpointError):
            _fail_at_once(str(error))
        say_error(str(error))
        sys.exit(1)
    except OSError as error:  # Of the machine: no space, no permission, a folder that is gone.
        where = f": {error.filename}" if error.filename else ""
        _fail_at_once(f"{error.strerror or error}{where}{advice}")
    except Exception as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and OUT_OF_MEMORY in str(error):
            first = str(error).splitlines()[0]
            _fail_at_once(f"the device is out of memory: {first}\n{LESS_MEMORY}{advice}")
        with contextlib.suppress(OSError):
            traceback.print_exc()
        _fail_at_once()


def _fail_at_once(text: str = "") -> NoReturn:
    """Not sys.exit: whatever waits at the end of the interpreter is not waited for.

    The runtime would wait for the other processes of a run; where a save failed, Orbax's threads
    for the save's other parts. Where the disk that is full holds the output, too, nothing is said.
    """
    try:
        if text:
            say_error(text)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(1)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses flags for `app.run`; what is wrong is said without a traceback."""
    try:
        import_extensions(argv)
        if "config" in flags.FLAGS and (problems := overrides.find_problems(argv)):
            say_error(str(ConfigError(problems)))
            sys.exit(2)
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS and flags.FLAGS.config is not None:
            # A file that is not there is only reported when its config is first used.
            _ = flags.FLAGS.config.is_locked
        return rest
    except (KeyError, AttributeError) as error:
        # ml_collections' own message, with the nearest name, without the quotes of a key.
        message = "unknown option " + " ".join(str(error.args[0]).replace('"', "").split())
    except ExtensionError as error:
        message = str(error)
    except OSError as error:  # The config file was not found: one line a place, all the same.
        where = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        message = where.splitlines()[-1].strip()
    except flags.Error as error:
        # A config file that raises arrives as a traceback in text; its last line says why.
        lines = [
            line.strip()
            for line in str(error).splitlines()
            if line.strip() and not line.startswith("Pass --help")
        ]
        message = lines[-1] if any("Traceback" in line for line in lines) else " ".join(lines)
    say_error(message)
    sys.exit(2)


def refuse_leftovers(argv: Sequence[str]) -> None:
    """Exits if words are left that no flag took."""
    if len(argv) > 1:
        say_error(f"not understood: {' '.join(argv[1:])}")
        sys.exit(2)


def command_line() -> str:
    """The command that is running, to be typed again."""
    module = getattr(sys.modules["__main__"].__spec__, "name", None)
    program = ["-m", module] if module else [sys.argv[0]]
    return shlex.join([_interpreter(), *program, *sys.argv[1:]])


def say_stopped(step: int) -> None:
    """Says where a run stopped, and the command that goes on with it."""
    if step:
        say(f"Stopped after step {step}; the state is saved. To resume:\n  {command_line()}")
    else:
        say("Stopped before the first step; there was nothing to save.")


def _interpreter() -> str:
    """The interpreter that has the dependencies; relative where it lies under this folder."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


class TrainingDisplay(Observer):
    """A progress bar on a terminal, a line a log elsewhere."""

    def __init__(self, started: float) -> None:
        """Takes `time.monotonic()` at which the command started."""
        self._started: float | None = started
        self._progress: Progress | None = None
        self._last_step = 0
        self._latest: dict[str, Record] = {}

    def close(self) -> None:
        """Ends the bar, so that something else may be printed."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def started(self, facts: dict[str, Any]) -> None:
        """Says what will run; see Observer."""
        for name in ("experiment", "data", "labels", "model", "replicas", "devices", "feeder"):
            if facts[name]:
                say(f"{name:>10}  {facts[name]}")
        self._last_step = facts["last_step"]
        if facts["first_step"]:
            say(f"{'resumed':>10}  after step {facts['first_step']}")
        if _console.is_terminal:
            self._progress = Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=_console,
            )
            self._progress.start()
            self._task = self._progress.add_task(
                "compiling", total=self._last_step, completed=facts["first_step"]
            )

    def set_aside(self, step: int, why: str, place: Path) -> None:
        """Says which checkpoint is no good; see Observer."""
        say_error(f"the checkpoint of step {step} cannot be read: {why}\n  It is kept in {place}.")

    def advanced(self, step: int) -> None:
        """Moves the bar, and says when the first step was out; see Observer."""
        if self._started is not None:
            say(f"{'compiled':>10}  {time.monotonic() - self._started:.0f} s after the start")
            self._started = None
        if self._progress is not None:
            self._progress.update(self._task, completed=step)

    def logged(self, step: int, records: dict[str, Record]) -> None:
        """Shows the newest numbers; see Observer."""
        for replica, record in records.items():
            self._latest[replica] = self._latest.get(replica, {}) | record
        text = "  ".join(_short(list(self._latest.values())))
        evaluated = any(name.startswith("eval/") for one in records.values() for name in one)
        if self._progress is not None:
            self._progress.update(self._task, description=text)
        elif evaluated or _is_round(step, self._last_step):
            say(f"step {step:>7}/{self._last_step}  {text}{_time_left(step, self)}")

    def diverged(self, name: str, step: int) -> None:
        """Says who dropped out; see Observer."""
        self._latest.pop(name, None)
        say(f"replica '{name}' diverged at step {step}; the others go on")


def _is_round(step: int, last_step: int) -> bool:
    return step % max(last_step // 20, 1) == 0


def _time_left(step: int, display: TrainingDisplay) -> str:
    rate = next(iter(display._latest.values()), {}).get("steps_per_second")
    if not rate:
        return ""
    minutes, seconds = divmod(round((display._last_step - step) / rate), 60)
    return f"  left {minutes}:{seconds:02d}"


def _short(latest: Sequence[Record]) -> Iterator[str]:
    """The newest numbers of all replicas: one each, or the least and the greatest."""
    for name, metric in (
        ("loss", "train/loss"),
        ("ICL", "eval/{}/{}".format(*ICL)),
        ("IWL", "eval/{}/{}".format(*IWL)),
    ):
        values = [record[metric] for record in latest if metric in record]
        if values:
            yield f"{name} " + "..".join(
                f"{v:.3f}" for v in dict.fromkeys((min(values), max(values)))
            )
    rates = [record for record in latest if "steps_per_second" in record]
    if rates:
        yield f"{rates[0]['steps_per_second']:.1f} steps/s"
        yield f"{sum(record['sequences_per_second'] for record in rates):.0f} sequences/s"


class ProgressBar:
    """A bar over a whole, on a terminal; nothing elsewhere."""

    def __init__(self, title: str) -> None:
        self.is_shown = _console.is_terminal
        self._bar = Progress(
            TextColumn(title),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=_console,
        )
        self._task = self._bar.add_task("", total=1.0)

    def start(self) -> None:
        """Shows it."""
        if self.is_shown:
            self._bar.start()

    def update(self, share: float, text: str) -> None:
        """Moves it to a share in [0, 1]."""
        self._bar.update(self._task, completed=share, description=text)

    def close(self) -> None:
        """Ends it, so that something else may be printed."""
        if self.is_shown:
            self._bar.stop()
