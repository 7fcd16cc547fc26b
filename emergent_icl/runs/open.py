"""Trained runs, opened from their folders."""

import contextlib
import functools
import importlib
import io
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import ArrayLike

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import (
    has,
    in_words,
    named_overrides,
    prefixes,
    tuples,
    with_options,
)
from emergent_icl.data.bank import DeviceBank
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.evaluation.evaluate import compile_evaluation, in_parts
from emergent_icl.evaluation.metrics import Results
from emergent_icl.models.check import position_problems
from emergent_icl.models.network import BatchStats, Params
from emergent_icl.randomness import sequence_keys
from emergent_icl.runs.check import check
from emergent_icl.runs.checkpoints import CheckpointStore
from emergent_icl.runs.inputs import checked_examples, checked_labels
from emergent_icl.runs.recorded_data import check_data
from emergent_icl.runs.records import metrics_of
from emergent_icl.runs.workdir import DivergedError, Workdir, WorkdirError, write_whole
from emergent_icl.training.build import Experiment, build
from emergent_icl.training.replicas import Replica, capacities
from emergent_icl.training.settings import pinned
from emergent_icl.training.update import named_weights

# Default number per mode.
NUM_SEQUENCES = 10_000


class Sequences(NamedTuple):
    """N sequences of S examples, the query last, as host arrays.

    Attributes:
      examples: [N, S, ...], in the form that `Run.predict` takes.
      labels: int32 [N, S]; the last is the correct answer to the query.
      class_ids: int32 [N, S].
      exemplar_ids: int32 [N, S], numbered within the class.
      class_names: str [N, S].
      roles: str [N, S]; 'rare', 'common', or 'holdout'.
    """

    examples: np.ndarray
    labels: np.ndarray
    class_ids: np.ndarray
    exemplar_ids: np.ndarray
    class_names: np.ndarray
    roles: np.ndarray

    @property
    def query_labels(self) -> np.ndarray:
        """The correct answers, int32 [N]."""
        return self.labels[:, -1]


class Run(NamedTuple):
    """A trained run, opened at a checkpoint. See `load_run`.

    Attributes:
      experiment: data, network, and task, built from the config.
      step: step of the checkpoint.
      params: parameters, a dictionary from modules to dictionaries from names to host arrays.
      batch_stats: running averages of BatchNorm, likewise.
      trained: the config used in training, before any override.
      workdir: the folder from which it was opened, if any.
      replica: its name among runs trained together; '' for a single run.
    """

    experiment: Experiment
    step: int
    params: Params
    batch_stats: BatchStats
    trained: ConfigDict
    workdir: Workdir | None = None
    replica: str = ""

    def __repr__(self) -> str:
        where = f"'{self.workdir.path}'" if self.workdir else "no folder"
        who = f", replica '{self.replica}'" if self.replica else ""
        return f"<Run '{self.trained.name}' in {where}{who}, step {self.step:,}>"

    def device_bank(self) -> DeviceBank:
        """The bank on the default device."""
        return jax.device_put(self.experiment.arrays())

    @pinned()
    def evaluate(
        self,
        modes: str | Sequence[str] | None = None,
        num_sequences: int | None = NUM_SEQUENCES,
        **options: Any,
    ) -> Results:
        """Evaluates the run on the same sequences as the command `evaluate`; writes nothing.

        Args:
          modes: names of EVALUATION_MODES; None: those in the config.
          num_sequences: per mode; N sequences are the first N of any larger number. None: that of
            the config.
          **options: others of `config.evaluation`, such as shots=2, ways=4, exemplars='holdout'.

        Returns:
          A dictionary from modes to dictionaries from metrics to `Interval`, the 95% interval over
          sequences. The loss is in nats; all other metrics are in [0, 1].

        Raises:
          ConfigError: an unknown mode or option, or an invalid value.
        """
        modes = (modes,) if isinstance(modes, str) else modes
        given = {"modes": modes and tuple(modes), "num_sequences": num_sequences, **options}
        evaluate = self._evaluated(given).evaluator()
        params, batch_stats = jax.device_put((self.params, self.batch_stats))
        return evaluate(params, batch_stats, self.device_bank())

    @pinned()
    def sequences(self, mode: str, n: int = 8) -> Sequences:
        """The first `n` >= 1 evaluation sequences of a mode.

        Args:
          mode: a name of EVALUATION_MODES, which include training types such as 'bursty'.
          n: number of sequences.

        Raises:
          ConfigError: an unknown mode or an invalid number.
        """
        count = max(n, self.experiment.config.evaluation.num_sequences) if n > 0 else n
        experiment = self._evaluated({"modes": (mode,), "num_sequences": count})
        drawn = experiment.evaluator().modes[mode]
        batch = SequenceBatch(*(rows[:n] for rows in drawn.batch))
        keys, scale = sequence_keys(drawn.key, jnp.arange(n)), experiment.config.data.noise_scale
        shown = jax.jit(experiment.materialize)(
            self.device_bank(), batch.class_ids, batch.exemplar_ids, keys, np.float32(scale)
        )
        names = experiment.bank.class_names
        # Variants of a class share a name.
        numbers = batch.class_ids // (experiment.task.space.num_bank_classes // len(names))
        return Sequences(
            np.asarray(shown), batch.labels, batch.class_ids, batch.exemplar_ids,
            np.array(names)[numbers], experiment.task.space.roles_of(batch.class_ids),
        )  # fmt: skip

    @pinned()
    def predict(self, examples: ArrayLike, labels: ArrayLike) -> np.ndarray:
        """Probabilities of all L labels for the query of each of your sequences.

        Args:
          examples: B sequences of S examples, the query last: float images [B, S, H, W] or
            [B, S, H, W, 1] in [0, 1] up to noise; float vectors [B, S, D]; or integers [B, S].
          labels: context labels that the run uses, integers >= 0, [B, S - 1]; or [B, S], where the
            query's label is ignored.

        Returns:
          float32 [B, L]; each row sums to 1. Example dropout is off.

        Raises:
          ValueError: a wrong shape, type, or value; the message says what is expected.
        """
        task, config = self.experiment.task, self.experiment.config
        shown = checked_examples(task, examples)
        given = checked_labels(task, labels, *shown.shape[:2])
        if problems := list(position_problems(config.model, shown.shape[1])):
            raise ValueError(problems[0])
        compiled = compile_evaluation(self.experiment.network, self.experiment.materialize)
        used = np.int32(task.used_labels) if task.used_labels < task.num_labels else None
        model = jax.device_put((self.params, self.batch_stats))
        predict = functools.partial(compiled.predict, *model, used)
        parts = in_parts(predict, min(len(shown), config.evaluation.batch_size), shown, given)
        return np.concatenate(jax.device_get(parts))[: len(shown)]

    def curves(self) -> Any:
        """Learning curves: one row per line of metrics.jsonl, for this replica.

        Returns:
          A pandas DataFrame with columns 'step', 'replica', 'train/loss' (nats),
          'eval/MODE/METRIC', ...; missing values are NaN. Without pandas, a dictionary from column
          names to arrays [lines].

        Raises:
          WorkdirError: the run has no folder, or its metrics are damaged.
        """
        if self.workdir is None:
            raise WorkdirError("this run was not opened from a folder: it has no learning curves")
        records = [
            {"step": line["step"], "replica": self.replica, **line}
            for line in metrics_of(self.workdir, self.replica)
        ]
        names = dict.fromkeys(("step", "replica", *itertools.chain(*records)))
        columns = {name: np.array([line.get(name, math.nan) for line in records]) for name in names}
        try:
            return importlib.import_module("pandas").DataFrame(columns)
        except ImportError:  # It is optional.
            return columns

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Writes parameters and BatchNorm statistics to a flat .npz file; returns its path.

        Arrays are named 'params/MODULE/NAME' and 'batch_stats/MODULE/NAME'; the file also has
        'step' and 'config' (JSON). Read an array with `np.load(path)["params/head/w"]`.

        Raises:
          ValueError: the file name does not end in .npz.
          OSError: it cannot be written.
        """
        path = Path(path).expanduser()
        if path.suffix != ".npz":
            raise ValueError(f"{path}: parameters are exported as an .npz file")
        weights = named_weights(self.params, self.batch_stats)
        arrays: dict[str, Any] = {"/".join(key): np.asarray(leaf) for key, leaf in weights.items()}
        about = {"step": np.int64(self.step), "config": np.array(self.trained.to_json())}
        content = io.BytesIO()
        np.savez(content, **about, **arrays)
        write_whole(path, content.getvalue())
        return path

    def _evaluated(self, options: dict[str, Any]) -> Experiment:
        """The experiment with other options of `config.evaluation`; None keeps an option."""
        given = {f"evaluation.{name}": one for name, one in options.items() if one is not None}
        config, replicas = _overridden(self.experiment.config, tuples(given))
        return self.experiment._replace(config=config, replicas=replicas)


@pinned()
def load_run(
    workdir: str | os.PathLike[str],
    step: int | None = None,
    overrides: Mapping[str, object] | None = None,
    replica: str | None = None,
) -> Run:
    """Opens a run from its work directory. Its data must be available.

    Args:
      workdir: folder of the run.
      step: step of the checkpoint; None for the newest.
      overrides: `reopenable` options, such as {'evaluation.num_sequences': 10_000}.
      replica: name of the replica, if several were trained together.

    Raises:
      WorkdirError: no such run, checkpoint, or replica.
      DivergedError: the replica diverged.
      ConfigError: an override is not allowed, or the run needs an extension that was not
        imported (docs/extending.md).
      OtherDataError: the data have changed.
      DataUnavailableError: the data are not available.
    """
    folder, overrides = Workdir(workdir), overrides or {}
    written = _written(folder, overrides)
    together = check(written)
    index = replica_index(folder, [one.name for one in together], replica)
    trained = together[index]
    # Overrides must not change the capacities that it was trained with.
    fixed = with_options(trained.config, capacities((trained,)))
    config, replicas = _overridden(fixed, overrides)
    with CheckpointStore(folder.checkpoints, config=written) as store:
        store.find(step)  # Fails before the data are loaded.
        experiment = build(config, replicas)
        check_data(folder, experiment.bank, (trained,))
        template = experiment.state_template(len(together))
        step, (state, progress) = store.read(step, lambda one: store.restore(one, template))
    if trained.name in progress.diverged:
        raise DivergedError(
            f"replica '{trained.name}' of {folder.path} diverged at step "
            f"{progress.diverged[trained.name]}; its checkpoint of step {step} is not usable"
        )
    own = jax.tree.map(lambda leaf: leaf[index], state)
    return Run(experiment, step, own.params, own.batch_stats, trained.config, folder, trained.name)


def load_replicas(
    workdir: str | os.PathLike[str], overrides: Mapping[str, object] | None = None
) -> dict[str, Run]:
    """Opens all replicas that did not diverge: {name: run}; raises like `load_run`."""
    runs = {}
    for name in replica_names(workdir, overrides):
        with contextlib.suppress(DivergedError):
            runs[name] = load_run(workdir, overrides=overrides, replica=name or None)
    return runs


def replica_names(
    workdir: str | os.PathLike[str], overrides: Mapping[str, object] | None = None
) -> list[str]:
    """Names of the replicas of a run, [''] for a single run; raises like `load_run`."""
    return [replica.name for replica in check(_written(Workdir(workdir), overrides or {}))]


def _written(folder: Workdir, overrides: Mapping[str, object]) -> ConfigDict:
    """The stored config, with the current locations of its data."""
    moved = {path: value for path, value in overrides.items() if has(path, "per_machine")}
    return with_options(folder.read_config(), moved)


def named_run(source: ConfigDict) -> tuple[Workdir, list[str], int]:
    """The folder that `config.training.initial` names, its replicas, and the index of one."""
    folder = Workdir(source.run)
    names = [name for name, _ in named_overrides(folder.read_config())]
    return folder, names, replica_index(folder, names, source.replica or None)


def replica_index(folder: Workdir, names: list[str], replica: str | None) -> int:
    """Index of the requested replica; raises WorkdirError if it does not exist or is ambiguous."""
    if replica is None and len(names) == 1:
        return 0
    if replica in names and replica:
        return names.index(replica)
    if names == [""]:
        raise WorkdirError(f"{folder.path} holds a single run, without replicas")
    if replica is None:
        raise WorkdirError(f"{folder.path} holds several replicas; select one: {', '.join(names)}")
    raise WorkdirError(f"{folder.path} has no replica '{replica}' (available: {', '.join(names)})")


def _overridden(
    config: ConfigDict, overrides: Mapping[str, object]
) -> tuple[ConfigDict, tuple[Replica, ...]]:
    """A valid, locked copy with some options changed, and its replicas."""
    may = prefixes("reopenable")
    fixed = [path for path in overrides if not path.startswith(may)]
    if fixed:
        problem = f"is fixed in a trained run (allowed: {in_words(may)})"
        raise ConfigError([f"{path} {problem}" for path in fixed])
    try:
        changed = with_options(config, overrides)
    except (KeyError, TypeError) as error:
        raise ConfigError([str(error.args[0])]) from error
    return changed, check(changed)
