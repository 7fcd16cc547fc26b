"""Shared by figures and tables of sweeps: means over seeds, order, looks, and short texts."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from emergent_icl.evaluation.measures import is_accuracy, is_share, is_visible
from emergent_icl.plots import style
from emergent_icl.plots.style import DASHES, LOOKS, Look
from emergent_icl.sweeps.evidence import sample_of
from emergent_icl.sweeps.statistics import mean_estimate

# A part of results.json.
Json = Mapping[str, Any]

# Colors that no measure with a row in LOOKS has come first.
OTHER_LOOKS = (
    Look(style.INK, "-", "X"), Look(style.SKY, "--", "P"), Look(style.GRAY, "-.", "*"),
    Look(style.GREEN, ":", "v"), Look(style.PURPLE, "-.", "^"),
)  # fmt: skip

# Verdict -> a sign, and a color dark enough for text on white.
VERDICTS = {
    "reproduced": ("✓", "#00694D"),
    "not reproduced": ("✗", "#A34700"),
    "inconclusive": ("?", style.SOFT),
}
NO_VERDICT = ("∅", style.SOFT)

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Smallest distance between ticks, as a fraction of the axis: acceptable, and comfortable.
CRAMMED, SPARSE = 0.05, 0.09
# Chance levels closer than this are drawn as one line.
SAME_CHANCE = 0.02


class Band(NamedTuple):
    """Mean over runs at each step, with its 95% interval [low, high] (NaN for a single run)."""

    steps: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


def look_of(measure: str) -> Look:
    """The look and the names of a single measure, even without a row in LOOKS."""
    return measure_looks([measure])[measure]


def measure_looks(measures: Iterable[str]) -> dict[str, Look]:
    """Measure -> look; those without a row in LOOKS share the remaining ones in turn."""
    names = list(measures)
    taken = {LOOKS[name].color for name in names if name in LOOKS}
    free = itertools.cycle(look for look in OTHER_LOOKS if look.color not in taken)
    return {
        name: LOOKS.get(name) or next(free)._replace(short=name.removeprefix("eval/"), long=name)
        for name in names
    }


def is_number(value: object) -> bool:
    """Whether a value of results.json is finite: missing ones are null or NaN."""
    return isinstance(value, int | float) and math.isfinite(value)


def runs_of(sweep: Json) -> list[Json]:
    """All runs of a sweep."""
    return [run for one in sweep["conditions"].values() for run in one["runs"].values()]


def has_diverged(run: Json) -> bool:
    """Whether a run ended early with a non-finite loss."""
    return run.get("diverged_at_step") is not None


def points(run: Json, measure: str) -> dict[int, float]:
    """A run's curve, {step: value}, without missing values."""
    curve = run.get("curves", {}).get(measure) or {"steps": [], "values": []}
    pairs = zip(curve["steps"], curve["values"], strict=True)
    return {step: value for step, value in pairs if is_number(value)}


def band(runs: Iterable[Json], measure: str) -> Band:
    """Mean over runs and its 95% interval, within [0, 1] for accuracies, at their common steps.

    Diverged runs are excluded. (The mean would jump where they end, or at a step of some runs.)
    """
    finished = itertools.filterfalse(has_diverged, runs)
    measured = [(run, curve) for run in finished if (curve := points(run, measure))]
    # Earlier versions did not record these.
    drawn = [(run.get("evaluation_seed"), run.get("num_sequences", 0)) for run, _ in measured]
    curves = [curve for _, curve in measured]
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    samples = (sample_of(measure, [one[step] for one in curves], drawn) for step in steps)
    intervals = np.array([mean_estimate(one).interval() for one in samples]).reshape(-1, 3)
    intervals[np.isinf(intervals)] = math.nan
    mean, *limits = intervals.T
    if is_share(measure):
        limits = np.clip(limits, 0.0, 1.0)
    return Band(steps, mean.tolist(), *(limit.tolist() for limit in limits))


def finals(condition: Json, measure: str) -> list[float]:
    """Final values of a condition's runs, without diverged and unmeasured ones."""
    runs = condition["runs"].values()
    values = [run.get("final", {}).get(measure) for run in runs if not has_diverged(run)]
    return [value for value in values if is_number(value)]


def levels(
    conditions: Mapping[str, Json], measure: str, colors: Mapping[str, Look]
) -> list[tuple[str, str, float]]:
    """Accuracies without learning, for dotted lines: (text, color, accuracy).

    Chance levels, merged if indistinguishable, and the best constant answers.
    """
    found: list[tuple[str, str, float]] = []
    chances = [one["chance"].get(measure) for one in conditions.values()]
    for chance in sorted(filter(is_number, chances)):
        if not found or chance - found[-1][2] > SAME_CHANCE:
            found.append(("chance", style.GRAY, chance))
    above = constants(conditions, measure).items() if colors else ()
    return found + [(f"constant, {name}", colors[name].color, value) for name, value in above]


def constants(conditions: Mapping[str, Json], measure: str) -> dict[str, float]:
    """Condition -> accuracy of the best constant answer, if visibly above chance."""
    found = {}
    for name, one in conditions.items():
        constant, chance = (one.get(kind, {}).get(measure) for kind in ("constant", "chance"))
        if is_number(constant) and is_visible(constant, chance):
            found[name] = constant
    return found


def has_constants(sweep: Json) -> bool:
    """Whether a constant answer is visibly above chance in any condition."""
    return any(constants(sweep["conditions"], measure) for measure in sweep["measures"])


def is_map(sweep: Json) -> bool:
    """Whether a sweep has two axes."""
    return not isinstance(sweep["axis"], str)


def is_over_training(sweep: Json) -> bool:
    """Whether its panel in the summary shows curves over training instead of final values."""
    return not is_map(sweep) and (sweep.get("plot") == "curves" or len(sweep["conditions"]) == 1)


def is_ordered(conditions: Mapping[str, Json]) -> bool:
    """Whether conditions have numeric values."""
    return len(conditions) > 1 and all(is_number(one["value"]) for one in conditions.values())


def in_order(conditions: Mapping[str, Json]) -> dict[str, Json]:
    """Conditions sorted by value if all have one."""
    ordered = is_ordered(conditions)
    return dict(sorted(conditions.items(), key=lambda one: one[1]["value"] if ordered else 0))


def axis_places(conditions: Mapping[str, Json]) -> tuple[list[float], str]:
    """Positions of conditions on an axis in [0, 1], and its scale: 'linear', 'log' or 'in order'.

    'In order' (equal distances) is used if values or their logarithms would overlap.
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
    """Condition -> look; colors of ordered conditions go from dark to light."""
    colors = style.series_colors(len(conditions), ordered=is_ordered(conditions))
    cycled = zip(colors, itertools.cycle(DASHES), itertools.cycle(MARKERS), strict=False)
    named = zip(in_order(conditions), cycled, strict=True)
    return {name: Look(*look) for name, look in named}


def title_of(name: str, sweep: Json | None) -> str:
    """Title of a sweep, or its name."""
    return (sweep or {}).get("title") or name


def count(number: int, what: str) -> str:
    """'1 seed', '5 seeds'."""
    return f"{number} {what}{'s' * (number != 1)}"


def count_text(sweep: Json) -> str:
    """Number of seeds, and of missing or diverged runs."""
    runs = runs_of(sweep)
    if not runs:
        return "No runs"
    conditions = sweep["conditions"].values()
    # Earlier versions did not record the seeds of each sweep.
    seeds = sweep.get("seeds") or {seed for one in conditions for seed in one["runs"]}
    planned = len(seeds) * len(conditions)
    odd = {"missing": planned - len(runs), "diverged": sum(map(has_diverged, runs))}
    said = ", ".join(f"{number} {what}" for what, number in odd.items() if number)
    return f"n = {count(len(seeds), 'seed')}" + (f" ({said} of {planned} runs)" if said else "")


def axis_label(measure: str) -> str:
    """Name of the axis of curves of a measure; '' for a loss, which its title names."""
    if is_accuracy(measure):
        return "accuracy"
    return "fraction of queries" if is_share(measure) else ""


def verdict_text(verdict: Json | None) -> tuple[str, str]:
    """Sign, verdict, and stricter reading (if different); and the color."""
    if not verdict:
        return f"{NO_VERDICT[0]} no verdict", NO_VERDICT[1]
    sign, color = VERDICTS.get(verdict["verdict"], NO_VERDICT)
    strict = verdict.get("strict", verdict)
    is_same = strict["verdict"] == verdict["verdict"]
    but = "" if is_same else f" (stricter reading: {verdict_text(strict)[0]})"
    return f"{sign} {verdict['verdict']}{but}", color


def family_text(verdicts: Mapping[str, Json]) -> str:
    """Number of claims and the rule for judging them, shown above tables of verdicts."""
    if not verdicts:
        return "No claims."
    number = count(len(verdicts), "claim")
    if not all("strict" in one for one in verdicts.values()):
        return f"{number}, each judged by itself."
    said = f"{number}, judged together"
    if all(one.get("rule", "limits") == "limits" for one in verdicts.values()):
        return (
            f"{said}. A claim's p is the largest one-sided p of its checks; adjusted for the "
            "number of claims (Holm), it must be below 0.05."
        )
    return (
        f"{said}. Verdicts follow the rules under which the claims were written. Where a stricter "
        "reading differs, it is given as well. It requires that the whole 95% interval lie beyond "
        "its bound, and that the largest one-sided p of the checks, adjusted for the number of "
        "claims (Holm), be below 0.05."
    )


def headline(results: Json) -> str:
    """'4 of 7 findings reproduced, 3 by the stricter reading'; without claims, the titles."""
    verdicts, sweeps = results["verdicts"], results["sweeps"]
    if sweeps and not verdicts:
        return ", ".join(title_of(*one) for one in sweeps.items())
    own = [one["verdict"] for one in verdicts.values()].count("reproduced")
    readings = [one.get("strict", one)["verdict"] for one in verdicts.values()]
    strict = readings.count("reproduced")
    said = f"{own} of {count(len(verdicts), 'finding')} reproduced"
    return said if strict == own else f"{said}, {strict} by the stricter reading"


def registration_text(results: Json, name: str) -> str:
    """Status of a finding's registration, with changes since."""
    return results.get("registration", {}).get("status", {}).get(name, "not registered")


def registrations_text(results: Json) -> str:
    """Status of all registrations, without the changes."""
    texts = {name: registration_text(results, name) for name in results["verdicts"]}
    said = by_text({name: text.partition(":")[0] for name, text in texts.items()})
    return f"Claims: {said or 'none'}"


def by_text(texts: Mapping[str, str]) -> str:
    """Texts of sweeps in one line: the most frequent, then exceptions with the sweeps' names."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(name)
    first, *others = sorted(names, key=lambda text: -len(names[text])) or [""]
    return "; ".join([first, *(f"{', '.join(names[one])}: {one}" for one in others)])


def context_text(results: Json) -> str:
    """Origin of the numbers: dataset, preset, and changes to it."""
    preset = f", preset '{results['preset']}'" if results["preset"] else ""
    return results["dataset"] + preset + "".join(f", {one}" for one in changes(results))


# Sweep.split -> text.
SPLITS = {
    "replicate": "each seed has its own class split and evaluation sequences",
    "fixed": "all seeds share one class split and one set of evaluation sequences",
}


def replicates_text(results: Json) -> str:
    """Seeds and what replicates share, by sweep if they differ."""
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
    """Changes to the preset, as 'a.b=1'."""
    return [f"{option}={value}" for option, value in results["changes"].items()]
