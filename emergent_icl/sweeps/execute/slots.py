"""Where programs run side by side: each on cores, or a GPU, of its own."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_GPU_VARIABLE, _MEMORY_VARIABLE = "CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION"


class Slot(NamedTuple):
    """Where one program runs at a time.

    Attributes:
      cores: of the processor, that it is bound to; empty for any.
      environment: what its process has besides this one's.
    """

    cores: frozenset[int]
    environment: Mapping[str, str]


def machine_slots(workers: int = 0) -> list[Slot]:
    """A slot for every GPU; without any, for every core: small models gain nothing from two.

    Where programs cannot be bound to cores one at a time uses all of them.

    Args:
      workers: how many programs at a time; 0 derives it. More than there are GPUs, or cores,
        share them.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    gpus = visible_gpus()
    count = workers or len(gpus) or len(cores) or 1
    slots = []
    for index in range(count):
        own = cores[index::count] or cores[index % max(len(cores), 1) :][:1]
        slots.append(Slot(frozenset(own), _gpu_environment(gpus, index, count)))
    return slots


def _gpu_environment(gpus: Sequence[str], index: int, count: int) -> dict[str, str]:
    """One GPU for a slot, and its share of that GPU's memory, of which JAX takes 75 % at once."""
    if not gpus:
        return {}
    environment = {_GPU_VARIABLE: gpus[index % len(gpus)]}
    sharers = len(range(index % len(gpus), count, len(gpus)))
    if sharers > 1:
        environment[_MEMORY_VARIABLE] = f"{0.75 / sharers:.3f}"
    return environment


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use; JAX is not asked, it would take them."""
    # JAX runs on the processor, whatever lies beside it, without a plugin for something else.
    can_use = importlib.metadata.entry_points(group="jax_plugins")
    if not can_use or os.environ.get("JAX_PLATFORMS", "") == "cpu":
        return []
    if _GPU_VARIABLE in os.environ:
        names = os.environ[_GPU_VARIABLE].split(",")
        # CUDA stops reading at the first that is none; '-1' hides them all.
        valid = itertools.takewhile(lambda name: name and not name.startswith("-"), names)
        return list(valid)
    return [str(index) for index in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
