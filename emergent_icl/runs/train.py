"""The training loop: config and folder in, trained and evaluated run out."""

from __future__ import annotations

import contextlib
import math
import signal
import time
import zlib
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from emergent_icl.config.configs import PLACES, flatten
from emergent_icl.evaluation.evaluate import Evaluator, Results, chance
from emergent_icl.plots.learning_curves import draw_learning_curves
from emergent_icl.runs import processes
from emergent_icl.runs.check import validate
from emergent_icl.runs.checkpoints import CheckpointStore, Progress, non_finite_leaves
from emergent_icl.runs.clock import Clock
from emergent_icl.runs.reporting import MetricsWriter, Observer, Record, SilentWriter, read_metrics
from emergent_icl.runs.summary import evaluation_record, facts, summarise, training_record, versions
from emergent_icl.runs.window import Fetch, MetricsWindow
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.training import devices
from emergent_icl.training.build import Experiment, build_experiment
from emergent_icl.training.step import Step, initial_state, make_step
from emergent_icl.training.update import TrainState


class Interrupted(Exception):  # noqa: N818  (not an error: the run was asked to stop, and did)
    """The run was asked to stop; its state is saved.

    Attributes:
      signal: that asked for it.
      step: of the checkpoint that was saved.
    """

    def __init__(self, signal_number: signal.Signals, step: int) -> None:
        self.signal, self.step = signal_number, step
        super().__init__(f"stopped by {signal_number.name} after step {step}; the state is saved")


class Outcome(NamedTuple):
    """How a call of `train` ended.

    Attributes:
      summary: the content of summary.json.
      was_complete: whether there was nothing left to do.
    """

    summary: dict[str, Any]
    was_complete: bool


# Polled after every call of the device: a signal to stop for, or None.
StopRequest = Callable[[], signal.Signals | None]


def train(
    config: ml_collections.ConfigDict,
    workdir: Workdir,
    observer: Observer,
    stop_requested: StopRequest = lambda: None,
    started: float | None = None,
    fetch: Fetch = devices.fetch,
) -> Outcome:
    """Trains a run, or several replicas of it, to the last step; goes on from a checkpoint.

    Where JAX's distributed runtime joins several processes, each of them calls this with the
    same arguments, on the same files; process 0 alone writes metrics, figures and summary.

    Args:
      config: the whole config; not changed.
      workdir: where the run lives.
      observer: told of what happens.
      stop_requested: see StopRequest.
      started: `time.monotonic()` at which the command started; None is now.
      fetch: the one way of metrics and states from the devices to the host.

    Raises:
      ConfigError: the config cannot be run; nothing was touched.
      WorkdirError: the folder holds another run, or the processes were started differently
        (DisagreementError); nothing was touched.
      DataUnavailableError: the data are not to be had.
      NonFiniteLossError: a loss is not finite (with replicas: no replica is left); the
        checkpoints before it stand.
      Interrupted: asked to stop; the state is saved.
    """
    started = time.monotonic() if started is None else started
    validate(config, jax.device_count())
    processes.check_devices()
    workdir.check(config)
    experiment = build_experiment(config)
    workdir.make()
    keep = config.checkpoints.keep
    with _locked(workdir), CheckpointStore(workdir.checkpoints, keep, config) as store:
        # Once more, now that nobody else can change it.
        workdir.check(config)
        latest, last = store.latest(), config.training.num_steps
        if latest is not None and latest > last:
            raise WorkdirError(
                f"{workdir.path} is at step {latest} already, beyond training.num_steps = {last}"
            )
        summary = workdir.read_summary()
        # A summary of fewer steps is that of the run before it was prolonged.
        is_complete = latest == last and summary is not None and summary["step"] == last
        processes.check_agreement(lambda: _start_facts(experiment))
        # A shared folder need not look the same everywhere at once.
        if processes.of_primary(is_complete):
            return Outcome(summary or {}, was_complete=True)
        state, carried = _restore_or_init(experiment, store, observer)
        # Not before its checkpoints are known to be this config's.
        if processes.is_primary():
            workdir.claim(config)
        with _open_writer(workdir, int(state.step[0])) as writer:
            clock = Clock(carried, started)
            session = _Session(experiment, state, carried, clock, store, writer, observer, fetch)
            try:
                results = session.run(state, stop_requested)
            finally:  # Of a run that was stopped, too.
                if processes.is_primary():
                    _draw_curves(experiment, workdir)
        store.wait()
        diverged, progress = session.window.diverged, session.progress()
        summary = summarise(experiment, state, results, diverged, progress)
        # Written last: it says that the run is complete.
        if processes.is_primary():
            workdir.write_json(workdir.summary, summary)
    return Outcome(summary, was_complete=False)


def _start_facts(experiment: Experiment) -> dict[str, Any]:
    """What all processes of a run must have in common."""
    config = flatten(experiment.config.to_dict())
    return {
        "config": {path: value for path, value in config.items() if path not in PLACES},
        "checksum of the data": zlib.crc32(np.ascontiguousarray(experiment.bank.examples)),
        "versions": {"emergent-icl": metadata.version("emergent-icl"), **versions()},
    }


def _open_writer(workdir: Workdir, resume_step: int) -> MetricsWriter | SilentWriter:
    if not processes.is_primary():
        return SilentWriter()
    return MetricsWriter(workdir.metrics, workdir.tensorboard, resume_step)


def _draw_curves(experiment: Experiment, workdir: Workdir) -> None:
    """Nothing that goes wrong here may hide what ended the run, or keep it from its summary."""
    # In a folder that was deleted nothing is made anew.
    with contextlib.suppress(Exception):
        if workdir.metrics.exists():
            _try_to_draw_curves(experiment, workdir)


def _try_to_draw_curves(experiment: Experiment, workdir: Workdir) -> None:
    levels = {chance(replica.task) for replica in experiment.replicas}
    level = levels.pop() if len(levels) == 1 else None
    records = read_metrics(workdir.metrics)
    draw_learning_curves(records, experiment.config.name, level, workdir.learning_curves)


def _restore_or_init(
    experiment: Experiment, store: CheckpointStore, observer: Observer
) -> tuple[TrainState, Progress]:
    """The state [R, ...] to go on from, on the host; what cannot be read is set aside."""
    template = experiment.state_template()
    found = None
    if processes.is_primary():
        found = store.newest(template)
        for step, why in found.unreadable if found else ():
            observer.set_aside(step, why, store.set_aside(step))
        state = found.state if found else initial_state(experiment)
    else:
        state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template)
    carried = processes.of_primary(found and found.progress._asdict())
    return processes.state_of_primary(state), Progress(**(carried or {}))


def _locked(workdir: Workdir) -> contextlib.AbstractContextManager[None]:
    return workdir.locked() if processes.is_primary() else contextlib.nullcontext()


class _Session:
    """One command's way through the steps, with all that it needs at hand."""

    def __init__(
        self,
        experiment: Experiment,
        state: TrainState,
        carried: Progress,
        clock: Clock,
        store: CheckpointStore,
        writer: MetricsWriter | SilentWriter,
        observer: Observer,
        fetch: Fetch,
    ) -> None:
        self.experiment, self.clock, self.store = experiment, clock, store
        self.writer, self.observer, self.fetch = writer, observer, fetch
        self.names = [replica.name for replica in experiment.replicas]
        self.first = int(state.step[0])
        self.step: Step = make_step(experiment, self.first, carried.steps_per_call)
        self.window = MetricsWindow(self.step.layout, self.names, carried, fetch)
        self.evaluators: list[Evaluator] = experiment.evaluators()
        self.told_diverged = set(carried.diverged)
        self.stop_vote = processes.StopVote()
        observer.started(facts(experiment, state, self.step))

    def run(self, host_state: TrainState, stop_requested: StopRequest) -> list[Results | None]:
        """Trains from `host_state` [R, ...] to the last step.

        Returns:
          The last evaluation of each replica, None of one that diverged.
        """
        config, steps_per_call = self.experiment.config, self.step.steps_per_call
        last = config.training.num_steps
        state = self.step.place(host_state)
        results: list[Results | None] | None = None
        if signal_number := self.stop_vote.now(stop_requested()):
            raise Interrupted(signal_number, self.first)

        with contextlib.closing(self.step.feed(self.first)) as feed:
            for step in range(self.first, last, steps_per_call):
                state, metrics = self.step.call(state, next(feed))
                self.window.add(step, metrics)
                done = step + steps_per_call
                self.clock.advance(steps_per_call)
                self.observer.advanced(done)
                at_end = done == last

                records: dict[str, Record] = {name: {} for name in self.names}
                is_whole = done % config.training.log_every == 0
                if is_whole or at_end:
                    # Part of a window is kept: the run may be prolonged, and complete it.
                    self._log_training(records, keep=not is_whole)
                if done % config.evaluation.every == 0 or at_end:
                    results = self._evaluate(state, done)
                    self._log_evaluation(records, results)
                self._write(done, records)

                signal_number = self.stop_vote.poll(stop_requested())
                if done % config.checkpoints.every == 0 or at_end or signal_number:
                    self._save(state, done)
                if signal_number and not at_end:
                    self.store.wait()
                    raise Interrupted(signal_number, done)

        # None only where the command before was killed between its last checkpoint and
        # its summary.
        return results or self._evaluate(state, last)

    def progress(self) -> Progress:
        """What a checkpoint carries on."""
        carried = self.clock.progress(self.window.settle(), self.window.diverged)
        return carried._replace(steps_per_call=self.step.steps_per_call)

    def _catch_up(self) -> None:
        """Waits for the device on the clock, before something that is not on it."""
        self.window.settle()
        self.clock.advance(0)

    def _log_training(self, records: dict[str, Record], keep: bool) -> None:
        means, steps_per_second = self.window.means(keep), self.clock.lap()
        batch_size = self.experiment.config.training.batch_size
        for name, own in zip(self.names, means, strict=True):
            if own:
                records[name] |= training_record(own, steps_per_second, batch_size)

    def _evaluate(self, state: TrainState, step: int) -> list[Results | None]:
        # Who has diverged by now is not evaluated.
        self._catch_up()
        bank = devices.on_first_device(self.step.bank)
        results: list[Results | None] = [None for _ in self.names]
        with self.clock.paused():
            for index, evaluate in enumerate(self.evaluators):
                if self.names[index] in self.window.diverged:
                    continue
                model = (state.params, state.batch_stats)
                found = evaluate(*self.step.layout.replica(model, index), bank)
                for mode, metrics in found.items():
                    loss = metrics["loss"].mean
                    if not math.isfinite(loss):
                        what = f"The loss on {mode} at step {step} is {loss}"
                        self.window.mark(index, step, what)
                if self.names[index] not in self.window.diverged:
                    results[index] = found
        return results

    def _log_evaluation(self, records: dict[str, Record], results: list[Results | None]) -> None:
        for name, found in zip(self.names, results, strict=True):
            if found is not None:
                records[name] |= evaluation_record(found)

    def _write(self, step: int, records: dict[str, Record]) -> None:
        full = {name: record for name, record in records.items() if record}
        if full:
            self.writer.write(step, full)
            self.observer.logged(step, full)
        self._tell_diverged()

    def _tell_diverged(self) -> None:
        for name, seen in self.window.diverged.items():
            if name not in self.told_diverged:
                self.told_diverged.add(name)
                self.observer.diverged(name, seen)

    def _save(self, state: TrainState, step: int) -> None:
        self._catch_up()
        layout = self.step.layout
        with self.clock.paused():
            host = layout.state_on_host(self.fetch(layout.needed(state)))
            # The store itself refuses the state of a run that is alone.
            for index, name in enumerate(self.names):
                known = not name or name in self.window.diverged
                if not known and (leaves := non_finite_leaves(host, index)):
                    what = f"The state after step {step} is not finite in {', '.join(leaves)}"
                    self.window.mark(index, step, what)
            bad = [i for i, name in enumerate(self.names) if name in self.window.diverged]
            self.store.save(host, self.progress(), bad)
        self._tell_diverged()
