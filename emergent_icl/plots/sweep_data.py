"""What is drawn and said of sweeps: curves over seeds, the order of conditions, their looks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from emergent_icl.data.sequences.types import VISIBLE
from emergent_icl.plots import style
from emergent_icl.plots.style import DASHES, LOOKS, Look
from emergent_icl.sweeps.measures import is_share, sample_of
from emergent_icl.sweeps.statistics import mean_estimate

# A part of results.json.
Json = Mapping[str, Any]

OTHER_LOOKS = (
    Look(style.GREEN, ":", "v"), Look(style.PURPLE, "-.", "^"),
    Look(style.INK, "-", "X"), Look(style.GRAY, "--", "P"),
)  # fmt: skip

# Verdict -> a sign that needs no color, and a color dark enough for text on white.
VERDICTS = {
    "reproduced": ("✓", "#00694D"),
    "not reproduced": ("✗", "#A34700"),
    "inconclusive": ("?", style.SOFT),
}
NO_VERDICT = ("∅", style.SOFT)

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Neighbors are far apart in lightness.
CATEGORIES = (
    style.BLUE, style.ORANGE, style.INK, style.PURPLE, style.GREEN, style.SKY, style.VERMILLION,
)  # fmt: skip
# Viridis beyond this is too pale on white.
PALEST = 0.78
# Conditions of an axis that lie nearer than this share of it would be crammed.
CRAMMED, SPARSE = 0.05, 0.09
# Chances nearer than this are one line.
SAME_CHANCE = 0.02


class Band(NamedTuple):
    """A measure over training: at each step the mean of the runs that have it, and its interval.

    Low and high are the ends of the 95 % interval, nan where it is not known: of a single run.
    """

    steps: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


def look_of(measure: str) -> Look:
    """The look of a measure; one that is unknown bears its own name."""
    other = OTHER_LOOKS[sum(measure.encode()) % len(OTHER_LOOKS)]
    own_name = other._replace(short=measure.removeprefix("eval/"), long=measure)
    return LOOKS.get(measure, own_name)


def is_number(value: object) -> bool:
    """Whether there is something to draw; JSON has null, or NaN, where there is not."""
    return isinstance(value, int | float) and math.isfinite(value)


def runs_of(sweep: Json) -> list[Json]:
    """Every run of every condition."""
    return [run for one in sweep["conditions"].values() for run in one["runs"].values()]


def has_diverged(run: Json) -> bool:
    """Whether a run ended early, with a loss that is no number."""
    return run.get("diverged_at_step") is not None


def points(run: Json, measure: str) -> dict[int, float]:
    """A run's curve, {step: value}; empty where it has none."""
    curve = run.get("curves", {}).get(measure) or {"steps": [], "values": []}
    pairs = zip(curve["steps"], curve["values"], strict=True)
    return {step: value for step, value in pairs if is_number(value)}


def band(runs: Iterable[Json], measure: str) -> Band:
    """Mean of runs and its 95 % interval at each step, within [0, 1] where it must be.

    Runs that diverged take no part: they end early, and where they end a mean would jump.
    """
    at: dict[int, list[tuple[float, int | None, int]]] = {}
    for run in runs:
        # Results of earlier versions do not say what was drawn.
        drawn = run.get("evaluation_seed"), run.get("num_sequences", 0)
        if not has_diverged(run):
            for step, value in points(run, measure).items():
                at.setdefault(step, []).append((value, *drawn))
    least, most = (0.0, 1.0) if is_share(measure) else (-math.inf, math.inf)
    found = Band([], [], [], [])
    for step in sorted(at):
        values, *drawn = zip(*at[step], strict=True)
        sample = sample_of(measure, values, list(zip(*drawn, strict=True)))
        mean, low, high = mean_estimate(sample).interval()
        is_known = math.isfinite(low)
        found.steps.append(step)
        found.mean.append(mean)
        found.low.append(max(low, least) if is_known else math.nan)
        found.high.append(min(high, most) if is_known else math.nan)
    return found


def finals(condition: Json, measure: str) -> list[float]:
    """What the runs of a condition end with; without those that diverged or were not measured."""
    runs = condition["runs"].values()
    values = [run.get("final", {}).get(measure) for run in runs if not has_diverged(run)]
    return [value for value in values if is_number(value)]


def levels(
    conditions: Mapping[str, Json], measure: str, colors: Mapping[str, Look]
) -> list[tuple[str, str, float]]:
    """What answers without learning give, to be drawn as dotted lines: (text, color, accuracy).

    Chance of any condition, the least of those too near to be told apart; constant answers.
    """
    found: list[tuple[str, str, float]] = []
    for chance in sorted(
        filter(is_number, (one["chance"].get(measure) for one in conditions.values()))
    ):
        if not found or chance - found[-1][2] > SAME_CHANCE:
            found.append(("chance", style.GRAY, chance))
    above = constants(conditions, measure).items() if colors else ()
    return found + [(f"constant, {name}", colors[name].color, value) for name, value in above]


def constants(conditions: Mapping[str, Json], measure: str) -> dict[str, float]:
    """Condition -> accuracy of the best constant answer, where it is visibly above chance."""
    found = {}
    for name, one in conditions.items():
        constant, chance = (one.get(kind, {}).get(measure) for kind in ("constant", "chance"))
        if is_number(constant) and constant - (chance or 0.0) > VISIBLE:
            found[name] = constant
    return found


def is_map(sweep: Json) -> bool:
    """Whether a sweep has two axes."""
    return not isinstance(sweep["axis"], str)


def is_ordered(conditions: Mapping[str, Json]) -> bool:
    """Whether conditions differ in a number."""
    return len(conditions) > 1 and all(is_number(one["value"]) for one in conditions.values())


def in_order(conditions: Mapping[str, Json]) -> dict[str, Json]:
    """Conditions by their value, where all have one; else as they come."""
    if not is_ordered(conditions):
        return dict(conditions)
    return dict(sorted(conditions.items(), key=lambda item: item[1]["value"]))


def axis_places(conditions: Mapping[str, Json]) -> tuple[list[float], str]:
    """Where conditions stand on an axis in [0, 1], and how: 'linear', 'log' or 'in order'.

    By their value, or its logarithm, unless two of them would then be crammed together.
    """
    if is_ordered(conditions):
        values = np.array([float(one["value"]) for one in conditions.values()])
        scales = {"linear": values} | ({"log": np.log(values)} if (values > 0).all() else {})
        places = {how: (one - one.min()) / max(np.ptp(one), 1e-12) for how, one in scales.items()}
        nearest = {how: float(np.diff(np.sort(place)).min()) for how, place in places.items()}
        best = "linear" if nearest["linear"] >= SPARSE else max(nearest, key=nearest.__getitem__)
        if nearest[best] >= CRAMMED:
            return places[best].tolist(), best
    if len(conditions) == 1:
        return [0.5], "in order"
    return np.linspace(0, 1, len(conditions)).tolist(), "in order"


def looks(conditions: Mapping[str, Json]) -> dict[str, Look]:
    """A look for each condition: from dark to light where they have an order."""
    colors: Sequence[str] = CATEGORIES
    if is_ordered(conditions):
        shades = colormaps["viridis"](np.linspace(0, PALEST, len(conditions)))
        colors = [to_hex(shade) for shade in shades]
    cycled = zip(*map(itertools.cycle, (colors, DASHES, MARKERS)), strict=True)
    named = zip(in_order(conditions), cycled, strict=False)
    return {name: Look(*look) for name, look in named}


def title_of(name: str, sweep: Json | None) -> str:
    """Of a sweep, its name where it has none."""
    return (sweep or {}).get("title") or name


def count(number: int, what: str) -> str:
    """'1 seed', '5 seeds'."""
    return f"{number} {what}{'s' * (number != 1)}"


def count_text(sweep: Json) -> str:
    """How many seeds a condition has, and which runs are not there or diverged."""
    runs = runs_of(sweep)
    if not runs:
        return "No runs"
    conditions = sweep["conditions"].values()
    seeds = {seed for one in conditions for seed in one["runs"]}
    planned = len(seeds) * len(conditions)
    odd = {"missing": planned - len(runs), "diverged": sum(map(has_diverged, runs))}
    said = ", ".join(f"{number} {what}" for what, number in odd.items() if number)
    return f"n = {count(len(seeds), 'seed')}" + (f" ({said} of {planned} runs)" if said else "")


def verdict_text(verdict: Json | None) -> tuple[str, str]:
    """A verdict with its sign, its stricter reading where that is another, and its color."""
    if not verdict:
        return f"{NO_VERDICT[0]} no verdict", NO_VERDICT[1]
    sign, color = VERDICTS.get(verdict["verdict"], NO_VERDICT)
    strict = verdict.get("strict", verdict)
    is_same = strict["verdict"] == verdict["verdict"]
    but = "" if is_same else f" (stricter reading: {verdict_text(strict)[0]})"
    return f"{sign} {verdict['verdict']}{but}", color


def family_text(verdicts: Mapping[str, Json]) -> str:
    """How many claims were judged together, and by what; stands above every table of verdicts."""
    if not verdicts:
        return "No claims."
    number = count(len(verdicts), "claim")
    if not all("strict" in one for one in verdicts.values()):
        return f"{number}, each judged by itself."
    said = f"{number}, judged as one family"
    if all(one.get("rule", "limits") == "limits" for one in verdicts.values()):
        return f"{said}: p, adjusted for its size (Holm), must be below 0.05."
    return (
        f"{said}. Verdicts follow the rules under which the claims were written. The stricter "
        "reading is given if it differs: the whole 95 % interval must lie beyond its bound, and p, "
        "adjusted for the number of claims (Holm), must be below 0.05."
    )


def headline(results: Json) -> str:
    """'4 of 7 findings reproduced', and how many by the stricter reading if that is less.

    Of sweeps without claims their titles.
    """
    verdicts, sweeps = results["verdicts"], results["sweeps"]
    if sweeps and not verdicts:
        return ", ".join(title_of(*one) for one in sweeps.items())
    own = [one["verdict"] for one in verdicts.values()].count("reproduced")
    readings = [one.get("strict", one)["verdict"] for one in verdicts.values()]
    strict = readings.count("reproduced")
    said = f"{own} of {count(len(verdicts), 'finding')} reproduced"
    return said if strict == own else f"{said}, {strict} by the stricter reading"


def registration_text(results: Json, name: str) -> str:
    """Whether a finding's claim was registered before its runs, and what has changed since."""
    return results.get("registration", {}).get("status", {}).get(name, "not registered")


def registrations_text(results: Json) -> str:
    """The same of all findings, without what has changed."""
    texts = {name: registration_text(results, name) for name in results["verdicts"]}
    said = by_text({name: text.partition(":")[0] for name, text in texts.items()})
    return f"Claims: {said or 'none'}"


def by_text(texts: Mapping[str, str]) -> str:
    """Texts of several sweeps in a line: the commonest one, then others with the sweeps' names."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(name)
    first, *others = sorted(names, key=lambda text: -len(names[text])) or [""]
    return "; ".join([first, *(f"{', '.join(names[one])}: {one}" for one in others)])


def context_text(results: Json) -> str:
    """Where numbers come from: dataset, preset and what was changed of it."""
    preset = f", preset '{results['preset']}'" if results["preset"] else ""
    return results["dataset"] + preset + "".join(f", {one}" for one in changes(results))


# What the replicates of a sweep have of their own, by `Sweep.split`.
SPLITS = {
    "replicate": "each seed has its own class split and evaluation sequences",
    "fixed": "all seeds share one class split and one set of evaluation sequences",
}


def replicates_text(results: Json) -> str:
    """The seeds of all sweeps, and what their replicates share; named where sweeps differ."""
    texts = {}
    for name, sweep in results["sweeps"].items():
        shared = SPLITS.get(sweep.get("split", ""))
        seeds = seeds_text(sweep.get("seeds", results["seeds"]))
        texts[name] = seeds + (f" ({shared})" if shared else "")
    return by_text(texts) or seeds_text(results["seeds"])


def seeds_text(seeds: Sequence[int]) -> str:
    """'seeds 0, 1, 2', 'seeds 100 to 107', 'seed 3'."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if len(seeds) > 5 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}"


def changes(results: Json) -> list[str]:
    """Options that the whole reproduction differs in from its preset, 'a.b=1' each."""
    return [f"{option}={value}" for option, value in results["changes"].items()]
