"""The training loop: config and folder in, trained and evaluated run out."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

import jax
import ml_collections

from emergent_icl.datasets.bank import DeviceBank
from emergent_icl.datasets.pipeline import FEEDERS, FeedSpec, resolve_feeder
from emergent_icl.evaluation import Evaluator, Results, chance, curves, results_json
from emergent_icl.experiment import Experiment, build_experiment
from emergent_icl.modules.network import Params, make_network
from emergent_icl.training import devices
from emergent_icl.training.checkpoints import CheckpointStore, Progress
from emergent_icl.training.clock import Clock
from emergent_icl.training.reporting import MetricsWriter, Observer, Record, read_metrics
from emergent_icl.training.state import TrainState, hyper_from_config
from emergent_icl.training.update import make_update
from emergent_icl.training.window import MetricsWindow, NonFiniteLossError
from emergent_icl.validation import validate
from emergent_icl.visualization.learning_curves import draw_learning_curves
from emergent_icl.workdir import Workdir, WorkdirError

PACKAGES = ("jax", "jaxlib", "dm-haiku", "optax", "orbax-checkpoint", "numpy")


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
) -> Outcome:
    """Trains a run to its last step, from its newest checkpoint if there is one.

    Args:
      config: the whole config; not changed.
      workdir: where the run lives.
      observer: told of what happens.
      stop_requested: see StopRequest.
      started: `time.monotonic()` at which the command started; None is now.

    Raises:
      ConfigError: the config cannot be run; nothing was touched.
      WorkdirError: the folder holds another run; nothing was touched.
      DataUnavailableError: the data are not to be had.
      NonFiniteLossError: a loss is not finite; the checkpoints before it stand.
      Interrupted: asked to stop; the state is saved.
    """
    started = time.monotonic() if started is None else started
    validate(config, jax.device_count())
    workdir.check(config)
    experiment = build_experiment(config)
    workdir.make()
    with CheckpointStore(workdir.checkpoints, config.checkpoints.keep) as store:
        latest, last = store.latest(), config.training.num_steps
        if latest is not None and latest > last:
            raise WorkdirError(
                f"{workdir.path} is at step {latest} already, beyond training.num_steps = {last}"
            )
        summary = workdir.read_summary()
        # A summary of fewer steps is that of the run before it was prolonged.
        if latest == last and summary is not None and summary["step"] == last:
            return Outcome(summary, was_complete=True)
        workdir.claim(config)
        state, carried = _restore_or_init(experiment, store, latest)
        window, clock = MetricsWindow(carried.window), Clock(carried, started)
        with MetricsWriter(workdir.metrics, workdir.tensorboard, latest or 0) as writer:
            try:
                results = _run_steps(
                    experiment, state, window, clock, store, writer, observer, stop_requested
                )
            finally:  # Of a run that was stopped, too.
                records, level = read_metrics(workdir.metrics), chance(experiment.plan)
                draw_learning_curves(records, config.name, level, workdir.learning_curves)
    summary = _summarise(experiment, state, results, clock.progress({}))
    # Written last: it says that the run is complete.
    workdir.write_json(workdir.summary, summary)
    return Outcome(summary, was_complete=False)


def _restore_or_init(
    experiment: Experiment, store: CheckpointStore, latest: int | None
) -> tuple[TrainState, Progress]:
    """The state [R, ...] to go on from, on the host."""
    if latest is not None:
        return store.restore(latest, experiment.state_template())
    seeds = [experiment.config.training.seed]
    return devices.stack_replicas([experiment.init(seed) for seed in seeds]), Progress()


def _run_steps(
    experiment: Experiment,
    state: TrainState,
    window: MetricsWindow,
    clock: Clock,
    store: CheckpointStore,
    writer: MetricsWriter,
    observer: Observer,
    stop_requested: StopRequest,
) -> Results:
    """Trains from `state` [R, ...] to the last step; returns the last evaluation."""
    config, training = experiment.config, experiment.config.training
    first, last = int(state.step[0]), training.num_steps
    feeder = resolve_feeder(config.data.feeder)
    observer.started(_facts(experiment, state, feeder))

    bank = devices.place_bank(experiment.arrays())
    evaluator = experiment.evaluator()
    call = _train_call(experiment)
    hyper = devices.replicate(devices.stack_replicas([hyper_from_config(config)]))
    device_state = devices.replicate(state)
    results: Results | None = None
    if signal_number := stop_requested():
        raise Interrupted(signal_number, first)

    with contextlib.closing(FEEDERS[feeder](_feed_spec(experiment), first)) as feed:
        for step in range(first, last, training.steps_per_call):
            batch = devices.shard_batch(next(feed))
            device_state, metrics = call(device_state, hyper, bank, batch)
            window.add(step, metrics)
            done = step + training.steps_per_call
            clock.advance(training.steps_per_call)
            observer.advanced(done)
            at_end = done == last

            record: Record = {}
            is_whole = done % training.log_every == 0
            if is_whole or at_end:
                # Part of a window is kept: the run may be prolonged, and complete it.
                means = window.mean(keep=not is_whole)
                record |= _training_record(means, clock, training.batch_size)
            if done % config.evaluation.every == 0 or at_end:
                with clock.paused():
                    results = _evaluate(evaluator, device_state, bank, done)
                    record |= _evaluation_record(results)
            if record:
                writer.write(done, record)
                observer.logged(done, record)

            signal_number = stop_requested()
            if done % config.checkpoints.every == 0 or at_end or signal_number:
                with clock.paused():
                    carried = window.settle()
                    store.save(_host_state(device_state), clock.progress(carried))
            if signal_number and not at_end:
                store.wait()
                raise Interrupted(signal_number, done)

    # None only where the command before was killed between its last checkpoint and
    # its summary.
    return results or _evaluate(evaluator, device_state, bank, last)


def _train_call(experiment: Experiment) -> devices.TrainCall:
    config = experiment.config
    plan = experiment.plan
    network = make_network(
        config.model, plan.num_labels, plan.num_positions, axis_name=devices.AXIS
    )
    update = make_update(
        network,
        experiment.optimizer,
        experiment.materialise,
        devices.AXIS,
        config.training.interim_weight,
    )
    return devices.make_train_call(update, config.training.steps_per_call)


def _feed_spec(experiment: Experiment) -> FeedSpec:
    training, kind = experiment.config.training, experiment.plan.training
    return FeedSpec(
        samplers=(kind.sample,),
        seeds=(training.seed,),
        batch_size=training.batch_size,
        seq_len=kind.seq_len,
        steps_per_call=training.steps_per_call,
        host_index=jax.process_index(),
        host_count=jax.process_count(),
    )


def _host_state(device_state: TrainState) -> TrainState:
    return devices.fetch(devices.first_device(device_state))


def _evaluate(
    evaluator: Evaluator, device_state: TrainState, bank: DeviceBank, step: int
) -> Results:
    replica = jax.tree.map(lambda leaf: leaf[0], devices.first_device(device_state))
    results = evaluator(replica.params, replica.batch_stats, devices.on_first_device(bank))
    for mode, metrics in results.items():
        if not math.isfinite(metrics["loss"].mean):
            raise NonFiniteLossError(step, metrics["loss"].mean, mode)
    return results


def _training_record(means: dict[str, float], clock: Clock, batch_size: int) -> Record:
    record: Record = {f"train/{name}": value for name, value in means.items()}
    steps_per_second = clock.lap()
    if steps_per_second is not None:
        record["steps_per_second"] = steps_per_second
        record["sequences_per_second"] = steps_per_second * batch_size
    return record


def _evaluation_record(results: Results) -> Record:
    return {
        f"eval/{mode}/{metric}": estimate.mean
        for mode, estimates in results.items()
        for metric, estimate in estimates.items()
    }


def _facts(experiment: Experiment, state: TrainState, feeder: str) -> dict[str, Any]:
    config, space = experiment.config, experiment.plan.space
    return {
        "experiment": config.name,
        "data": f"{experiment.bank.name}: {space.split.num_rare} rare, "
        f"{space.split.num_common} common, {space.split.num_holdout} holdout classes, "
        f"{space.num_exemplars} exemplars",
        "labels": experiment.plan.num_labels,
        "model": f"{config.model.encoder} + {config.model.sequence_model}, "
        f"{config.model.num_layers} layers, {count_parameters(state.params):,} parameters",
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "feeder": feeder,
        "first_step": int(state.step[0]),
        "last_step": config.training.num_steps,
        "batch_size": config.training.batch_size,
    }


def count_parameters(params: Params) -> int:
    """Numbers in a parameter tree whose leaves lead with one replica axis [1, ...]."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _summarise(
    experiment: Experiment, state: TrainState, results: Results, progress: Progress
) -> dict[str, Any]:
    """The content of summary.json."""
    config = experiment.config
    sequences = progress.train_steps * config.training.batch_size
    seconds = progress.train_seconds
    return {
        "step": config.training.num_steps,
        "wall_seconds": progress.wall_seconds,
        "parameters": count_parameters(state.params),
        "train_sequences_per_second": sequences / seconds if seconds else None,
        **curves(results),
        "evals": results_json(results),
        "config_name": config.name,
        "seed": config.training.seed,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }
