"""Progress of a training run on the terminal."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import rich.progress

from emergent_icl.cli.console import make_bar, printing, say, say_error
from emergent_icl.evaluation.metrics import ICL, IWL
from emergent_icl.runs.progress import duration_text
from emergent_icl.runs.records import Display, Record

SHOWN = {"loss": "train/loss", "ICL": "eval/" + "/".join(ICL), "IWL": "eval/" + "/".join(IWL)}


class TrainingDisplay(Display):
    """A progress bar on a terminal, occasional lines elsewhere; see Display."""

    def __init__(self, started: float) -> None:
        """`started` is the command's start in `time.monotonic()`."""
        # Whether training began, so that the folder is this run's.
        self.has_started = False
        self._started: float | None = started
        parts = rich.progress
        done = ("step", parts.MofNCompleteColumn(), parts.BarColumn(), parts.TimeElapsedColumn())
        self._bar = make_bar(*done, parts.TimeRemainingColumn(), "left")
        self._latest: dict[str, Record] = {}

    def close(self) -> None:
        """Ends the bar, so that other text can be printed."""
        with printing():
            self._bar.stop()

    def started(self, facts: dict[str, Any]) -> None:
        """Prints the facts and starts the bar."""
        super().started(facts)
        self.has_started = True
        for name, fact in facts.items():
            if fact and not name.endswith("_step"):
                say(f"{name:>10}  {fact}")
        first_step = self.reached_step
        if first_step:
            say(f"{'resumed':>10}  after step {first_step}")
        self._task = self._bar.add_task("compiling", total=self.last_step, completed=first_step)
        with printing():
            self._bar.start()

    def warned(self, text: str) -> None:
        """Prints a warning."""
        say(f"warning: {text}")

    def set_aside(self, step: int, why: str, place: Path) -> None:
        """Reports an unreadable checkpoint."""
        say_error(f"the checkpoint of step {step} cannot be read: {why}\n  It is kept in {place}.")

    def advanced(self, step: int) -> None:
        """Moves the bar and reports the end of compilation."""
        super().advanced(step)
        if self._started is not None:
            say(f"{'compiled':>10}  {time.monotonic() - self._started:.0f} s after the start")
            self._started = None
        self._bar.update(self._task, completed=step)

    def logged(self, step: int, records: dict[str, Record]) -> None:
        """Shows the latest numbers."""
        for replica, record in records.items():
            self._latest[replica] = self._latest.get(replica, {}) | record
        text = "  ".join(_short(list(self._latest.values())))
        evaluated = any(name.startswith("eval/") for one in records.values() for name in one)
        self._bar.update(self._task, description=text)
        is_due = evaluated or step % max(self.last_step // 20, 1) == 0
        if self._bar.disable and is_due:
            say(f"step {step:>7}/{self.last_step}  {text}{self._time_left(step)}")

    def diverged(self, name: str, step: int, last_loss: float | None) -> None:
        """Reports a diverged replica."""
        self._latest.pop(name, None)
        last = "" if last_loss is None else f" (last finite loss: {last_loss:.4g})"
        say(f"replica '{name}' diverged at step {step}; the others continue{last}")

    def _time_left(self, step: int) -> str:
        rate = next(iter(self._latest.values()), {}).get("steps_per_second")
        left = self.last_step - step
        return f"  {duration_text(left / rate)} left" if rate and left else ""


def _short(latest: Sequence[Record]) -> Iterator[str]:
    """The latest numbers; for several replicas, the smallest and the largest."""
    for name, metric in SHOWN.items():
        values = [record[metric] for record in latest if metric in record]
        if values:
            ends = dict.fromkeys((min(values), max(values)))
            yield f"{name} {'..'.join(f'{end:.3f}' for end in ends)}"
    rates = [record for record in latest if "steps_per_second" in record]
    if rates:
        yield f"{rates[0]['steps_per_second']:.1f} steps/s"
        yield f"{sum(record['sequences_per_second'] for record in rates):.0f} sequences/s"
