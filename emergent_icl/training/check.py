"""What is wrong with how a run is trained: its steps, its optimizer, its replicas."""

from __future__ import annotations

from collections.abc import Iterator

import ml_collections

from emergent_icl.config.configs import (
    NAME_RULE,
    in_words,
    is_name,
    is_plain,
    named_overrides,
    prefixes,
)
from emergent_icl.config.registry import nearest_name
from emergent_icl.training.optimizers import check_optimizer
from emergent_icl.training.replicas import Replica
from emergent_icl.training.step import intervals


def training_problems(config: ml_collections.ConfigDict, num_devices: int) -> Iterator[str]:
    """Contradictions between intervals, devices and loss; or an optimizer that does not work.

    The options of training, evaluation, checkpoints and model are possible by themselves; the
    batch is spread over `num_devices`, on all hosts.
    """
    training, steps = config.training, config.training.steps_per_call
    for name, value in intervals(config).items():
        if steps is not None and value % steps:
            yield f"{name} = {value} must be a multiple of training.steps_per_call = {steps}"
    if training.spread_replicas:
        count = len(named_overrides(config))
        if count % num_devices:
            yield (
                f"training.spread_replicas: {count} replicas must "
                f"be a multiple of the {num_devices} devices"
            )
    elif training.batch_size % num_devices:
        yield (
            f"training.batch_size = {training.batch_size} must be a multiple of the "
            f"{num_devices} devices"
        )
    if training.interim_weight > 0 and config.model.tokens != "interleaved":
        yield (
            f"training.interim_weight = {training.interim_weight} needs model.tokens = "
            f"'interleaved': a concatenated token shows the label that it would predict"
        )
    try:
        check_optimizer(training)
    except ValueError as error:
        yield f"training.optimizer.name = '{training.optimizer.name}': {error}"


def override_problems(config: ml_collections.ConfigDict) -> Iterator[str]:
    """What is wrong with the overrides of replicas by themselves; see `together_problems`."""
    training = config.training
    count = len(training.replica_overrides)
    if count and training.replicas not in (1, count):
        yield (
            f"training.replicas = {training.replicas} must be 1 (derived) or {count}, the number "
            f"of training.replica_overrides"
        )
    if is_plain(config):
        return
    may = prefixes("per_replica")
    for name, overrides in named_overrides(config):
        if not is_name(name):
            yield (
                f"training.replica_overrides: the name {name!r} must be {NAME_RULE}; "
                f"give one as 'name'"
            )
        for path in overrides:
            if not path.startswith(may):
                hint = nearest_name(path, [option for option in may if option[-1] != "."])
                yield (
                    f"training.replica_overrides: {path} is common to all replicas (may differ: "
                    f"{in_words(may)}){hint}"
                )
    # Not every file system tells 'a' from 'A'.
    folded = [str(name).lower() for name, _ in named_overrides(config)]
    for name in dict.fromkeys(name for name in folded if folded.count(name) > 1):
        yield f"training.replica_overrides: two replicas have the name {name!r}"


def together_problems(replicas: tuple[Replica, ...]) -> Iterator[str]:
    """Why runs that are possible alone cannot be trained together."""
    lengths = {replica.name: replica.task.training.seq_len for replica in replicas}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{length} of '{name}'" for name, length in lengths.items())
        yield f"training.replica_overrides: sequences must be of one length, not {told}"
    shapes = {replica.task.shape._replace(num_exemplars=1) for replica in replicas}
    if len(shapes) > 1:
        yield (
            "training.replica_overrides: data.drawings = 'separated' makes other classes; it "
            "cannot stand beside 'all' or 'single'"
        )
    data = [replica.config.data for replica in replicas]
    if data[0].random_rare_images and len({one.split.to_json() for one in data}) > 1:
        yield (
            "training.replica_overrides: with data.random_rare_images all replicas must have "
            "the same rare classes; data.split differs"
        )
