"""The training loop: from a config and a folder to a trained, evaluated run."""

import contextlib
import functools
import math
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from emergent_icl.config.configs import flatten, has
from emergent_icl.data.ticks import Listener, listening
from emergent_icl.evaluation.evaluate import Evaluator, Results
from emergent_icl.runs import initial, memory, processes, records, summaries
from emergent_icl.runs.check import check
from emergent_icl.runs.checkpoints import CheckpointStore
from emergent_icl.runs.loggers import Loggers, Opening, check_loggers
from emergent_icl.runs.progress import Fetch, NonFiniteLossError, Progress, Tracker, utc_now
from emergent_icl.runs.recorded_data import check_data, record_data
from emergent_icl.runs.records import SILENT, Display, MetricsWriter, Record
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training import devices, settings
from emergent_icl.training.agenda import agendas
from emergent_icl.training.build import Experiment, build
from emergent_icl.training.step import Step, make_step
from emergent_icl.training.update import TrainState


class Interrupted(Exception):  # noqa: N818  (not an error: the run stopped on request)
    """A signal stopped the run; its state after `step` is saved. None: nothing had been done."""

    def __init__(self, signal_number: signal.Signals, step: int | None) -> None:
        self.signal, self.step = signal_number, step
        super().__init__(f"stopped by {signal_number.name} {stopped_where(step)}")


def stopped_where(step: int | None) -> str:
    """Where a run stopped on request, for messages."""
    if step is None:
        return "before the next step; there was nothing to save"
    return f"after step {step}; the state is saved"


class TrainResult(NamedTuple):
    """The outcome of `train`."""

    summary: dict[str, Any]  # content of summary.json
    was_complete: bool  # before the call: nothing was trained


# Polled after every device call: the signal that requests a stop, or None.
StopRequest = Callable[[], signal.Signals | None]


@settings.pinned()
def train(
    config: ConfigDict,
    workdir: Workdir,
    display: Display = SILENT,
    stop_requested: StopRequest = lambda: None,
    started: float | None = None,
    fetch: Fetch = devices.fetch,
) -> TrainResult:
    """Trains or resumes a run, or several replicas of it, up to the last step.

    If JAX's distributed runtime joins several processes, all call this with the same arguments and
    files; only process 0 writes. `started` is the start of the command in `time.monotonic()`;
    `fetch` copies metrics and states to the host.

    Raises:
      ConfigError, DataUnavailableError, SettingError: it cannot run. Nothing was changed.
      WorkdirError: the folder holds another run, lacks lines of metrics, or is in use.
        DisagreementError: the processes were started differently. OtherDataError: the data differ.
      NonFiniteLossError: the run, or its last replica, diverged, which the summary records;
        earlier checkpoints are intact.
      Interrupted: stopped on request; whatever was computed is saved.
    """
    started = time.monotonic() if started is None else started
    with listening(_stopping(stop_requested)):
        experiment, weights, kept = _prepare(config, workdir)
    config = experiment.config
    workdir.make()
    lock = processes.on_primary(workdir.locked)
    with lock, CheckpointStore(workdir.checkpoints, config.checkpoints.keep, config) as store:
        workdir.check(config)  # Again, now that no other command can change it.
        complete = summaries.of_complete_run(experiment, workdir, store)
        processes.check_agreement(lambda: _what_must_agree(experiment))
        check_data(workdir, experiment.bank, experiment.replicas)
        # Processes may see different listings of a shared folder.
        if processes.of_primary(complete is not None):
            return TrainResult(complete or {}, was_complete=True)
        start, carried = _resume(experiment, weights, workdir, store, display)
        step = make_step(experiment, int(start.step[0]), carried.steps_per_call)
        display.started(records.facts(experiment, start, step, kept))
        tracker = Tracker(experiment.replicas, step, carried, started, fetch)
        summarize = functools.partial(summaries.write, experiment, start, tracker, workdir)
        try:
            results = _loop(
                experiment, start, step, tracker, workdir, store, display, stop_requested
            )
        except NonFiniteLossError as error:
            summarize(error.step, {})
            raise
        store.wait()
        return TrainResult(summarize(config.training.num_steps, results), was_complete=False)


def _prepare(
    config: ConfigDict, workdir: Workdir
) -> tuple[Experiment, Sequence[initial.Weights], dict[str, Any]]:
    """Checks everything; the experiment, its initial weights, and options that it keeps."""
    config, kept = workdir.resumed(config)
    replicas = check(config, settings.device_count())
    processes.check_devices(config)
    workdir.check(config)
    check_loggers(config)
    config, replicas, weights = initial.find(config, replicas, workdir)
    return build(config, replicas), weights, kept


def _stopping(stop_requested: StopRequest) -> Listener:
    """Ends long preparations if a signal requests a stop."""

    def listener(what: str, done: int, total: int) -> None:
        if signal_number := stop_requested():
            raise Interrupted(signal_number, None)

    return listener


def _what_must_agree(experiment: Experiment) -> dict[str, Any]:
    """Facts in which all processes of a run must agree."""
    config = flatten(experiment.config.to_dict())
    return {
        "config": {path: value for path, value in config.items() if not has(path, "per_machine")},
        "source of the data": experiment.bank.source,
        "checksum of the data": experiment.bank.checksum,
        "versions": records.versions(("emergent-icl", *records.PACKAGES)),
    }


def _resume(
    experiment: Experiment,
    weights: Sequence[initial.Weights],
    workdir: Workdir,
    store: CheckpointStore,
    display: Display,
) -> tuple[TrainState, Progress]:
    """The state [R, ...] to resume from, on the host; claims the folder for this run."""
    template = experiment.state_template()
    found = None
    if processes.is_primary():
        found = store.newest(template)
        for step, why in found.unreadable.items() if found else ():
            display.set_aside(step, why, store.set_aside(step))
        state = found.state if found else initial.first_state(experiment, weights)
    else:
        state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template)
    carried = processes.of_primary(found and found.progress._asdict())
    state = processes.state_of_primary(state)
    # Only now are its checkpoints known to be from this config.
    if processes.is_primary():
        first = int(state.step[0])
        records.check_lines(workdir, experiment.config, first)
        workdir.claim(experiment.config)
        record_data(workdir, experiment.bank, experiment.replicas, first)
        summaries.drop_later(workdir, first, display)
    return state, Progress(**carried) if carried else Progress(started=utc_now())


def _loop(
    experiment: Experiment,
    start: TrainState,
    step: Step,
    tracker: Tracker,
    workdir: Workdir,
    store: CheckpointStore,
    display: Display,
    stop_requested: StopRequest,
) -> dict[str, Results]:
    """The training loop from a host state [R, ...]; returns each replica's last evaluation."""
    config, steps_per_call = experiment.config, step.steps_per_call
    first, last = int(start.step[0]), config.training.num_steps
    evaluations, saves = agendas(config, steps_per_call)
    store.listed = saves.listed
    # The initial state may also be evaluated and saved.
    is_new = first == 0 and not tracker.is_resumed
    there = _unfinished_lines(workdir, first, last)
    repeats_first = there is not None or (is_new and (evaluations.has(0) or saves.has(0)))
    begin = first if repeats_first else first + steps_per_call
    evaluators, votes = experiment.evaluators(), processes.stop_votes(stop_requested)
    results, state = dict[str, Results](), step.layout.place(start)
    if signal_number := next(votes):
        raise Interrupted(signal_number, None)

    logged = first - 1 if is_new or there is not None else first
    writing = _open_metrics(experiment, workdir, tracker, logged)
    with writing as writer, contextlib.closing(step.feed(first)) as feed:
        for done in range(begin, last + 1, steps_per_call):
            if done > first:
                state, metrics = step.call(state, next(feed))
                tracker.add(done - steps_per_call, metrics)
                display.advanced(done)
            at_end, is_saved = done == last, done == first > 0
            lines = _lines(config, tracker, done, (done == first and there) or {})
            if evaluates := evaluations.has(done) or at_end:
                results = _evaluate(evaluators, step, state, tracker, done)
            _write(lines, results if evaluates else {}, done, writer, display)

            signal_number = next(votes)
            if not is_saved and (saves.has(done) or at_end or signal_number):
                _save(store, writer, step, state, tracker, done)
            for diverged in tracker.newly_diverged():
                display.diverged(*diverged)
            if signal_number and not at_end:
                store.wait()
                raise Interrupted(signal_number, done)

    # Empty only if a command was killed between the last checkpoint and its summary.
    return results or _evaluate(evaluators, step, state, tracker, last)


def _unfinished_lines(workdir: Workdir, first: int, last: int) -> dict[str, Record] | None:
    """The last step's lines if the run was stopped there before they were whole, else None."""
    if first < last:
        return None
    there = processes.of_primary(records.lines_at(workdir.metrics, last))
    is_whole = there and all(map(records.is_whole, there.values()))
    return None if is_whole else there


def _lines(
    config: ConfigDict, tracker: Tracker, done: int, there: dict[str, Record]
) -> dict[str, Record]:
    """Training metrics that are due after a step, with those already `there`."""
    is_whole = done % config.training.log_every == 0
    # An incomplete line is kept, because an extended run may complete it.
    is_due = is_whole or done == config.training.num_steps
    return there | (tracker.line(keep=not is_whole) if is_due else {})


def _open_metrics(
    experiment: Experiment, workdir: Workdir, tracker: Tracker, logged: int
) -> contextlib.AbstractContextManager[MetricsWriter | None]:
    """On process 0, opens metrics.jsonl after the `logged` step, and the loggers."""
    opening = Opening(workdir, experiment.config, experiment.replicas, logged, tracker.begun)
    return processes.on_primary(lambda: MetricsWriter(workdir, logged, Loggers(opening)))


def _write(
    lines: dict[str, Record],
    results: dict[str, Results],
    step: int,
    writer: MetricsWriter | None,
    display: Display,
) -> None:
    """Writes and shows the training metrics and evaluations of a step."""
    for name, found in results.items():
        means = {
            f"eval/{mode}/{metric}": interval.mean
            for mode, metrics in found.items()
            for metric, interval in metrics.items()
        }
        lines[name] = lines.get(name, {}) | means
    if lines:
        if writer is not None:
            writer.write(step, lines)
        display.logged(step, lines)


def _evaluate(
    evaluators: Sequence[Evaluator], step: Step, state: TrainState, tracker: Tracker, done: int
) -> dict[str, Results]:
    """Evaluates every replica that has not diverged."""
    results = {}
    with tracker.paused():
        bank = devices.on_first_device(step.bank)
        for index, name in enumerate(tracker.names):
            if name in tracker.diverged:
                continue
            model = step.layout.replica((state.params, state.batch_stats), index)
            found = evaluators[index](*model, bank)
            for mode, metrics in found.items():
                if not math.isfinite(loss := metrics["loss"].mean):
                    tracker.mark(index, done, f"The loss on {mode} at step {done} is {loss}")
            if name not in tracker.diverged:
                results[name] = found
        memory.release()
    return results


def _save(
    store: CheckpointStore,
    writer: MetricsWriter | None,
    step: Step,
    state: TrainState,
    tracker: Tracker,
    done: int,
) -> None:
    """Starts to save the state and progress after `done` steps, whose lines are on disk."""
    with tracker.paused():
        host = step.layout.state_on_host(tracker.fetch(step.layout.needed(state)))
        for index, name in enumerate(tracker.names):
            if name not in tracker.diverged and (leaves := non_finite_leaves(host, index)):
                what = f"The state after step {done} is not finite in {', '.join(leaves)}"
                tracker.mark(index, done, what)
        if writer is not None:
            writer.sync()
        store.save(host, tracker.progress())
        memory.release()


def non_finite_leaves(state: TrainState, replica: int = 0) -> list[str]:
    """Names of the leaves [R, ...] where a replica has a NaN or an infinity."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return [
        jax.tree_util.keystr(path)
        for path, leaf in leaves
        if np.issubdtype(leaf.dtype, np.floating) and not np.isfinite(leaf[replica]).all()
    ]
