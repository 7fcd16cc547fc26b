"""When a run is logged, evaluated, and saved, and how many steps a device call may take."""

import math
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from emergent_icl.config.registry import ENCODERS

# Maximum number of updates per device call.
MOST_STEPS_ON_CPU, MOST_STEPS = 10, 25


def intervals(config: ConfigDict) -> list[tuple[str, int]]:
    """(option, steps) after which a call must end; K divides them."""
    sections = {"evaluation": config.evaluation, "checkpoints": config.checkpoints}
    return [
        ("training.num_steps", config.training.num_steps),
        ("training.log_every", config.training.log_every),
        *((f"{name}.every", section.every) for name, section in sections.items()),
        *((f"{name}.at", step) for name, section in sections.items() for step in _listed(section)),
    ]


class Agenda(NamedTuple):
    """The steps after which a run is evaluated or saved; the last step always is."""

    every: int
    listed: tuple[int, ...]  # in order

    def has(self, step: int) -> bool:
        """Whether a step is due; step 0 only if listed."""
        return step in self.listed or (step > 0 and step % self.every == 0)


def agendas(config: ConfigDict, steps_per_call: int) -> tuple[Agenda, Agenda]:
    """When a run of a valid config is evaluated, and when it is saved: two agendas.

    Log-spaced steps are rounded to multiples of `steps_per_call`; none exceeds the last step.
    """
    limits = steps_per_call, config.training.num_steps
    return _agenda(config.evaluation, *limits), _agenda(config.checkpoints, *limits)


def _agenda(section: ConfigDict, steps_per_call: int, num_steps: int) -> Agenda:
    listed = set(_listed(section))
    for spacing in set(section.at) - listed:
        per_decade = int(spacing.removeprefix("log:"))
        count = math.floor(per_decade * math.log10(num_steps)) + 1
        exact = (10 ** (index / per_decade) for index in range(count))
        listed |= {max(round(step / steps_per_call), 1) * steps_per_call for step in exact}
    return Agenda(section.every, tuple(sorted(step for step in listed if step <= num_steps)))


def _listed(section: ConfigDict) -> list[int]:
    return [step for step in section.at if isinstance(step, int)]


def resolve_steps_per_call(config: ConfigDict, first_step: int = 0, carried: int = 0) -> int:
    """K: `training.steps_per_call`, or the largest suitable divisor of every interval.

    It also divides the first step, so that calls end where a line or checkpoint is due. `carried`,
    K of the previous command, is kept if it still divides all, so that an extended run computes the
    same bits.
    """
    training = config.training
    if training.steps_per_call is not None:
        return training.steps_per_call
    most = MOST_STEPS
    if jax.default_backend() == "cpu":
        most = 1 if ENCODERS.about(config.model.encoder).has_convolutions else MOST_STEPS_ON_CPU
    common = math.gcd(first_step, *(step for _, step in intervals(config)))
    return carried if carried and common % carried == 0 else greatest_divisor(common, most)


def greatest_divisor(number: int, most: int) -> int:
    """The greatest divisor of a number that is at most `most`."""
    return max(divisor for divisor in range(1, most + 1) if number % divisor == 0)
