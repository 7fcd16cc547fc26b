"""Messages and errors of commands. The library itself prints nothing."""

import contextlib
import functools
import io
import logging
import os
import shlex
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

import jax
import rich.progress
from rich.console import Console

from emergent_icl.cli import start
from emergent_icl.cli.signals import STOP_SIGNALS
from emergent_icl.config.check import ConfigError
from emergent_icl.data.sources.source import DataUnavailableError
from emergent_icl.data.ticks import listening
from emergent_icl.runs.checkpoints import CheckpointError
from emergent_icl.runs.processes import DisagreementError
from emergent_icl.runs.progress import NonFiniteLossError
from emergent_icl.runs.quiet import quiet_orbax
from emergent_icl.runs.workdir import WorkdirError
from emergent_icl.training.settings import SettingError, pinned

# Print text literally, including brackets and colons.
PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
# Some shells set COLUMNS=0 for an unknown width; Rich would print nothing.
if os.environ.get("COLUMNS") == "0":
    del os.environ["COLUMNS"]
CONSOLE = Console(soft_wrap=True, **PLAIN)


class _Errors(Console):
    """Raises an error on a closed pipe; rich would also close the standard output."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


_errors = _Errors(stderr=True, soft_wrap=True, **PLAIN)
# Paths that this command could not write.
_unwritten: list[Path] = []

# Their message is enough for a user; any other error is a bug.
EXPECTED_ERRORS = (
    ConfigError, WorkdirError, DataUnavailableError, NonFiniteLossError, SettingError,
)  # fmt: skip
# Every process of a run raises these, so none waits for the others.
SHARED_ERRORS = (ConfigError, DisagreementError, NonFiniteLossError)
INTACT = "Saved files are intact; rerun the command to continue."
LESS_MEMORY = (
    "To reduce memory: a smaller training.batch_size, model.precision=bfloat16, fewer "
    "training.replicas, a smaller evaluation.batch_size, more devices."
)


def say(text: str) -> None:
    """Prints plain text; see `printing`."""
    with printing():
        CONSOLE.print(text)


def say_error(text: str) -> None:
    """Prints one error message on the standard error stream, which may be full or closed."""
    try:
        _errors.print(f"error: {text}")
    except OSError:
        sys.stderr = _nowhere()


@functools.cache
def _nowhere() -> TextIO:
    """Replaces a closed stream, whose flush at exit would change the exit status."""
    return open(os.devnull, "w", encoding="utf-8")


def make_bar(*columns: str | rich.progress.ProgressColumn) -> rich.progress.Progress:
    """A progress bar that ends in the task's description; hidden unless on a terminal."""
    columns = (*columns, "{task.description}")
    return rich.progress.Progress(*columns, console=CONSOLE, disable=not CONSOLE.is_terminal)


class _LongWork(contextlib.AbstractContextManager["_LongWork"]):
    """Shows long work (data/ticks.py) as a bar or lines, and stops it on a signal."""

    _what, _since = "", 0.0
    _bar: rich.progress.Progress | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if number := STOP_SIGNALS.poll():
            self._end()
            say(f"Stopped while {what}. {INTACT}")
            sys.exit(128 + number)
        if what != self._what or done in (0, total):
            self._end()
            self._what, self._since = what, now
        elif self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)
        elif now - self._since > (1 if CONSOLE.is_terminal else 30) and _prints():
            self._since = now
            if CONSOLE.is_terminal:
                remaining = rich.progress.TimeRemainingColumn()
                self._bar = make_bar(rich.progress.BarColumn(), remaining, "left")
                self._bar.add_task(what, total=total, completed=done)
                with printing():
                    self._bar.start()
            else:
                say(f"{what}: {done / total:.0%}")

    def __exit__(self, *error: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._bar is not None:
            with printing():
                self._bar.stop()
            self._bar = None


def _prints() -> bool:
    """Whether this is the first process; does not initialize devices if it is the only one."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Inside, a closed output does not end the command, which still writes and exits with 1."""
    try:
        yield
    except (OSError, SystemExit):  # The latter is rich's answer to a closed pipe.
        _unwritten.append(Path("/dev/stdout"))
        sys.stdout = _nowhere()


def write(path: Path, save: Callable[[], Any]) -> Any:
    """Writes a file of printed results; reports a failure, and the command exits with status 1."""
    try:
        result = save()
    except (OSError, WorkdirError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        say_error(f"{path} was not written: {reason or error}")
        _unwritten.append(path)
        return None
    say(f"Written: {path}")
    return result


def can_write(folder: Path, otherwise: str) -> bool:
    """Whether a folder, possibly new, is writable; if not, prints an error and `otherwise`."""
    nearest = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        return True
    say_error(f"{folder} cannot be written to. {otherwise}")
    _unwritten.append(folder)
    return False


def fail(text: str, status: int = 1) -> NoReturn:
    """Exits with an error message; status 2 is for an invalid command line."""
    say_error(text)
    sys.exit(status)


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    """Ends the process without an exception, which a callback would lose."""
    # The interrupted code may be writing, or the stream may be closed.
    with contextlib.suppress(RuntimeError, AttributeError, OSError):
        sys.stdout.flush()
        cursor = b"\x1b[?25h\n" if CONSOLE.is_terminal else b""  # A bar hides it.
        os.write(1, cursor + f"Stopped. {INTACT}\n".encode())
    # Not sys.exit: JAX's threads may be compiling.
    os._exit(128 + number)


@contextlib.contextmanager
def command(argv: Sequence[str], *also: type[Exception], advice: str = "") -> Iterator[None]:
    """Inside, expected errors end in one message and exit status 1; others keep their traceback.

    Args:
      argv: the program, and unparsed arguments, which are errors.
      *also: expected besides EXPECTED_ERRORS.
      advice: appended to I/O and out-of-memory errors.
    """
    if len(argv) > 1:
        fail(f"unrecognized arguments: {' '.join(argv[1:])}", 2)
    if isinstance(sys.stdout, io.TextIOWrapper):  # It may be closed.
        # File names may hold lone surrogates, which cannot be encoded.
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    # It warns of every failed download attempt; the last one is an error anyway.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="tensorflow_datasets|orbax")
    if start.IS_PROGRAM and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop_at_once)
    _unwritten.clear()
    try:
        with quiet_orbax(), pinned(), _LongWork() as shown, listening(shown):
            yield
        if _unwritten:
            sys.exit(1)
    except (*EXPECTED_ERRORS, *also) as error:
        alone = jax.distributed.is_initialized() and not isinstance(error, SHARED_ERRORS)
        if alone or isinstance(error, CheckpointError):
            _fail_at_once(str(error))
        fail(str(error))
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _fail_at_once(f"{error.strerror or error}{where}{advice}")
    except Exception as error:
        text = str(error)
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in text:
            first = text.splitlines()[0]
            _fail_at_once(f"the device is out of memory: {first}\n{LESS_MEMORY}{advice}")
        with contextlib.suppress(OSError):
            traceback.print_exc()
        _fail_at_once()


def _fail_at_once(text: str = "") -> NoReturn:
    """Exits without the interpreter's shutdown.

    It might wait forever: JAX for other processes, Orbax for the rest of a failed save.
    """
    try:
        if text:
            say_error(text)
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    finally:
        if start.IS_PROGRAM:
            os._exit(1)
    sys.exit(1)


def command_line() -> str:
    """The running command, as typed."""
    words, script = sys.orig_argv[1:], shutil.which(start.SCRIPT)
    if script in words:
        return shlex.join([start.SCRIPT, *words[words.index(script) + 1 :]])
    here, interpreter = Path.cwd(), Path(sys.executable)
    if interpreter.is_relative_to(here):
        interpreter = interpreter.relative_to(here)
    return shlex.join([str(interpreter), *words])
