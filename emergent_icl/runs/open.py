"""Trained runs, opened by their folders."""

from __future__ import annotations

import os
from typing import NamedTuple

import jax
import ml_collections

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import has, in_words, prefixes, with_options
from emergent_icl.data.bank import DeviceBank
from emergent_icl.models.network import BatchStats, Params
from emergent_icl.runs.check import check
from emergent_icl.runs.checkpoints import CheckpointStore
from emergent_icl.runs.recorded_data import check_data
from emergent_icl.runs.workdir import DivergedError, Workdir, WorkdirError
from emergent_icl.training.build import Experiment, build
from emergent_icl.training.replicas import Replica, capacities


class Run(NamedTuple):
    """A trained run, opened, as of a checkpoint; host arrays."""

    experiment: Experiment
    step: int
    params: Params
    batch_stats: BatchStats  # BatchNorm's running averages
    trained: ml_collections.ConfigDict  # that of the experiment, before anything was overridden

    def device_bank(self) -> DeviceBank:
        """The bank on the default device."""
        return jax.device_put(self.experiment.arrays())


def load_run(
    workdir: str | os.PathLike[str],
    step: int | None = None,
    overrides: dict[str, object] | None = None,
    replica: str | None = None,
) -> Run:
    """Opens a run; needs nothing but its work directory (and its data).

    Args:
      workdir: the folder that `experiments.train` wrote.
      step: of the checkpoint; None is the newest.
      overrides: {'evaluation.num_sequences': 10_000, ...}, among the options that are
        `reopenable`: others would make it another run.
      replica: name of the one to open as if it were alone, where several were trained together.

    Raises:
      WorkdirError: no run there, no such checkpoint or replica; DivergedError, one of these,
        if the replica diverged.
      ConfigError: an override is not allowed, or the run needs an extension that was not
        imported (docs/extending.md).
      OtherDataError: its data have changed.
      DataUnavailableError: its data are not to be had.
    """
    folder, overrides = Workdir(workdir), overrides or {}
    written = _written(folder, overrides)
    together = check(written)
    index = _index(folder, [one.name for one in together], replica)
    trained = together[index]
    # As it was trained, whatever the overrides ask of it.
    fixed = with_options(trained.config, capacities((trained,)))
    config, replicas = _overridden(fixed, overrides)
    with CheckpointStore(folder.checkpoints, config=written) as store:
        step = _checkpoint(folder, store, step)
        experiment = build(config, replicas)
        check_data(folder, experiment.bank, (trained,))
        state, progress = store.restore(step, experiment.state_template(len(together)))
    if trained.name in progress.diverged:
        raise DivergedError(
            f"replica '{trained.name}' of {folder.path} diverged at step "
            f"{progress.diverged[trained.name]}; its checkpoint of step {step} holds nothing of use"
        )
    own = jax.tree.map(lambda leaf: leaf[index], state)
    return Run(experiment, step, own.params, own.batch_stats, trained.config)


def replica_names(
    workdir: str | os.PathLike[str], overrides: dict[str, object] | None = None
) -> list[str]:
    """Names of the replicas that were trained there, [''] for a run alone; as `load_run`."""
    return [replica.name for replica in check(_written(Workdir(workdir), overrides or {}))]


def _written(folder: Workdir, overrides: dict[str, object]) -> ml_collections.ConfigDict:
    """The config of the folder, with its data where they are now: they may have moved since."""
    moved = {path: value for path, value in overrides.items() if has(path, "per_machine")}
    return with_options(folder.read_config(), moved)


def _index(folder: Workdir, names: list[str], replica: str | None) -> int:
    """Which of the replicas of a folder is asked for."""
    if replica is None and len(names) == 1:
        return 0
    if replica in names and replica:
        return names.index(replica)
    if names == [""]:
        raise WorkdirError(f"{folder.path} holds a single run, without replicas")
    hint = "" if replica is None else f", none of the name '{replica}'"
    raise WorkdirError(f"{folder.path} holds the replicas {', '.join(names)}{hint}: name one")


def _overridden(
    config: ml_collections.ConfigDict, overrides: dict[str, object]
) -> tuple[ml_collections.ConfigDict, tuple[Replica, ...]]:
    """A valid, locked copy with some options changed, and what was derived from it."""
    may = prefixes("reopenable")
    fixed = [path for path in overrides if not path.startswith(may)]
    if fixed:
        told = f"is part of what was trained (may differ: {in_words(may)})"
        raise ConfigError([f"{path} {told}" for path in fixed])
    try:
        changed = with_options(config, overrides)
    except (KeyError, TypeError) as error:
        raise ConfigError([str(error.args[0])]) from error
    return changed, check(changed)


def _checkpoint(folder: Workdir, store: CheckpointStore, step: int | None) -> int:
    """The step of the checkpoint that is asked for, the newest if that is None."""
    steps = store.steps() if folder.checkpoints.is_dir() else []
    if not steps:
        raise WorkdirError(f"{folder.path} has no checkpoints yet")
    if step is not None and step not in steps:
        raise WorkdirError(f"{folder.path} has no checkpoint of step {step}, only of {steps}")
    return steps[-1] if step is None else step
