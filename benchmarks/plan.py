"""What `accelerator_check` measures, the most important things first."""

import functools
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import candidates, golden, suites
from benchmarks.candidates import CANDIDATES
from benchmarks.measure import Rival, repeated, time_in_turn
from emergent_icl.cli import start
from emergent_icl.config.configs import with_options
from emergent_icl.presets import omniglot
from emergent_icl.training.settings import pinned

ROUNDS = 3
# Precision of float32 products: full, or this accelerator's fast kind (TF32 on NVIDIA's).
PRECISIONS = {"float32": "highest", "tf32": "default", "bfloat16": "default"}
# The second kind still chooses the fastest kernel by timing.
DETERMINISTIC = {
    "true": "--xla_gpu_deterministic_ops=true",
    "autotuned": "--xla_gpu_exclude_nondeterministic_ops=true",
}
BATCHES = (32, 128, 512)
FIRST_CASE, *OTHER_CASES = golden.CASES


class Item(NamedTuple):
    """One entry of the plan."""

    name: str  # in results.json
    measure: Callable[[float], dict[str, Any]]  # seconds per timed block -> entries
    xla_flags: str = ""


def plan(config: ConfigDict) -> Iterator[Item]:
    """All measurements. They are pickled, and made in another process."""
    yield from _golden_items(FIRST_CASE)
    yield _step_of_batch(BATCHES[0], "tf32", config)
    for kind, xla_flags in DETERMINISTIC.items():
        yield _step(f"step_deterministic_{kind}", config, xla_flags=xla_flags)
    for precision in ("bfloat16", "float32"):
        yield _step_of_batch(BATCHES[0], precision, config)
    for count in (1, 50):
        yield _step(f"step_per_call_{count}", config, options={"training.steps_per_call": count})
    for count in (1, 8):
        yield _replicas(count)
    for mode in config.evaluation.modes:
        yield Item(f"evaluation_{mode}", functools.partial(_evaluation, config, mode))
    for name, candidate in CANDIDATES.items():
        yield _step(f"candidate_{name}", config, candidate=name, xla_flags=candidate.xla_flags)
    # The largest batches come late: a process keeps the memory that it has used.
    for batch in BATCHES[1:]:
        for precision in PRECISIONS:
            yield _step_of_batch(batch, precision, config)
    yield _replicas(32)
    for case in OTHER_CASES:
        yield from _golden_items(case)


class How(NamedTuple):
    """What is common to all measurements."""

    seconds: float  # per timed block
    backend: str


@pinned()
def measure(item: Item, how: How) -> dict[str, Any]:
    """Measures an item in this process, which keeps compiled programs.

    Raises RuntimeError if JAX has found other devices than those to be measured.
    """
    if (found := jax.default_backend()) != how.backend:
        raise RuntimeError(f"JAX found the devices '{found}' instead of '{how.backend}'")
    start.use_compilation_cache()
    return item.measure(how.seconds)


def _golden_items(case: str) -> Iterator[Item]:
    for precision in ("highest", "default"):
        yield Item(f"golden_{case}_{precision}", functools.partial(_golden, case, precision))


def _golden(case: str, precision: str, _: float) -> dict[str, Any]:
    """Greatest differences from the reference implementation."""
    found = golden.differences(case, precision)
    if not np.isfinite(list(found.values())).all():
        raise FloatingPointError(f"not finite: {found}")
    agrees = all(found[what] <= limit for what, limit in golden.LIMITS.items() if what in found)
    exact = {"agrees": agrees} if precision == "highest" else {}
    return {**exact, "greatest_difference": found}


def _step_of_batch(batch: int, precision: str, config: ConfigDict) -> Item:
    options = {"training.batch_size": batch}
    return _step(f"step_batch_{batch}_{precision}", config, precision, options)


def _replicas(count: int) -> Item:
    options = {"training.replicas": count}
    return _step(f"replicas_small_{count}", omniglot.get_config("small"), options=options)


def _step(
    name: str,
    config: ConfigDict,
    precision: str = "tf32",
    options: dict[str, Any] | None = None,
    candidate: str = "",
    xla_flags: str = "",
) -> Item:
    kind = "bfloat16" if precision == "bfloat16" else "float32"
    own = {"training.steps_per_call": 10, "model.precision": kind, **(options or {})}
    whole = with_options(config, {**own, **_fitting(own["training.steps_per_call"])})
    measurement = functools.partial(_steps, whole, PRECISIONS[precision], candidate)
    return Item(name, measurement, xla_flags)


def _fitting(steps_per_call: int) -> dict[str, int]:
    """Intervals that a number of steps per call divides."""
    every = 1000 * steps_per_call
    names = ("training.num_steps", "training.log_every", "evaluation.every", "checkpoints.every")
    return dict.fromkeys(names, every)


def _steps(config: ConfigDict, products: str, candidate: str, seconds: float) -> dict[str, Any]:
    """Milliseconds per step, and sequences per second, without the feed."""
    experiment = suites.load(config)
    trainer = candidates.trainer(experiment, CANDIDATES.get(candidate, candidates.PLAIN))
    try:
        # The first call compiles.
        with jax.default_matmul_precision(products):
            taken = _times(trainer.rival("compute"), seconds)
    finally:
        trainer.close()
    sequences = config.training.batch_size * max(config.training.replicas, 1)
    return {
        "ms_per_step": [1e3 * one for one in taken],
        "sequences_per_second": sequences / median(taken),
        "data": experiment.bank.name,
    }


def _evaluation(config: ConfigDict, mode: str, seconds: float) -> dict[str, Any]:
    """Milliseconds per sequence."""
    experiment = suites.load(with_options(config, {"evaluation.modes": (mode,)}))
    evaluator, bank = experiment.evaluator(), jax.device_put(experiment.arrays())
    state = experiment.init(0)
    once = functools.partial(evaluator, state.params, state.batch_stats, bank)
    taken = _times(repeated(once, config.evaluation.num_sequences), seconds)
    return {"ms_per_sequence": [1e3 * one for one in taken]}


def _times(rival: Rival, seconds: float) -> list[float]:
    """Seconds per step or sequence, one per round."""
    return time_in_turn({"": rival}, ROUNDS, seconds)[""]
