"""Estimated times of jobs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from emergent_icl.data.ticks import ticking
from emergent_icl.sweeps.jobs import Job
from emergent_icl.training.cost import step_cost
from emergent_icl.training.replicas import make_replicas

# Seconds from launch to the first step with a warm compilation cache: mostly imports.
LAUNCH_SECONDS = 10.0
# An evaluation has no gradients: about a third of a training step's operations.
EVALUATION_SHARE = 1 / 3


class JobTime(NamedTuple):
    """The estimated time of a job."""

    seconds: float  # From launch to the last step of all its runs.
    steps: int  # Per run.
    step_seconds: float  # Per step of one run.


def job_time(job: Job, step_seconds: float) -> JobTime:
    """The estimated time of a job, given that of a training step of one of its runs."""
    config = job.config
    steps, batches = config.training.num_steps, config.evaluation.num_sequences
    batches /= config.training.batch_size
    evaluations = math.ceil(steps / config.evaluation.every) * len(config.evaluation.modes)
    all_steps = steps + EVALUATION_SHARE * evaluations * batches
    return JobTime(LAUNCH_SECONDS + job.num_runs * step_seconds * all_steps, steps, step_seconds)


def estimate(jobs: Sequence[Job]) -> dict[str, JobTime]:
    """Estimated time of each job, by name; times one step per shape of model and batch."""
    timed: dict[tuple[object, ...], float | None] = {}
    times = {}
    for job in ticking("timing steps", jobs, len(jobs)):
        config, task = (replica := make_replicas(job.config)[0]).config, replica.task
        shape = (
            config.model.to_json(), config.training.batch_size, task.shape.example_shape,
            task.training.seq_len, task.num_labels,
        )  # fmt: skip
        if (seconds := timed.get(shape)) is None:
            seconds = timed[shape] = step_cost(config, task, timed=True).step_seconds
            assert seconds is not None
        times[job.name] = job_time(job, seconds)
    return times
