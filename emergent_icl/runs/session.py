"""Training from Python: in a notebook, a script or a thread, without changing any global state."""

import contextlib
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import flatten, has, is_plain
from emergent_icl.runs import train as loop
from emergent_icl.runs.open import Run, load_replicas, load_run
from emergent_icl.runs.records import SILENT, Display
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training.settings import DETERMINISTIC_FLAG, deterministic_flag, device_count


def train(config: ConfigDict, workdir: str | os.PathLike[str], display: Display = SILENT) -> Run:
    """Trains or resumes a run; returns it opened at its last step.

    A complete run is only opened, with the data at the paths in `config`. On the main thread,
    Ctrl-C (in a notebook, "interrupt") saves the run after the current step; a second Ctrl-C stops
    at once without saving.

    Args:
      config: see `get_config`.
      workdir: folder of the run, created if needed.
      display: receives metrics as they are written; by default, nothing is printed.

    Raises:
      ConfigError: the config is invalid or describes several replicas (see `train_replicas`).
      WorkdirError: the folder holds another run or other files, or is in use; nothing was changed.
      DataUnavailableError: the data are not available.
      NonFiniteLossError: the run diverged; earlier checkpoints are intact.
      KeyboardInterrupt: the run was interrupted. Call `train` again with the same arguments to
        resume it.
    """
    if not is_plain(config):
        problem = "training.replicas and replica_overrides train several runs: use train_replicas"
        raise ConfigError([problem])
    return load_run(workdir, overrides=_train(config, Workdir(workdir), display))


def train_replicas(
    config: ConfigDict, workdir: str | os.PathLike[str], display: Display = SILENT
) -> dict[str, Run]:
    """Trains all replicas of a config together; returns {name: run} of those that did not diverge.

    Otherwise like `train`. Raises NonFiniteLossError if all replicas diverge.
    """
    return load_replicas(workdir, _train(config, Workdir(workdir), display))


def _train(config: ConfigDict, workdir: Workdir, display: Display) -> dict[str, Any]:
    """Trains; returns {option: value} of where the data are, with which to open the run."""
    device_count()  # Raises an error that names the setting if there is none.
    is_gpu = jax.default_backend() == "gpu"
    if config.training.deterministic and not deterministic_flag() and is_gpu:
        warnings.warn(
            f"training.deterministic needs XLA_FLAGS={DETERMINISTIC_FLAG}=true before JAX is first "
            "used; without it, the last digits may differ between runs on this GPU",
            stacklevel=3,
        )
    with _interrupts() as requested:
        try:
            loop.train(config, workdir, display, requested)
        except loop.Interrupted as stop:
            raise KeyboardInterrupt(
                f"training stopped {loop.stopped_where(stop.step)}. Call train again with the same "
                "arguments to resume."
            ) from None
        finally:
            display.close()
    if requested():
        raise KeyboardInterrupt("interrupted after the last step; the run is complete")
    # A complete run keeps its own config, whose paths may be those of another machine.
    options = flatten(workdir.resumed(config)[0].to_dict())
    return {
        path: value
        for path, value in options.items()
        if has(path, "per_machine") and has(path, "reopenable")
    }


@contextlib.contextmanager
def _interrupts() -> Iterator[loop.StopRequest]:
    """Yields a poll for SIGINT, which is a request to stop from the first poll on."""
    # Before that, while data are loaded, SIGINT interrupts at once, as a second one always does.
    # Off the main thread, or if the program has its own handler, nothing changes.
    received: list[signal.Signals] = []
    before = signal.getsignal(signal.SIGINT)
    is_ours = threading.current_thread() is threading.main_thread()
    is_ours &= before is signal.default_int_handler

    def handle(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))

    def poll() -> signal.Signals | None:
        if is_ours and signal.getsignal(signal.SIGINT) is before:
            signal.signal(signal.SIGINT, handle)
        return received[0] if received else None

    try:
        yield poll
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, before)
        # A later poll must not install the handler again.
        is_ours = False
