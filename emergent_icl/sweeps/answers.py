"""Which sequences a run's replicas answer correctly, and which held-out classes these show."""

import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np

from emergent_icl.config.configs import alone, named_overrides
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.task import Task
from emergent_icl.evaluation.evaluate import Evaluator, compile_evaluation
from emergent_icl.evaluation.metrics import ICL
from emergent_icl.runs.open import NUM_SEQUENCES, load_run
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.training.settings import pinned

# What replicas may differ in.
SPLIT, SEED = "data.split.seed", "training.seed"


class Answers(NamedTuple):
    """Which sequences the runs of S splits and T training seeds answer correctly."""

    is_correct: np.ndarray  # bool [S, T, N]
    shows: np.ndarray  # whether a sequence shows each held-out class of its split, bool [S, N, K]
    step: int  # of the checkpoints


@pinned()
def read_answers(
    workdir: Workdir,
    num_sequences: int = NUM_SEQUENCES,
    overrides: Mapping[str, object] = MappingProxyType({}),
) -> Answers:
    """Evaluates all replicas of a run on few-shot sequences of held-out classes.

    Args:
      workdir: folder of the run.
      num_sequences: number per replica.
      overrides: as for `load_run`, such as the location of the data.

    Raises:
      WorkdirError: the replicas do not combine each split with each training seed.
      Otherwise like `load_run`, also if a replica diverged.
    """
    names = _crossed(workdir)
    splits, seeds = (sorted(set(own)) for own in zip(*names, strict=True))
    own = {"evaluation.modes": ICL[:1], "evaluation.num_sequences": num_sequences}
    is_correct, shows, compiled, step = [], {}, None, None
    for split, seed in itertools.product(splits, seeds):
        # All at the step of the first one, also if they still train.
        name, changes = names[split, seed], {**overrides, **own}
        run = load_run(workdir.path, step=step, overrides=changes, replica=name)
        experiment, step = run.experiment, run.step
        compiled = compiled or compile_evaluation(experiment.network, experiment.materialize)
        evaluator = Evaluator(experiment.config, experiment.task, compiled)
        params, batch_stats = jax.device_put((run.params, run.batch_stats))
        found = evaluator.per_sequence(ICL[0], params, batch_stats, run.device_bank())
        is_correct.append(found[ICL[1]] > 0)
        if split not in shows:
            shows[split] = _shown(evaluator.modes[ICL[0]].batch, experiment.task)
    correct = np.reshape(is_correct, (len(splits), len(seeds), num_sequences))
    assert step is not None
    return Answers(correct, np.array(list(shows.values())), step)


def _crossed(workdir: Workdir) -> dict[tuple[int, int], str]:
    """{(split, training seed): name} of replicas; raises WorkdirError if they are not crossed."""
    config = workdir.read_config()
    names, problems = {}, []
    for name, overrides in named_overrides(config):
        one = alone(config, overrides)
        place = (one.data.split.seed, one.training.seed)
        if place in names:
            problems.append(f"'{names[place]}' and '{name}' are the same")
        if others := sorted(overrides.keys() - {SPLIT, SEED}):
            problems.append(f"'{name}' also sets {', '.join(others)}")
        names[place] = name
    splits, seeds = (sorted(set(own)) for own in zip(*names, strict=True))
    if min(len(splits), len(seeds)) < 2:
        problems.append(f"there are {len(splits)} x {len(seeds)}")
    for split, seed in itertools.product(splits, seeds):
        if (split, seed) not in names:
            problems.append(f"none has {SPLIT} = {split} and {SEED} = {seed}")
    if problems:
        raise WorkdirError(
            f"the replicas of {workdir.path} must combine each of several values of {SPLIT} with "
            f"each of several values of {SEED}, and differ in nothing else: {problems[0]}"
        )
    for option in ("holdout", "groups"):
        if config.data.split[option]:
            raise WorkdirError(
                f"{workdir.path} has data.split.{option}, so its splits are no independent random "
                "choices of held-out classes"
            )
    return names


def _shown(batch: SequenceBatch, task: Task) -> np.ndarray:
    """Which of the K held-out classes each sequence shows, bool [N, K]; variants are one class."""
    split, size = task.space.split, task.shape.group_size
    held_out = np.unique(split.class_ids[split.places("holdout")] // size)
    return (batch.class_ids[:, :, None] // size == held_out).any(axis=1)
