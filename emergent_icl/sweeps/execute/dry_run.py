"""A dry run: a few steps of each kind of job at full size, saved and resumed, and their cost."""

import math
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from emergent_icl.config.configs import with_options
from emergent_icl.config.identity import identity
from emergent_icl.config.registry import ENCODERS
from emergent_icl.randomness import fingerprint
from emergent_icl.runs.memory import peak_bytes
from emergent_icl.runs.records import PACKAGES, processor, read_metrics, versions
from emergent_icl.runs.workdir import Workdir, read_object
from emergent_icl.sweeps.estimate import job_time
from emergent_icl.sweeps.execute import loop
from emergent_icl.sweeps.execute.local import machine_slots
from emergent_icl.sweeps.jobs import Job, distinct, make_jobs
from emergent_icl.sweeps.spec import Sweep
from emergent_icl.training.agenda import MOST_STEPS_ON_CPU, greatest_divisor, intervals
from emergent_icl.training.settings import visible_gpus

FILE = "dry_run.json"
# A first command makes some calls and saves; a second one resumes, makes the rest, and evaluates.
FIRST_CALLS, ALL_CALLS, NUM_SEQUENCES = 4, 6, 32


class Rehearsal(NamedTuple):
    """What a dry run of a job measured; times and memory are None if it failed."""

    step_seconds: float | None = None  # of a training step of one run
    peak_bytes: int | None = None  # resident memory of the process, without that of a GPU
    launch_seconds: float | None = None  # from launch to exit, of both commands together
    failure: str = ""  # the last line of its log


class HoursNeeded(NamedTuple):
    """What a finding would take on one device like this one."""

    num_runs: int
    hours: float | None  # None if one of its jobs failed


def kinds_of_jobs(sweeps: Sequence[Sweep], root: Path) -> dict[str, Job]:
    """One run of each condition and one draw of each search, by 'SWEEP/CONDITION[/search]'."""
    found: dict[str, Job] = {}
    for job in make_jobs(sweeps, root, runs_per_job=1):
        name = f"{job.sweep}/{job.condition}{'/search' * job.is_search}"
        first = job.config.training.replica_overrides[:1]
        short = with_options(job.config, {**_short(job), "training.replica_overrides": first})
        found.setdefault(name, job._replace(config=short, waits_for=()))
    return found


def _short(job: Job) -> dict[str, Any]:
    """Options of a rehearsal, whose calls take about as many steps as those of the job."""
    is_slow = ENCODERS.about(job.config.model.encoder).has_convolutions and not visible_gpus()
    common = math.gcd(*(steps for _, steps in intervals(job.config)))
    usual = greatest_divisor(common, 1 if is_slow else MOST_STEPS_ON_CPU)
    per_call = job.config.training.steps_per_call or usual
    return {
        "evaluation.at": (),
        "checkpoints.at": (),
        "training.steps_per_call": per_call,
        "training.num_steps": ALL_CALLS * per_call,
        "training.log_every": per_call,
        "evaluation.every": ALL_CALLS * per_call,
        "evaluation.num_sequences": NUM_SEQUENCES,
        "checkpoints.every": ALL_CALLS * per_call,
        "checkpoints.keep": 1,
    }


def dry_run(
    jobs: Mapping[str, Job],
    root: Path,
    command: loop.Command,
    stop_requested: Callable[[], signal.Signals | None],
) -> Iterator[tuple[str, Rehearsal]]:
    """Yields the name and the measurements of each job.

    Those in `root`/dry_run.json are reused if config, data, machine, and versions are the same.
    Jobs with the same folder, whose runs are the same, run once.

    Raises:
      Stopped: a signal was received. WorkdirError: dry_run.json is damaged, or another command
        rehearses the same job.
    """
    path = root / FILE
    stored = read_object(path, "record of a dry run") if path.exists() else {}
    by_folder: dict[str, Rehearsal] = {}
    for name, job in jobs.items():
        if job.name not in by_folder:
            known, about = stored.get(job.name, {}), _about(job)
            if all(known.get(key) == value for key, value in about.items()):
                found = Rehearsal(**known["measured"])
            else:
                found = _rehearse(job, command, stop_requested)
            by_folder[job.name] = found
            if not found.failure:
                stored[job.name] = {**about, "measured": found._asdict()}
                Workdir.write_json(path, stored)
        yield name, by_folder[job.name]


def _about(job: Job) -> dict[str, Any]:
    """What must be the same for a measurement to be valid, as JSON."""
    return {
        "config": identity(job.config),
        "data": fingerprint(job.config.data.to_dict()),
        # GPUs are numbers here, so other nodes may have other ones.
        "machine": [platform.node(), processor(), _num_cores(), *visible_gpus()],
        "environment": [os.environ.get(name, "") for name in ("JAX_PLATFORMS", "XLA_FLAGS")],
        "versions": versions(("emergent-icl", *PACKAGES)),
    }


def _num_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def hours_by_finding(
    sweeps: Sequence[Sweep], root: Path, found: Mapping[str, Rehearsal]
) -> dict[str, HoursNeeded]:
    """Estimated device-hours of all runs of each sweep, searches included."""
    needed = {}
    for sweep in sweeps:
        jobs = distinct(make_jobs([sweep], root))
        seconds: list[float] = []
        for job in jobs:
            measured = found[f"{job.sweep}/{job.condition}{'/search' * job.is_search}"]
            if measured.step_seconds is not None:
                seconds.append(job_time(job, measured.step_seconds).seconds)
        hours = sum(seconds) / 3600 if len(seconds) == len(jobs) else None
        needed[sweep.name] = HoursNeeded(sum(job.num_runs for job in jobs), hours)
    return needed


def _rehearse(
    job: Job, command: loop.Command, stop_requested: Callable[[], signal.Signals | None]
) -> Rehearsal:
    job.workdir.make()
    peaks, started = [], time.monotonic()
    # Not on several GPUs, which would share the batch.
    (slot,), first = machine_slots(1), FIRST_CALLS * job.config.training.steps_per_call
    with loop.own_log(job.workdir) as log:
        _clear(job.workdir, log)
        job.claim()
        for words, expected in (([f"--stop_after={first}"], 128 + signal.SIGTERM), ([], 0)):
            full = [*command(job.workdir), *words]
            process = loop.start_process(full, log, slot.environment)
            peaks.append(_peak_bytes(process, stop_requested))
            if process.returncode != expected:
                break
    seconds = time.monotonic() - started
    if failure := loop.failure_of(job, f"exit status {process.returncode}"):
        return Rehearsal(failure=failure.lines[-1] if failure.lines else failure.how)
    rates = [line.get("steps_per_second") for line in read_metrics(job.workdir.metrics)]
    return Rehearsal(statistics.median(1 / rate for rate in rates if rate), max(peaks), seconds)


def _clear(workdir: Workdir, log: IO[bytes]) -> None:
    """Removes an interrupted rehearsal, or that of another config, but for its locked log."""
    log.truncate(0)
    for path in workdir.path.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path != workdir.log:
            path.unlink()


def _peak_bytes(
    process: subprocess.Popen[bytes], stop_requested: Callable[[], signal.Signals | None]
) -> int:
    """Waits for a process and sets its exit status; returns its greatest resident memory."""
    peak = 0
    while True:
        peak = max(peak, peak_bytes(process.pid))
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            # Without /proc; in bytes on macOS, in KiB elsewhere.
            return peak or usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        if number := stop_requested():
            process.terminate()
            process.wait()
            raise loop.Stopped(number, "Stopped the dry run.", ())
        time.sleep(loop.POLL_SECONDS)
