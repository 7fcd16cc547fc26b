"""Interactive charts of sweeps as Plotly traces; report.js draws and lays them out."""

import html
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from matplotlib.colors import to_rgb

from emergent_icl.evaluation.measures import is_share
from emergent_icl.plots import sweep_data as data
from emergent_icl.plots.sweep_data import Band, Json, Look
from emergent_icl.plots.sweep_tables import UNKNOWN, diverged_text

DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}
# Of hover text.
SEEDS_PER_LINE = 2
DIGITS = 4

Trace = dict[str, Any]


def chart(sweep: Json) -> dict[str, Any]:
    """Plotly traces of a sweep over training, and its panels (one per measure) for report.js.

    The traces of a condition are one legend entry in all panels. Without curves, there are none.
    """
    conditions = data.in_order(sweep["conditions"])
    looks = data.looks(conditions)
    traces: list[Trace] = []
    named: set[str] = set()
    for index, measure in enumerate(sweep["measures"]):
        steps = {step for run in data.runs_of(sweep) for step in data.points(run, measure)}
        panel: list[Trace] = [
            {
                "x": [0, max(steps)], "y": [level, level], "name": chart_text(text),
                "mode": "lines", "line": {"color": color, "width": 1.2, "dash": "1px,3px"},
                "showlegend": False,
                "hovertemplate": f"{chart_text(text)}: {level:.3g}<extra></extra>",
            }
            for text, color, level in (data.levels(conditions, measure, looks) if steps else ())
        ]  # fmt: skip
        for group, (name, condition) in enumerate(conditions.items()):
            for trace in _condition_traces(name, condition["runs"], measure, looks[name]):
                is_first = trace["showlegend"] and name not in named
                named |= {name} if is_first else set()
                panel.append(trace | {"showlegend": is_first, "legendgroup": f"condition {group}"})
        number = str(index + 1) if index else ""
        common = {"type": "scatter", "xaxis": f"x{number}", "yaxis": f"y{number}"}
        traces += [common | trace for trace in panel]
    panels = [
        {"title": chart_text(data.look_of(one).long), "isShare": is_share(one)}
        for one in sweep["measures"]
    ]
    return {"data": traces, "panels": panels}


def chart_text(text: object) -> str:
    """Text with Plotly's markup and its %{...} templates escaped."""
    return html.escape(str(text), quote=False).replace("%", "&#37;")


def _condition_traces(
    name: str, runs: Mapping[str, Json], measure: str, look: Look
) -> Iterator[Trace]:
    """Band, mean, and diverged runs of a condition; showlegend marks its legend entry."""
    band, shown_name = data.band(runs.values(), measure), chart_text(name)
    if band.steps:
        xs, ys = _outline(band)
        yield {
            "x": xs, "y": ys, "mode": "lines", "line": {"width": 0}, "fill": "toself",
            "fillcolor": _pale(look.color), "hoverinfo": "skip", "name": shown_name,
            "showlegend": False,
        }  # fmt: skip
        yield {
            "x": band.steps, "y": _rounded(band.mean), "name": shown_name,
            # A line through one point is invisible.
            "mode": "lines+markers" if len(band.steps) == 1 else "lines",
            "line": {"color": look.color, "width": 2, "dash": DASHES[look.dashes]},
            "customdata": _numbers(runs, measure, band), "hovertemplate": _hover(runs),
            "showlegend": True,
        }  # fmt: skip
    for seed, run in runs.items():
        points = data.points(run, measure)
        if data.has_diverged(run) and points:
            said = f"{shown_name}, seed {chart_text(seed)}<br>{diverged_text(run)}"
            yield {
                "x": list(points), "y": _rounded(points.values()), "mode": "lines+markers",
                "name": shown_name, "line": {"color": look.color, "width": 1}, "opacity": 0.8,
                # A cross at the end only.
                "marker": {"symbol": "x-thin", "size": [0] * (len(points) - 1) + [9],
                           "line": {"width": 2, "color": look.color}},
                "hovertemplate": f"{said}<br>%{{y}} at step %{{x}}<extra></extra>",
                "showlegend": not band.steps,
            }  # fmt: skip


def _numbers(runs: Mapping[str, Json], measure: str, band: Band) -> list[list[Any]]:
    """At each step, the limits of the band and the value of each run."""
    own = [data.points(run, measure) for run in runs.values()]
    limits = zip(band.steps, band.low, band.high, strict=True)
    return [_rounded([low, high, *(one.get(step) for one in own)]) for step, low, high in limits]


def _hover(runs: Mapping[str, Json]) -> str:
    """Hover template for `_numbers`."""
    lines = ["<b>%{fullData.name}</b>, step %{x}", "mean %{y} [%{customdata[0]}, %{customdata[1]}]"]
    seeds = [f"seed {chart_text(seed)}: %{{customdata[{i}]}}" for i, seed in enumerate(runs, 2)]
    for start in range(0, len(seeds), SEEDS_PER_LINE):
        lines.append(",  ".join(seeds[start : start + SEEDS_PER_LINE]))
    return "<br>".join(lines) + "<extra></extra>"


def _outline(band: Band) -> tuple[list[int | None], list[float | None]]:
    """Outlines of the intervals of steps where the band is known, separated by None."""
    xs: list[int | None] = []
    ys: list[float | None] = []
    known = itertools.groupby(range(len(band.low)), lambda i: not math.isnan(band.low[i]))
    for stretch in [list(indices) for is_known, indices in known if is_known]:
        back = stretch[::-1]
        xs += [*(band.steps[i] for i in stretch + back), None]
        ys += [*_rounded([band.high[i] for i in stretch] + [band.low[i] for i in back]), None]
    return xs[:-1], ys[:-1]


def _rounded(values: Iterable[Any]) -> list[Any]:
    return [round(one, DIGITS) if data.is_number(one) else UNKNOWN for one in values]


def _pale(color: str) -> str:
    red, green, blue = (round(255 * part) for part in to_rgb(color))
    return f"rgba({red},{green},{blue},0.16)"
