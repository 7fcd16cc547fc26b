"""Where programs run: no core and no GPU is promised to two of them without need."""

import os

import pytest

from experiments.executor import machine_slots

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="cores cannot be chosen on this system"
)


@pytest.fixture
def cores(monkeypatch):
    """Says which cores the process may use, and that there are no GPUs."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")

    def set_cores(*numbers):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(numbers))

    return set_cores


@needs_affinity
@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        (0, [{2}, {3}, {5}, {7}]),
        (1, [{2, 3, 5, 7}]),
        (2, [{2, 5}, {3, 7}]),
        (3, [{2, 7}, {3}, {5}]),
        (6, [{2}, {3}, {5}, {7}, {2}, {3}]),
    ],
)
def test_cores_are_dealt_out(cores, workers, expected):
    cores(2, 3, 5, 7)
    assert [set(slot.cores) for slot in machine_slots(workers)] == expected
    assert not any(slot.environment for slot in machine_slots(workers))


@needs_affinity
def test_every_gpu_has_a_slot_and_a_share_of_the_cores(cores, monkeypatch):
    cores(*range(16))
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    first, second = machine_slots()
    assert (first.environment, second.environment) == (
        {"CUDA_VISIBLE_DEVICES": "1"},
        {"CUDA_VISIBLE_DEVICES": "3"},
    )
    assert len(first.cores) == len(second.cores) == 8
    assert not first.cores & second.cores
    assert [one.environment["CUDA_VISIBLE_DEVICES"] for one in machine_slots(3)] == ["1", "3", "1"]
