"""Initial weights from another run: reads, checks, and inserts them into the first state."""

import logging
from collections.abc import Iterator, Sequence

import jax
from ml_collections import ConfigDict

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import named_overrides, with_options
from emergent_icl.config.registry import nearest_name
from emergent_icl.runs import leaks, processes
from emergent_icl.runs.check import check
from emergent_icl.runs.checkpoints import CheckpointStore, checksum
from emergent_icl.runs.open import named_run
from emergent_icl.runs.workdir import DivergedError, Workdir, WorkdirError
from emergent_icl.training import devices
from emergent_icl.training.build import Experiment, weight_shapes
from emergent_icl.training.replicas import Replica
from emergent_icl.training.step import initial_state
from emergent_icl.training.update import TrainState, Weights, named_weights

logger = logging.getLogger(__name__)

# Maximum number of arrays that an error lists.
_MOST_LISTED = 5
# The option that records which weights were used.
CHECKSUM = "training.initial.checksum"


def find(
    config: ConfigDict, replicas: tuple[Replica, ...], workdir: Workdir
) -> tuple[ConfigDict, tuple[Replica, ...], Sequence[Weights]]:
    """Reads the initial weights of a run; returns (config, replicas, weights).

    The config gets the checksum of the weights. There are none on processes other than 0, if the
    config names no run, or if this run already has checkpoints: it no longer needs the other run.

    Raises:
      ConfigError: on every process, if they are unreadable, do not fit, or have changed.
    """
    recorded, weights, problems = config.training.initial.checksum, [], []
    if not any(one.config.training.initial.run for one in replicas):
        if recorded is not None:
            raise ConfigError([f"{CHECKSUM} = {recorded} needs training.initial.run"])
        return config, replicas, weights
    if processes.is_primary() and (recorded is None or not workdir.holds_checkpoints()):
        weights, problems = read(replicas)
        found = checksum(weights)
        for warning in () if problems else (*leaks.warnings(replicas), *leaks.doubts(replicas)):
            logger.warning("%s", warning)
        if not problems and recorded not in (None, found):
            problems = [
                f"{CHECKSUM} = {recorded} is recorded, but the weights of training.initial.run now "
                f"have checksum {found}; use the same run and step, or another --workdir"
            ]
        recorded = found
    recorded, problems = processes.of_primary([recorded, problems])
    if problems:
        raise ConfigError(problems)
    config = with_options(config, {CHECKSUM: recorded})
    return config, check(config, jax.device_count()), weights


def read(replicas: Sequence[Replica]) -> tuple[list[Weights], list[str]]:
    """Initial weights of each replica, and problems with them; compiles nothing."""
    weights, problems = [], []
    for name, config, task in replicas:
        source, loaded = config.training.initial, {}
        if source.run:
            here = named_weights(*weight_shapes(config, task))
            found = _unmatched(source.modules, {module for _, module, _ in here})
            try:
                loaded = _selected(_read(source), source.modules)
                found += _mismatches(loaded, _selected(here, source.modules))
            except (WorkdirError, OSError) as error:
                found.append(str(error))
            where = f"{leaks.who(name)}training.initial.run = {source.run!r}"
            problems += (f"{where}: {one}" for one in found)
        weights.append(loaded)
    return weights, problems


def first_state(experiment: Experiment, weights: Sequence[Weights]) -> TrainState:
    """The state before the first step, [R, ...] on the host, with the given weights, if any."""
    state = initial_state(experiment)
    for index, loaded in enumerate(weights):
        for (kind, module, name), leaf in loaded.items():
            getattr(state, kind)[module][name][index] = leaf
    if not weights:
        return state
    own = [jax.tree.map(lambda leaf, i=i: leaf[i], state.params) for i in range(len(weights))]
    return state._replace(opt_state=devices.stack_replicas([*map(experiment.optimizer.init, own)]))


def check_sources(config: ConfigDict, workdir: Workdir) -> None:
    """Checks that the checkpoints from which a new run would start exist; uses no device.

    Raises:
      WorkdirError: one is missing; names the replica.
    """
    named = [] if workdir.holds_checkpoints() else named_overrides(config)
    for name, overrides in named:
        source = with_options(config, overrides).training.initial
        try:
            if source.run:
                _locate(source)
        except WorkdirError as error:
            where = f"{leaks.who(name)}training.initial.run = {source.run!r}"
            raise WorkdirError(f"{where}: {error}") from error


def _locate(source: ConfigDict) -> tuple[Workdir, list[str], int]:
    """Like `named_run`; also checks that the checkpoint exists."""
    folder, names, index = named_run(source)
    CheckpointStore(folder.checkpoints).find(source.step)
    return folder, names, index


def _read(source: ConfigDict) -> Weights:
    """All weights of the replica that `config.training.initial` names."""
    folder, names, index = _locate(source)
    with CheckpointStore(folder.checkpoints) as store:
        _, (params, batch_stats, diverged) = store.read(source.step, store.restore_weights)
    if names[index] in diverged:
        raise DivergedError(f"replica '{names[index]}' diverged")
    return {key: leaf[index] for key, leaf in named_weights(params, batch_stats).items()}


def _selected(weights: Weights, prefixes: Sequence[str]) -> Weights:
    """The weights of modules at or below one of these paths; all if there are none."""
    below = tuple(f"{prefix}/" for prefix in prefixes) or ""
    return {key: leaf for key, leaf in weights.items() if f"{key[1]}/".startswith(below)}


def _unmatched(prefixes: Sequence[str], modules: set[str]) -> list[str]:
    """Messages for prefixes that name no module."""
    parts = [module.split("/") for module in modules]
    known = sorted({"/".join(part[:count]) for part in parts for count in range(1, len(part) + 1)})
    tops = ", ".join(name for name in known if "/" not in name)
    return [
        f"the model has no module {prefix!r} (it has {tops}){nearest_name(prefix, known)}"
        for prefix in prefixes
        if prefix not in known
    ]


def _mismatches(there: Weights, here: Weights) -> Iterator[str]:
    """One message about all differences between the weights of a source and of the model."""
    old, new = ({k: f"{x.dtype} {list(x.shape)}" for k, x in one.items()} for one in (there, here))
    differ = [
        f"\n    {'/'.join(key[1:])} is {old.get(key, 'missing')} there, "
        f"{new.get(key, 'missing')} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if differ:
        more = f"\n    and {len(differ) - _MOST_LISTED} more" * (len(differ) > _MOST_LISTED)
        lines = "".join(differ[:_MOST_LISTED]) + more
        yield f"its weights do not fit (select modules with training.initial.modules):{lines}"
