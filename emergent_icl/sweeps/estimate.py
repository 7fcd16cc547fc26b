"""How long programs will take: training and evaluation steps, one timing for all of one shape."""

from __future__ import annotations

import math
from typing import NamedTuple

import ml_collections

from emergent_icl.data.task import Task
from emergent_icl.sweeps.jobs import Program
from emergent_icl.training import cost as description
from emergent_icl.training.replicas import make_replicas

# From launch to the first step, with a filled compilation cache: imports, mostly.
LAUNCH_SECONDS = 10.0
# An evaluation has no gradients: about a third of a training step's operations.
EVALUATION_SHARE = 1 / 3
# Of one core, where nothing is timed: they weigh programs against each other.
NOMINAL_FLOPS, NOMINAL_BYTES = 30e9, 8e9
# An update of Adam reads and writes this many times what the parameters take.
TRAFFIC_A_STATE = 3


class StepTimes:
    """Seconds of a training step by shape of model and batch."""

    def __init__(self, measure: bool) -> None:
        """Times steps on this machine, or else weighs them by operations and bytes."""
        self._measure = measure
        self._known: dict[tuple[object, ...], float] = {}

    def step(self, config: ml_collections.ConfigDict, plan: Task) -> float:
        """Seconds of one update of one run."""
        shape = (
            config.model.to_json(),
            config.training.batch_size,
            plan.shape.example_shape,
            plan.training.seq_len,
            plan.num_labels,
        )
        if shape not in self._known:
            cost = description.estimate_cost(config, plan, self._measure)
            nominal = (
                cost.flops / NOMINAL_FLOPS + TRAFFIC_A_STATE * cost.memory.state / NOMINAL_BYTES
            )
            self._known[shape] = nominal if cost.step_seconds is None else cost.step_seconds
        return self._known[shape]


class Estimate(NamedTuple):
    """What a program costs.

    Attributes:
      seconds: all of its runs, one after another; 0 where its twin's are its own.
      steps: updates of each.
      step_seconds: of one update of one run.
    """

    seconds: float
    steps: int
    step_seconds: float


def estimate(program: Program, times: StepTimes) -> Estimate:
    """The time that a program takes from its first step to its last, on one slot."""
    replica = make_replicas(program.config)[0]
    config, steps = replica.config, replica.config.training.num_steps
    seconds = times.step(config, replica.task)
    evaluation = config.evaluation
    batches = evaluation.num_sequences / config.training.batch_size
    times_evaluated = math.ceil(steps / evaluation.every)
    evaluated = EVALUATION_SHARE * times_evaluated * len(evaluation.modes) * batches
    if program.twin is not None:
        return Estimate(0.0, steps, seconds)
    total = LAUNCH_SECONDS + program.num_runs * seconds * (steps + evaluated)
    return Estimate(total, steps, seconds)
