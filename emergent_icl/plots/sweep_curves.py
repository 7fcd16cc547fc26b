"""What pictures of a sweep share: curves over seeds, the order of conditions, their looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb

from emergent_icl.plots import style
from emergent_icl.sweeps.statistics import mean_interval

Json = Mapping[str, Any]


class Look(NamedTuple):
    """How something is drawn; one of them suffices to tell it from others.

    Attributes:
      colour: '#rrggbb'.
      dashes: of Matplotlib.
      marker: of Matplotlib.
    """

    colour: str
    dashes: str
    marker: str


class Measure(NamedTuple):
    """What is measured.

    Attributes:
      short: at a line's end.
      long: above a panel.
      look: where lines are measures, not conditions.
    """

    short: str
    long: str
    look: Look


MEASURES = {
    "icl": Measure(
        "ICL", "in-context learning (ICL): accuracy on holdout classes", Look(style.BLUE, "-", "o")
    ),
    "iwl": Measure(
        "IWL", "in-weights learning (IWL): accuracy without support",
        Look(style.VERMILLION, "--", "s"),
    ),
    "iwl_common": Measure(
        "IWL, common", "in-weights learning (IWL) on common classes", Look("#E69F00", ":", "D")
    ),
    "iwl_rare": Measure(
        "IWL, rare", "in-weights learning (IWL) on rare classes", Look(style.PURPLE, "-.", "^")
    ),
    "loss": Measure("loss", "training loss (nats)", Look(style.GREEN, ":", "v")),
}  # fmt: skip
OTHER_LOOKS = (
    Look(style.GREEN, ":", "v"),
    Look(style.PURPLE, "-.", "^"),
    Look(style.INK, "-", "X"),
    Look(style.GREY, "--", "P"),
)

# Verdict -> a sign that needs no colour, and a colour dark enough for text on white.
VERDICTS = {
    "reproduced": ("✓", "#00694D"),
    "not reproduced": ("✗", "#A34700"),
    "inconclusive": ("?", "#555555"),
}
NO_VERDICT = ("∅", "#555555")

DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Okabe and Ito's colours, neighbours far apart in lightness.
CATEGORIES = (
    style.BLUE, "#E69F00", style.INK, style.PURPLE, style.GREEN, "#56B4E9", style.VERMILLION,
)  # fmt: skip
# Viridis beyond this is too pale on white.
PALEST = 0.78
# Chances nearer than this are one line.
SAME_CHANCE = 0.02
# What WCAG 2 asks of text.
TEXT_CONTRAST = 4.5


class Band(NamedTuple):
    """A measure over training, over independent runs.

    Attributes:
      steps: increasing.
      mean: at each step, of the runs that have it.
      low: of the 95 % t interval; nan where fewer than two runs have the step.
      high: likewise.
      counts: of the runs that have the step.
    """

    steps: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]
    counts: list[int]


def measure(name: str) -> Measure:
    """The names of a measure; one that is unknown bears its own."""
    look = OTHER_LOOKS[sum(name.encode()) % len(OTHER_LOOKS)]
    return MEASURES.get(name, Measure(name.removeprefix("eval/"), name, look))


def is_share(name: str) -> bool:
    """Whether a measure lies in [0, 1]: an accuracy, or how often something is predicted."""
    last = name.rsplit("/", 1)[-1]
    return last.startswith(("icl", "iwl", "accuracy", "predicts_"))


def is_number(value: object) -> bool:
    """Whether there is something to draw; JSON has null, or NaN, where there is not."""
    return isinstance(value, int | float) and math.isfinite(value)


def points(run: Json, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of a run's curve; both empty where it has none."""
    curve = run.get("curves", {}).get(name) or {"steps": [], "values": []}
    pairs = [
        (step, value)
        for step, value in zip(curve["steps"], curve["values"], strict=True)
        if is_number(value)
    ]
    return [step for step, _ in pairs], [value for _, value in pairs]


def band(runs: Sequence[Json], name: str) -> Band:
    """Mean of runs and its 95 % t interval at each step, within [0, 1] where it must be.

    Runs that diverged take no part: they end early, and where they end a mean would jump.
    """
    at: dict[int, list[float]] = {}
    for run in runs:
        if run.get("diverged_at_step") is None:
            for step, value in zip(*points(run, name), strict=True):
                at.setdefault(step, []).append(value)
    steps = sorted(at)
    intervals = [mean_interval(at[step]) for step in steps]
    least, most = (0.0, 1.0) if is_share(name) else (-math.inf, math.inf)

    def bounded(value: float, count: int) -> float:
        return min(max(value, least), most) if count > 1 else math.nan

    counts = [len(at[step]) for step in steps]
    return Band(
        steps,
        [interval.mean for interval in intervals],
        [bounded(one.low, count) for one, count in zip(intervals, counts, strict=True)],
        [bounded(one.high, count) for one, count in zip(intervals, counts, strict=True)],
        counts,
    )


def finals(condition: Json, name: str) -> list[float]:
    """What the runs of a condition end with; without those that diverged or were not measured."""
    values = [
        run.get("final", {}).get(name)
        for run in condition["runs"].values()
        if run.get("diverged_at_step") is None
    ]
    return [value for value in values if is_number(value)]


def distinct_chances(conditions: Mapping[str, Json], name: str) -> list[float]:
    """What guessing gives in any condition; of those too near to be told apart, the least."""
    chances = [one["chance"].get(name) for one in conditions.values()]
    found: list[float] = []
    for chance in sorted(filter(is_number, chances)):
        if not found or chance - found[-1] > SAME_CHANCE:
            found.append(chance)
    return found


def is_ordered(conditions: Mapping[str, Json]) -> bool:
    """Whether conditions differ in a number."""
    return len(conditions) > 1 and all(is_number(one["value"]) for one in conditions.values())


def in_order(conditions: Mapping[str, Json]) -> dict[str, Json]:
    """Conditions by their value, where all have one; else as they come."""
    if not is_ordered(conditions):
        return dict(conditions)
    return dict(sorted(conditions.items(), key=lambda item: item[1]["value"]))


def looks(conditions: Mapping[str, Json]) -> dict[str, Look]:
    """A look for each condition: from dark to light where they have an order."""
    ordered, last = in_order(conditions), max(len(conditions) - 1, 1)
    return {
        name: Look(
            to_hex(colormaps["viridis"](PALEST * index / last))
            if is_ordered(conditions)
            else CATEGORIES[index % len(CATEGORIES)],
            DASHES[index % len(DASHES)],
            MARKERS[index % len(MARKERS)],
        )
        for index, name in enumerate(ordered)
    }


def contrast_with_white(colour: str) -> float:
    """Contrast ratio of WCAG 2, in [1, 21]."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in to_rgb(colour)
    ]
    luminance = sum(w * part for w, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 1.05 / (luminance + 0.05)


def readable(colour: str) -> str:
    """The same hue, as dark as text on white must be."""
    rgb = to_rgb(colour)
    while contrast_with_white(to_hex(rgb)) < TEXT_CONTRAST:
        rgb = tuple(0.95 * part for part in rgb)
    return to_hex(rgb)


def count_text(sweep: Json) -> str:
    """How many seeds a condition has, and which runs are not there or diverged."""
    conditions = sweep["conditions"].values()
    seeds = {seed for one in conditions for seed in one["runs"]}
    runs = [run for one in conditions for run in one["runs"].values()]
    missing = len(seeds) * len(conditions) - len(runs)
    diverged = num_diverged(sweep)
    if not runs:
        return "No runs"
    odd = [f"{missing} missing"] if missing else []
    odd += [f"{diverged} diverged"] if diverged else []
    told = f" ({', '.join(odd)} of {len(runs) + missing} runs)" if odd else ""
    return f"n = {len(seeds)} seed{'s' * (len(seeds) != 1)}{told}"


def num_diverged(sweep: Json) -> int:
    """How many runs diverged."""
    runs = [run for one in sweep["conditions"].values() for run in one["runs"].values()]
    return sum(run.get("diverged_at_step") is not None for run in runs)


def step_text(step: float) -> str:
    """A step as an axis has it: 500, 2k, 1.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(step) >= size:
            return f"{step / size:g}{unit}"
    return f"{step:g}"


def verdict_text(verdict: Json | None) -> tuple[str, str]:
    """A verdict with its sign, and its colour; 'no verdict' where there is none."""
    if not verdict:
        return f"{NO_VERDICT[0]} no verdict", NO_VERDICT[1]
    sign, colour = VERDICTS.get(verdict["verdict"], NO_VERDICT)
    return f"{sign} {verdict['verdict']}", colour


def headline(verdicts: Mapping[str, Json]) -> str:
    """How many findings were reproduced, in a sentence's beginning."""
    kinds = [verdict["verdict"] for verdict in verdicts.values()]
    count = len(kinds)
    return f"{kinds.count('reproduced')} of {count} finding{'s' * (count != 1)} reproduced"
