"""Train or resume a run.

python -m experiments.train --config=NAME[:preset] --workdir=DIR [--config.x.y=z ...]
    [--max_minutes=M] [--stop_after=STEP]

A config is a preset by name, FILE.py[:preset], or the config.json of a run; without --config the
run in the folder resumes. Ctrl-C, SIGTERM, --max_minutes, and --stop_after save the run and exit;
rerun the command to resume.

To train one run with several processes, use `srun`, `mpirun`, or a TPU pod, or start each with
    --coordinator_address=HOST:PORT --num_processes=N --process_id=INDEX
"""

import contextlib
import functools
import math
import signal
import sys
import time
from collections.abc import Sequence

import ml_collections
from absl import flags

from emergent_icl.cli import cluster, console, start, tables
from emergent_icl.cli.flags import config_flag, workdir_flag
from emergent_icl.cli.progress import TrainingDisplay
from emergent_icl.cli.signals import STOP_SIGNALS
from emergent_icl.presets import stored
from emergent_icl.runs import train as loop
from emergent_icl.runs.processes import is_primary
from emergent_icl.runs.records import Display
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training import settings

_CONFIG, _WORKDIR = config_flag(), workdir_flag()
_MINUTES = flags.DEFINE_float(
    "max_minutes", None, "Save and exit, as on SIGTERM, this many minutes after the start.",
    lower_bound=0,
)  # fmt: skip
flags.register_validator(
    _MINUTES.name, lambda given: given is None or math.isfinite(given), "must be finite"
)
_STOP_AFTER = flags.DEFINE_integer(
    "stop_after", None, "Save and exit, as on SIGTERM, after this step, or soon after it: a call "
    "of the device may compute several steps (see training.steps_per_call).", lower_bound=1,
)  # fmt: skip


def main(argv: Sequence[str]) -> None:
    """Trains, and prints the results."""
    advice = "\nSaved checkpoints are intact. Rerun the command to resume."
    with console.command(argv, cluster.ClusterError, advice=advice):
        start.use_compilation_cache()
        config = _CONFIG.value if _CONFIG.present else stored.get_config(_WORKDIR.value)
        workdir = Workdir(_WORKDIR.value)
        # The devices of a stored run depend on its own options.
        resumed, _ = workdir.resumed(config)
        start.make_deterministic(resumed)
        start.use_cores(resumed)
        with cluster.joined():
            _train(config, workdir)


def _train(config: ml_collections.ConfigDict, workdir: Workdir) -> None:
    settings.device_count()  # Without a device, an error says why.
    # Of several processes, only the first prints.
    display = TrainingDisplay(start.STARTED) if is_primary() else Display()
    stop_requested = functools.partial(_stop_request, display)
    try:
        result = loop.train(config, workdir, display, stop_requested, start.STARTED)
    except BaseException as error:
        display.close()
        # An error in drawing must not hide this one.
        with contextlib.suppress(Exception):
            if isinstance(display, TrainingDisplay) and display.has_started:
                _draw(workdir)
        if not isinstance(error, loop.Interrupted):
            raise
        if is_primary():
            is_far = _STOP_AFTER.value is not None and display.reached_step >= _STOP_AFTER.value
            resume = f"To resume{' with a larger --stop_after' * is_far}"
            said = f"Stopped {loop.stopped_where(error.step)}."
            console.say(f"{said} {resume}:\n  {console.command_line()}")
        sys.exit(128 + error.signal)
    display.close()
    if is_primary():
        _say_result(result, workdir)


def _stop_request(display: Display) -> signal.Signals | None:
    """A signal that was received, or SIGTERM beyond --max_minutes or --stop_after."""
    minutes, stop = _MINUTES.value, _STOP_AFTER.value
    is_late = minutes is not None and time.monotonic() - start.STARTED >= 60 * minutes
    # A run that is at its end completes.
    is_far = stop is not None and stop <= display.reached_step < display.last_step
    return STOP_SIGNALS.poll() or (signal.SIGTERM if is_late or is_far else None)


def _say_result(result: loop.TrainResult, workdir: Workdir) -> None:
    if result.was_complete:
        console.say(
            f"The run in {workdir.path} is complete: {result.summary['step']} steps. "
            "Nothing was changed.\nTo start over, use another --workdir or remove that folder. "
            "To train longer, add --config.training.num_steps=N to a command with --config (for "
            f"example {workdir.config})."
        )
    with console.printing():
        tables.print_summary(result.summary)
    if result.was_complete and workdir.learning_curves.exists():
        console.say(f"Figure: {workdir.learning_curves}")
    else:
        console.write(workdir.learning_curves, lambda: _draw(workdir))


def _draw(workdir: Workdir) -> None:
    # Importing Matplotlib delays the first step by a second.
    from emergent_icl.plots import learning_curves

    learning_curves.draw(workdir)
