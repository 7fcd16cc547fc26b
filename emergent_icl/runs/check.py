"""Checks a whole config before anything is loaded or compiled: all problems in one error.

Imports every module that checks a part, so that registries are filled before a lookup.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

import emergent_icl.runs.loggers  # noqa: F401
from emergent_icl.config.check import ConfigError, option_problems
from emergent_icl.config.configs import alone, is_plain, named_overrides
from emergent_icl.data.check import check_data
from emergent_icl.models.check import model_problems, position_problems
from emergent_icl.training.replicas import (
    Replica,
    make_replicas,
    override_problems,
    together_problems,
)
from emergent_icl.training.settings import pinned
from emergent_icl.training.step import training_problems

SECTIONS: set[str] = {"data", "model", "training", "evaluation", "checkpoints"}


@pinned()
def check(config: ConfigDict, num_devices: int = 1) -> tuple[Replica, ...]:
    """Checks types, ranges, and relations between options; returns the replicas, usually one.

    The batch is spread over `num_devices` on all hosts.

    Raises:
      ConfigError: names every problem with its field, value, and what is allowed.
    """
    problems = list(option_problems(config))
    # Relations are only meaningful between values that are valid by themselves.
    sound = SECTIONS - {problem.split(".")[0] for problem in problems}
    problems += _relation_problems(config, num_devices, sound)
    if not problems:
        problems += override_problems(config)
    if not problems and not is_plain(config):
        problems += _replica_problems(config)
    if problems:
        raise ConfigError(problems)
    replicas = make_replicas(config)
    if problems := list(together_problems(replicas)):
        raise ConfigError(problems)
    return replicas


def _relation_problems(config: ConfigDict, num_devices: int, sound: set[str]) -> Iterator[str]:
    """Contradictions between options of sections that are valid by themselves."""
    if sound >= {"training", "evaluation", "checkpoints", "model"}:
        yield from training_problems(config, num_devices)
    if "data" not in sound:
        return
    data = check_data(config, with_sequences=sound >= {"evaluation", "model"})
    yield from data.problems
    if data.shape is not None and "model" in sound:
        yield from model_problems(config.model, data.shape, config.data.source)
        if data.seq_len is not None:
            yield from position_problems(config.model, data.seq_len)


def _replica_problems(config: ConfigDict) -> Iterator[str]:
    """Problems of each replica, checked as a single run."""
    for name, overrides in named_overrides(config):
        try:
            check(alone(config, overrides))
        except (ConfigError, KeyError) as error:
            problems = error.problems if isinstance(error, ConfigError) else [error.args[0]]
            yield from (f"replica '{name}': {problem}" for problem in problems)
