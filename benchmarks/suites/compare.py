"""The one comparer: a suite is a row of a table, and a function that makes what is timed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import NamedTuple

from benchmarks.records import Measurements, Settings, Table, text_of
from benchmarks.timing import Rival, ratio, time_in_turn


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
    """How many times as long `slow` takes as `fast`; its name, and the heading of its row."""

    name: str
    heading: str
    slow: str
    fast: str


class Suite(NamedTuple):
    """A row of the table of suites.

    Attributes:
      subjects: makes what is timed, a generator; when it goes on, the numbers of the last one are
        among the measurements.
      unit: 's', 'sequences/s', or milliseconds of something.
      title: of its table, with the settings to be filled in; '' for none.
      rows: headings by rival.
      ratio: of two rivals, where both are there.
      rounds: in place of those of the settings.
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
            measured = _compare(suite, subject, settings, found)
            columns[subject.heading] = [measured.get(name, "-") for name in rows]
    if suite.title:
        title = suite.title.format(**settings._asdict())
        found.tables.insert(place, Table(title, list(rows.values()), columns))


def _compare(
    suite: Suite, subject: Subject, settings: Settings, found: Measurements
) -> dict[str, str]:
    """Records what a subject's rivals take; returns it in words, by rival."""
    rounds = suite.rounds or settings.rounds
    samples = time_in_turn(subject.rivals, rounds, suite.share * settings.seconds)
    words = {}
    for rival, seconds in samples.items():
        values = [_in_unit(one, suite.unit) for one in seconds]
        words[rival] = text_of(found.record(subject.name.format(rival), values, suite.unit))
    if suite.ratio is not None and {suite.ratio.slow, suite.ratio.fast} <= set(samples):
        name = subject.name.format(suite.ratio.name)
        slow, fast = samples[suite.ratio.slow], samples[suite.ratio.fast]
        found.ratios[name], found.by_name[name] = ratio(name, slow, fast)
        words[suite.ratio.name] = text_of(found.by_name[name])
    return words


def _in_unit(seconds: float, unit: str) -> float:
    """What so many seconds a step, a sequence or a launch are."""
    if unit == "sequences/s":
        return 1 / seconds
    return seconds if unit == "s" else 1e3 * seconds
