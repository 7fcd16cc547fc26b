"""Where programs run: no core and no GPU is promised to two of them without need."""

import os

import pytest
import tiny_sweep
from finished_runs import Ends, finish

from emergent_icl.sweeps.programs import make_programs, with_twins
from experiments.executor import Observer, machine_slots, run_programs

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


class Ended(Observer):
    """Remembers what it was told."""

    def __init__(self):
        self.names = []

    def ended(self, program, failure):
        assert failure is None
        self.names.append(program.name)


def test_a_program_with_a_complete_twin_is_not_run(tmp_path, monkeypatch):
    def plan():
        sweeps = (tiny_sweep.get_sweep(), tiny_sweep.get_sweep("renamed"))
        return with_twins([p for one in sweeps for p in make_programs(one, (0,), tmp_path, 1)])

    for program in plan()[:2]:
        finish(program, Ends(icl=0.5))
    monkeypatch.setattr("subprocess.Popen", None)
    observer = Ended()
    assert run_programs(plan, machine_slots(1), observer, lambda: None) == []
    assert observer.names == ["renamed/p=0/seeds=0", "renamed/p=1/seeds=0"]
    assert all(one.is_complete() for one in plan())
