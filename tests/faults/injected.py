"""experiments.train with an injected fault.

python tests/faults/injected.py FAULT AT [flags of experiments.train]

AT is the step at which it occurs. Each fault imitates a machine's, in the same place.
"""

import errno
import os
import resource
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
from absl import app  # noqa: E402

from emergent_icl.cli import train  # noqa: E402
from emergent_icl.cli.flags import parse_flags  # noqa: E402
from emergent_icl.cli.signals import STOP_SIGNALS  # noqa: E402
from emergent_icl.runs import checkpoints, loggers, records  # noqa: E402
from emergent_icl.training import devices  # noqa: E402
from emergent_icl.training import step as program  # noqa: E402


def half_a_line(at):
    """Killed in the middle of a line of metrics."""

    def write(self, step, lines, whole=records.MetricsWriter.write):
        if step == at:
            line = records._line({"step": step, **next(iter(lines.values()))})
            self._file.write(line[: len(line) // 2])
            self._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        whole(self, step, lines)

    records.MetricsWriter.write = write


def no_space_for_metrics(at):
    """The disk is full when a line is written."""

    def write(self, step, lines, whole=records.MetricsWriter.write):
        if step == at:
            raise OSError(errno.ENOSPC, "No space left on device", self._path)
        whole(self, step, lines)

    records.MetricsWriter.write = write


def no_space_for_files(at):
    """From the checkpoint of that step on, no file can exceed a kilobyte."""

    def save(self, state, *others, whole=checkpoints.CheckpointStore.save):
        if int(state.step[0]) == at:
            self.wait()
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
            whole(self, state, *others)
            self.wait()
        else:
            whole(self, state, *others)

    checkpoints.CheckpointStore.save = save


def no_space_for_anything(at):
    """From that line of metrics on, no file can exceed a kilobyte."""

    def write(self, step, lines, whole=records.MetricsWriter.write):
        if step == at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
        whole(self, step, lines)

    records.MetricsWriter.write = write


def no_space_for_events(at):
    """No more of TensorBoard's file can be written."""

    def flush(self, whole=loggers.EventsWriter.flush):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))
        whole(self)

    def write(self, step, lines, whole=loggers.TensorBoard.write):
        if step == at:
            loggers.EventsWriter.flush = flush
            self._next_flush = 0
        whole(self, step, lines)

    loggers.TensorBoard.write = write


def out_of_memory(at):
    """The device is out of memory."""

    def fail(state):
        raise jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 68719476736 bytes."
        )

    at_step(at, fail)


def nan(at, where=...):
    """Parameters [D, R, ...] become NaN, by default in all replicas."""

    def poison(state):
        poisoned = jax.tree.map(lambda leaf: leaf.at[where].set(float("nan")), state.params)
        return state._replace(params=poisoned)

    at_step(at, poison)


def nan_in_one(at):
    """Parameters of the first replica on the first device become NaN."""
    nan(at, (0, 0))


def clock_jumps(at):
    """The time of day alternately jumps back and forward by a day."""
    right, calls = time.time, [0]

    def jumping():
        calls[0] += 1
        return right() - 86_400 * (calls[0] % 2)

    time.time = jumping


def at_step(at, change):
    """Calls `change` with the state after step `at`; it may return another state."""

    def make(*arguments, whole=devices.make_train_call, **settings):
        call = whole(*arguments, **settings)

        def changed(state, *others):
            if int(state.step.ravel()[0]) == at:
                state = change(state) or state
            return call(state, *others)

        return changed

    program.devices.make_train_call = make


FAULTS = (
    half_a_line, no_space_for_metrics, no_space_for_files, no_space_for_anything,
    no_space_for_events, out_of_memory, nan, nan_in_one, clock_jumps,
)  # fmt: skip

if __name__ == "__main__":
    name, step = sys.argv[1:3]
    {fault.__name__: fault for fault in FAULTS}[name](int(step))
    STOP_SIGNALS.install()
    app.run(train.main, [sys.argv[0], *sys.argv[3:]], flags_parser=parse_flags)
