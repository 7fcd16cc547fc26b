"""Local execution of jobs: cores, GPUs, failures, and interruption."""

import dataclasses
import errno
import os
import signal
import subprocess

import pytest
import tiny_sweep
from finished_runs import Ends, finish
from launching import PATIENCE, ROOT, start

from emergent_icl.sweeps.execute.local import LocalProcesses, machine_slots
from emergent_icl.sweeps.execute.loop import Failure, Stopped, Watcher, run_jobs
from emergent_icl.sweeps.jobs import distinct, make_jobs

# macOS and Windows cannot bind processes to cores.
needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="processes cannot be bound to cores on this system"
)


@pytest.fixture
def cores(monkeypatch):
    """Sets the cores that the process may use, without GPUs."""
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
def test_cores_are_divided_among_workers(cores, workers, expected):
    cores(2, 3, 5, 7)
    assert [set(slot.cores) for slot in machine_slots(workers)] == expected
    assert not any(slot.environment for slot in machine_slots(workers))


@pytest.fixture
def gpus(cores, monkeypatch):
    """Sets the GPUs that the process may use, with 16 cores and a JAX that supports GPUs."""
    cores(*range(16))
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [group])
    return lambda names: monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)


@needs_affinity
def test_each_gpu_has_a_slot_and_a_share_of_the_cores(gpus):
    gpus("1,3")
    first, second = machine_slots()
    assert (first.environment, second.environment) == (
        {"CUDA_VISIBLE_DEVICES": "1"},
        {"CUDA_VISIBLE_DEVICES": "3"},
    )
    assert len(first.cores) == len(second.cores) == 8
    assert not first.cores & second.cores
    shared, alone, _ = environments = [one.environment for one in machine_slots(3)]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in environments] == ["1", "3", "1"]
    # Without it, JAX would allocate 75% of the memory per process.
    assert shared["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.375"
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in alone


@needs_affinity
@pytest.mark.parametrize("hidden", ["", "-1", "-1,0"])
def test_hidden_gpus_have_no_slots(gpus, hidden):
    gpus(hidden)
    assert len(machine_slots()) == 16


@needs_affinity
def test_gpus_that_jax_cannot_use_have_no_slots(gpus, monkeypatch):
    gpus("0,1")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [])
    assert len(machine_slots()) == 16


def test_without_core_binding_one_slot_uses_all_cores(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert [set(slot.cores) for slot in machine_slots()] == [set()]


class Ended(Watcher):
    """Records the names of jobs that ended."""

    def __init__(self):
        self.names, self.failed = [], []

    def ended(self, job, failure):
        (self.failed if failure else self.names).append(job.name)


def train(workdir):
    return ["train", str(workdir.path)]


class Busy:
    """A place where jobs never end."""

    poll_seconds = 0.0

    def start(self, jobs):
        return {job.name: None for job in jobs}

    def ended(self):
        return {}

    def leave(self):
        return "left"


def test_a_requested_stop_ends_the_loop(tmp_path):
    sweep = tiny_sweep.get_sweep("plain")
    requests = iter([None, None, signal.SIGTERM])
    with pytest.raises(Stopped) as stopped:
        run_jobs(
            lambda: make_jobs(tiny_sweep.seeded([sweep], [0]), tmp_path, 1),
            Busy(),
            Watcher(),
            lambda: next(requests),
        )
    assert stopped.value.signal == signal.SIGTERM


def test_completed_runs_of_an_equal_sweep_are_not_repeated(tmp_path, monkeypatch):
    """Two sweeps have equal jobs, including searches; those of the first are complete."""
    searched = tiny_sweep.get_sweep("searched")
    sweeps = (searched, dataclasses.replace(searched, name="renamed"))
    ends = Ends(icl={"draw=0": 0.5, "draw=1": 0.7, "seed=0": 0.6})
    for _ in range(2):  # The searches, then the runs that waited for them.
        for job in make_jobs(tiny_sweep.seeded(sweeps[:1], (0,)), tmp_path, 1):
            if not job.waits_for:
                finish(job, ends)

    def find_jobs():
        return distinct(make_jobs(tiny_sweep.seeded(sweeps, (0,)), tmp_path, 1))

    monkeypatch.setattr("subprocess.Popen", None)
    watcher = Ended()
    place = LocalProcesses(machine_slots(1), train)
    assert run_jobs(find_jobs, place, watcher, lambda: None) == watcher.names == []
    assert all(job.is_complete() for job in find_jobs())
    assert not (tmp_path / "renamed").exists()


def test_a_job_that_cannot_start_fails_and_the_others_continue(tmp_path, monkeypatch):
    """One log is not writable."""

    def plan():
        return make_jobs(tiny_sweep.seeded([tiny_sweep.get_sweep()], (0, 1)), tmp_path, 1)

    first, *others = plan()
    for one in others:
        finish(one, Ends(icl=0.5))
    (first.workdir.path / "train.log").mkdir(parents=True)
    monkeypatch.setattr("subprocess.Popen", None)
    watcher = Ended()
    failures = run_jobs(plan, LocalProcesses(machine_slots(1), train), watcher, lambda: None)
    assert [one.job.name for one in failures] == [first.name] == watcher.failed
    assert failures[0].how == "not started"
    assert "Is a directory" in failures[0].lines[0]


@pytest.mark.parametrize("completes", [True, False])
def test_a_job_of_another_command_is_waited_for(completes, tmp_path, monkeypatch):
    """It completes there, and what waited for it starts here; or it stops, and starts here."""
    sweep = dataclasses.replace(
        tiny_sweep.get_sweep("searched"),
        conditions=tiny_sweep.get_sweep().conditions[:1],
    )
    ends = Ends(icl={"draw=0": 0.5, "draw=1": 0.7, "seed=0": 0.6})

    def plan():
        return make_jobs(tiny_sweep.seeded([sweep], (0,)), tmp_path)

    search, runs = plan()
    search.workdir.path.mkdir(parents=True)
    with _locked(search.workdir.log) as log:
        elsewhere = subprocess.Popen(["sleep", "60"], stdout=log)
    started = []

    def start(words, **settings):
        job = next(one for one in plan() if str(one.workdir.path) in words)
        started.append(job.name)
        finish(job, ends)
        return _Done()

    class Waiting(Ended):
        said = 0

        def waits(self, failure):
            self.said += 1
            assert "another command's job is still running in" in failure.lines[0]
            # Files of the running job are unchanged.
            assert [path.name for path in search.workdir.path.iterdir()] == ["train.log"]
            if completes:
                finish(search, ends)
            elsewhere.kill()
            elsewhere.wait()

    monkeypatch.setattr("subprocess.Popen", start)
    watcher = Waiting()
    try:
        failures = run_jobs(plan, LocalProcesses(machine_slots(1), train), watcher, lambda: None)
    finally:
        elsewhere.kill()
        elsewhere.wait()
    assert failures == watcher.failed == []
    assert (watcher.said, watcher.names) == (1, [search.name, runs.name])
    assert started == ([runs.name] if completes else [search.name, runs.name])


def test_a_job_that_still_runs_elsewhere_is_not_tried_again(tmp_path):
    """Each attempt takes time, in which a request to stop is not answered."""
    first, second = make_jobs(tiny_sweep.seeded([tiny_sweep.get_sweep()], [0]), tmp_path)
    first.workdir.path.mkdir(parents=True)
    offered = []

    class Occupied(Busy):
        def start(self, jobs):
            offered.append([job.name for job in jobs])
            return {
                job.name: Failure(job, "not started", (), is_elsewhere=True)
                for job in jobs
                if job.name == first.name
            }

    requests = iter([None] * 3 + [signal.SIGTERM])
    with _locked(first.workdir.log), pytest.raises(Stopped):
        run_jobs(lambda: [first, second], Occupied(), Watcher(), lambda: next(requests))
    assert offered[0] == [first.name, second.name]
    assert len(offered) > 1
    assert all(names == [second.name] for names in offered[1:])


class _Stopping:
    """A process that ends with a status after a request to stop."""

    def __init__(self, status):
        self.status = status

    def send_signal(self, number):
        assert number == signal.SIGTERM

    def wait(self, timeout):
        return self.status


def test_runs_that_could_not_be_saved_are_named(tmp_path, monkeypatch):
    """They were asked to stop; the disk is full for one of them, and one had just crashed."""
    jobs = make_jobs(tiny_sweep.seeded([tiny_sweep.get_sweep()], (0, 1)), tmp_path, 1)
    statuses = iter([128 + signal.SIGTERM, 1, -signal.SIGTERM, -signal.SIGSEGV])
    monkeypatch.setattr("subprocess.Popen", lambda *words, **settings: _Stopping(next(statuses)))
    place = LocalProcesses(machine_slots(4), train)
    assert list(place.start(jobs).values()) == [None] * 4
    said = place.leave()
    assert said.startswith("Stopped; every run is saved except ")
    saved, full, early, crashed = jobs
    for job, status in ((full, 1), (crashed, -signal.SIGSEGV)):
        assert f"{job.name} (exit status {int(status)}, see {job.workdir.log})" in said
    assert all(job.name not in said for job in (saved, early))


def test_runs_whose_settings_differ_from_the_chosen_ones_fail(tmp_path, monkeypatch):
    def plan():
        return make_jobs(tiny_sweep.seeded([tiny_sweep.get_sweep("searched")], (0,)), tmp_path, 2)

    def search(better):
        for job in plan():
            if job.name.endswith("search"):
                finish(job, Ends(icl={"draw=0": 0.6, "draw=1": better}))

    search(0.7)
    for job in plan():
        if not job.is_complete():
            finish(job, Ends(icl=0.5))
    search(0.5)
    monkeypatch.setattr("subprocess.Popen", None)
    failures = run_jobs(plan, LocalProcesses(machine_slots(1), train), Watcher(), lambda: None)
    assert [one.job.name for one in failures] == ["tiny/p=0/seeds=0", "tiny/p=1/seeds=0"]
    assert all("holds a run with another config" in one.lines[0] for one in failures)


def test_jobs_start_on_a_file_system_without_locks(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")  # Windows has no such locks.

    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr("subprocess.Popen", lambda *words, **settings: _Done())
    jobs = make_jobs(tiny_sweep.seeded([tiny_sweep.get_sweep()], (0,)), tmp_path, 1)
    for one in jobs[1:]:
        finish(one, Ends(icl=0.5))
    failures = run_jobs(
        lambda: jobs, LocalProcesses(machine_slots(1), train), Watcher(), lambda: None
    )
    # It was started, then failed.
    assert [one.how for one in failures] == ["exit status 3"]


class _Done:
    returncode = 3

    def poll(self):
        return self.returncode


def _locked(path):
    fcntl = pytest.importorskip("fcntl")  # Windows has no such locks.
    log = path.open("ab")
    fcntl.flock(log, fcntl.LOCK_EX)
    return log


def test_a_launcher_does_not_initialize_devices(tmp_path):
    """Otherwise, it would occupy GPU memory that its jobs need."""
    job = """
import tiny_sweep
from jax._src import xla_bridge
from pathlib import Path
from emergent_icl.sweeps.jobs import make_jobs
from emergent_icl.sweeps.results import collect
sweep = tiny_sweep.get_sweep("searched")
sweep.check()
assert len(make_jobs(tiny_sweep.seeded([sweep], (0,)), Path(ROOT), 2)) == 4
collect(tiny_sweep.seeded([sweep], (0,)), Path(ROOT), {})
print(len(xla_bridge._backends))
"""
    words = ("-c", job.replace("ROOT", repr(str(tmp_path))))
    out, err = start(*words, env={"PYTHONPATH": str(ROOT / "tests")}).communicate(timeout=PATIENCE)
    assert out == "0\n", err
