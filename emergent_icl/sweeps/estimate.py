"""How long jobs will take: training and evaluation steps, one timing for all of one shape."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from emergent_icl.sweeps.jobs import Job
from emergent_icl.training.cost import step_cost
from emergent_icl.training.replicas import make_replicas

# From launch to the first step, with a filled compilation cache: imports, mostly.
LAUNCH_SECONDS = 10.0
# An evaluation has no gradients: about a third of a training step's operations.
EVALUATION_SHARE = 1 / 3


class JobTime(NamedTuple):
    """What a job takes."""

    seconds: float  # All of its runs, one after another, from launch to the last step, on one slot.
    steps: int  # Of each run.
    step_seconds: float  # Of one step of one run.


def estimate(jobs: Iterable[Job]) -> dict[str, JobTime]:
    """Name -> time of each job; steps of each shape of model and batch are timed here."""
    step_seconds: dict[tuple[object, ...], float | None] = {}
    times = {}
    for job in jobs:
        config, task = (replica := make_replicas(job.config)[0]).config, replica.task
        shape = (
            config.model.to_json(), config.training.batch_size, task.shape.example_shape,
            task.training.seq_len, task.num_labels,
        )  # fmt: skip
        if (seconds := step_seconds.get(shape)) is None:
            seconds = step_seconds[shape] = step_cost(config, task, timed=True).step_seconds
            assert seconds is not None
        steps = config.training.num_steps
        batches = config.evaluation.num_sequences / config.training.batch_size
        evaluations = math.ceil(steps / config.evaluation.every) * len(config.evaluation.modes)
        all_steps = steps + EVALUATION_SHARE * evaluations * batches
        total = LAUNCH_SECONDS + job.num_runs * seconds * all_steps
        times[job.name] = JobTime(total, steps, seconds)
    return times
