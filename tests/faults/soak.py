"""Monitor a long run: does anything grow or slow down?

python tests/faults/soak.py [STEPS]

Prints slopes per 1,000 steps, without the first tenth of the run, in which programs are compiled
and pools are filled. Slopes are Theil-Sen medians, since threads and handles increase while a
checkpoint is written. Time is CPU time, since the machine may be shared. TensorStore's threads are
counted apart: its pool grows on a slow or busy disk, by a thread whenever all others have waited
for 5 ms, and keeps each for 20 s.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent.parent)]
from launching import Processes  # noqa: E402

from emergent_icl.runs.records import last_step  # noqa: E402

STEPS = 20_000
POLL_SECONDS = 0.5


class Sample(NamedTuple):
    """Resources that a process has used after a step; `pool` counts TensorStore's threads."""

    step: int
    megabytes: float
    handles: int
    threads: int
    pool: int
    cpu_seconds: float
    wall_seconds: float


class Slope(NamedTuple):
    """Median of a quantity, and its slope per 1,000 steps with a 95% interval."""

    median: float
    slope: float
    low: float
    high: float

    def over(self, steps):
        """Growth over that many steps, as a fraction of the median."""
        return self.slope * steps / 1000 / self.median


def flags(steps):
    """Flags for `gaussian` with small batches, 20 evaluations, and 40 checkpoints."""
    return [
        "--config=experiments/configs/gaussian.py",
        f"--config.training.num_steps={steps}",
        "--config.training.batch_size=32",
        f"--config.evaluation.every={steps // 20}",
        "--config.evaluation.num_sequences=200",
        f"--config.checkpoints.every={steps // 40}",
        "--config.checkpoints.keep=3",
    ]


def sample(pid, step):
    """A sample of a process on this machine; None if it has ended."""
    process = Path("/proc") / str(pid)
    try:
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        handles = len(list((process / "fd").iterdir()))
        names = [(thread / "comm").read_text() for thread in (process / "task").iterdir()]
        pool = sum(name.startswith("ts_pool") for name in names)
        return Sample(
            step,
            int(status["VmRSS"].split()[0]) / 1024,
            handles,
            len(names) - pool,
            pool,
            (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
            time.monotonic(),
        )
    except (OSError, KeyError):
        return None


def soak(folder, steps=STEPS):
    """Trains and monitors; returns (exit status, stderr, samples)."""
    samples = []
    with Processes(folder, flags(steps)) as process:
        while process.running[0].poll() is None:
            step = last_step(folder / "metrics.jsonl")
            if (step and not samples) or (samples and step > samples[-1].step):
                found = sample(process.running[0].pid, step)
                samples += [found] if found else []
            time.sleep(POLL_SECONDS)
        status, _, err = process.wait()
    return status, err, samples


def slopes(samples, steps=STEPS):
    """{what: Slope}."""
    kept = [one for one in samples if one.step >= steps // 10]
    at = np.array([one.step for one in kept]) / 1000
    found = {
        what: slope([getattr(one, what) for one in kept], at)
        for what in ("megabytes", "handles", "threads")
    }
    # Rates between successive samples.
    thousands, middle = np.diff(at), (at[1:] + at[:-1]) / 2
    cpu = np.diff([one.cpu_seconds for one in kept])
    found["CPU ms per step"] = slope(cpu / thousands, middle)
    wall = np.diff([one.wall_seconds for one in kept])
    found["steps/s, with evaluations"] = slope(1000 * thousands / wall, middle)
    return found


def slope(values, at):
    """The slope of values at `at`, in thousands of steps."""
    middle, _, low, high = stats.theilslopes(values, at)
    return Slope(float(np.median(values)), float(middle), float(low), float(high))


def main(steps=STEPS):
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        status, err, samples = soak(Path(folder) / "run", steps)
    print(err, end="")
    print(f"{'':34}{'median':>9}  {'per 1,000 steps':24}{'over the run':>12}")
    for what, found in slopes(samples, steps).items():
        line = f"{found.slope:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
        print(f"{what:34}{found.median:9.2f}  {line:24}{f'{found.over(steps):+.1%}':>12}")
    return status


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
