"""The one comparer: a suite is a row of a table, and a function that makes what is timed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import NamedTuple

from benchmarks.records import Measurements, Settings, Table, text_of
from benchmarks.timing import Rival, ratio, time_in_turn

# What the seconds of one step, sequence or launch become.
UNITS: dict[str, Callable[[float], float]] = {
    "s": lambda seconds: seconds,
    "ms/step": lambda seconds: 1e3 * seconds,
    "ms/sequence": lambda seconds: 1e3 * seconds,
    "sequences/s": lambda seconds: 1 / seconds,
}


class Subject(NamedTuple):
    """What is compared at a time; it is timed when it is handed over.

    Attributes:
      heading: of its column.
      name: of its measurements, '{}' stands for the rival or the ratio.
      rivals: by name.
    """

    heading: str
    name: str
    rivals: Mapping[str, Rival]


class Ratio(NamedTuple):
    """How many times as long one rival takes as another.

    Attributes:
      name: in measurements.
      heading: of its row.
      slow: the one rival.
      fast: the other.
    """

    name: str
    heading: str
    slow: str
    fast: str


class Suite(NamedTuple):
    """A row of the table of suites.

    Attributes:
      subjects: makes what is timed, a generator; whoever comes back to it finds the numbers among
        the measurements.
      unit: one of UNITS.
      title: of its table, with the settings to be filled in; '' for none.
      rows: headings by rival.
      ratio: of two rivals, where both are there.
      rounds: where those of the settings are too many.
      share: of the seconds of the settings, for a block; 0 for a single repetition.
    """

    subjects: Callable[[Settings, Measurements], Generator[Subject]]
    unit: str
    title: str = ""
    rows: Mapping[str, str] = {}
    ratio: Ratio | None = None
    rounds: int | None = None
    share: float = 1.0


def measure(suite: Suite, settings: Settings, found: Measurements) -> None:
    """Times every subject of a suite, with its rivals in turn."""
    rows = dict(suite.rows)
    if suite.ratio is not None:
        rows[suite.ratio.name] = suite.ratio.heading
    columns, place = {}, len(found.tables)
    with contextlib.closing(suite.subjects(settings, found)) as subjects:
        for subject in subjects:
            cells = _compare(suite, subject, settings, found)
            columns[subject.heading] = [cells.get(name, "-") for name in rows]
    if suite.title:
        title = suite.title.format(**settings._asdict())
        found.tables.insert(place, Table(title, list(rows.values()), columns))


def _compare(
    suite: Suite, subject: Subject, settings: Settings, found: Measurements
) -> dict[str, str]:
    """Records what a subject's rivals take; returns it in words, by rival."""
    rounds = suite.rounds or settings.rounds
    samples = time_in_turn(subject.rivals, rounds, suite.share * settings.seconds)
    cells = {}
    for rival, seconds in samples.items():
        values = [UNITS[suite.unit](one) for one in seconds]
        cells[rival] = text_of(found.record(subject.name.format(rival), values, suite.unit))
    if suite.ratio is not None and {suite.ratio.slow, suite.ratio.fast} <= set(samples):
        name = subject.name.format(suite.ratio.name)
        slow, fast = samples[suite.ratio.slow], samples[suite.ratio.fast]
        found.ratios[name], found.by_name[name] = ratio(name, slow, fast)
        cells[suite.ratio.name] = text_of(found.by_name[name])
    return cells
