"""What a run says of itself: facts when it starts, lines of metrics, summary.json at its end."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import jax

from emergent_icl.evaluation.evaluate import Results, curves, results_json
from emergent_icl.models.network import Params
from emergent_icl.runs.checkpoints import Progress
from emergent_icl.runs.reporting import Record
from emergent_icl.training.build import Experiment
from emergent_icl.training.step import Step
from emergent_icl.training.update import TrainState

PACKAGES = ("jax", "jaxlib", "dm-haiku", "optax", "orbax-checkpoint", "numpy")


def facts(experiment: Experiment, state: TrainState, step: Step) -> dict[str, Any]:
    """Names and values to show before compilation; `state` is [R, ...] on the host."""
    config, space = experiment.config, experiment.task.space
    names = [replica.name for replica in experiment.replicas if replica.name]
    return {
        "experiment": config.name,
        "data": f"{experiment.bank.name}: {space.split.num_rare} rare, "
        f"{space.split.num_common} common, {space.split.num_holdout} holdout classes, "
        f"{space.num_exemplars} exemplars",
        "labels": experiment.task.num_labels,
        "model": f"{config.model.encoder} + {config.model.sequence_model}, "
        f"{config.model.num_layers} layers, {count_parameters(state.params):,} parameters",
        "replicas": ", ".join(names),
        "devices": _devices(),
        "feeder": step.feeder,
        "first_step": int(state.step[0]),
        "last_step": config.training.num_steps,
        "batch_size": config.training.batch_size,
    }


def training_record(
    means: dict[str, float], steps_per_second: float | None, batch_size: int
) -> Record:
    """A line's numbers about training, of one replica."""
    record: Record = {f"train/{name}": value for name, value in means.items()}
    if steps_per_second is not None:
        record["steps_per_second"] = steps_per_second
        record["sequences_per_second"] = steps_per_second * batch_size
    return record


def evaluation_record(results: Results) -> Record:
    """A line's numbers about evaluations, of one replica."""
    return {
        f"eval/{mode}/{metric}": estimate.mean
        for mode, estimates in results.items()
        for metric, estimate in estimates.items()
    }


def count_parameters(params: Params) -> int:
    """Numbers in the parameters of one replica, given those of all, [R, ...] a leaf."""
    return sum(leaf[0].size for leaf in jax.tree.leaves(params))


def summarise(
    experiment: Experiment,
    state: TrainState,
    results: list[Results | None],
    diverged: dict[str, int],
    progress: Progress,
) -> dict[str, Any]:
    """The content of summary.json.

    What is a replica's own stands under 'replicas' and its name; a run that is alone has it
    at the top. Of one that diverged, `diverged_at_step` is all that is known.
    """
    config, replicas = experiment.config, experiment.replicas
    sequences = progress.train_steps * config.training.batch_size * len(replicas)
    seconds = progress.train_seconds
    own = {}
    for replica, found in zip(replicas, results, strict=True):
        name = replica.name
        own[name] = {"seed": replica.config.training.seed}
        own[name] |= _outcome(None if name in diverged else found)
        if name in diverged:
            own[name]["diverged_at_step"] = diverged[name]
    return {
        "step": config.training.num_steps,
        "wall_seconds": progress.wall_seconds,
        "parameters": count_parameters(state.params),
        "train_sequences_per_second": sequences / seconds if seconds else None,
        **own.get("", {"replicas": own}),
        "config_name": config.name,
        "devices": _devices(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """What the numbers of a run depend on, besides this project."""
    return {name: metadata.version(name) for name in PACKAGES}


def _outcome(results: Results | None) -> dict[str, Any]:
    if results is None:
        return {"icl": None, "iwl": None, "evals": {}}
    return {**curves(results), "evals": results_json(results)}


def _devices() -> str:
    count = jax.process_count()
    where = f" in {count} processes" if count > 1 else ""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}{where}"
