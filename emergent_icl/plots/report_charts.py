"""Interactive charts of sweeps: Plotly's data and layout as JSON, drawn by report.js."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping
from typing import Any

import plotly.graph_objects as go
from matplotlib.colors import to_rgb

from emergent_icl.plots import style
from emergent_icl.plots import sweep_curves as curves
from emergent_icl.plots.sweep_curves import Band, Json, Look

DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}
# Seeds in a line of what hovering shows.
SEEDS_A_LINE = 2
DIGITS = 4
UNKNOWN = "–"  # noqa: RUF001
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def has_curves(sweep: Json) -> bool:
    """Whether there is anything to draw."""
    return any(
        curves.points(run, measure)[0]
        for condition in sweep["conditions"].values()
        for run in condition["runs"].values()
        for measure in sweep["measures"]
    )


def chart_json(sweep: Json) -> str:
    """A sweep's measures over training, a panel each, as JSON that may stand in a script element.

    The panels have axes of their own, but no place yet: report.js puts them beside or below each
    other. The traces of a condition are one legend group over all panels.
    """
    conditions = curves.in_order(sweep["conditions"])
    looks = curves.looks(conditions)
    figure = go.Figure(layout=_layout(sweep["measures"]))
    in_legend: set[str] = set()
    for index, measure in enumerate(sweep["measures"]):
        axes = {"xaxis": f"x{_number(index)}", "yaxis": f"y{_number(index)}"}
        for trace in _chances(conditions, measure):
            figure.add_trace(trace.update(axes))
        for group, (name, condition) in enumerate(conditions.items()):
            for trace in _condition_traces(name, condition, measure, looks[name]):
                is_named = trace.showlegend and name not in in_legend
                in_legend |= {name} if is_named else set()
                trace.update(legendgroup=f"condition {group}", showlegend=is_named)
                figure.add_trace(trace.update(axes))
    return for_script(figure.to_json())


def for_script(json_text: str) -> str:
    """JSON that no parser of HTML can mistake for the end of its script element."""
    for letter in "<>&\u2028\u2029":
        json_text = json_text.replace(letter, f"\\u{ord(letter):04x}")
    return json_text


def chart_text(text: object) -> str:
    """Text for Plotly, which reads markup, and %{...} in templates."""
    return html.escape(str(text), quote=False).replace("%", "&#37;")


def _layout(measures: list[str]) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "template": "none",
        "font": {"family": FONT, "size": 13, "color": style.INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"bgcolor": "#ffffff", "font": {"family": FONT, "color": style.INK}},
        "hovermode": "closest",
        "modebar": {"bgcolor": "rgba(255,255,255,0.9)", "color": "#777777"},
        "annotations": [],
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "tracegroupgap": 0},
    }
    for index, measure in enumerate(measures):
        number = _number(index)
        line = {"showline": True, "linecolor": style.GREY, "ticks": "outside", "zeroline": False}
        layout[f"xaxis{number}"] = line | {
            "anchor": f"y{number}",
            "title": {"text": "training step", "standoff": 8, "font": {"size": 13}},
            "showgrid": False, "rangemode": "tozero", "matches": None if index == 0 else "x",
            "tickformat": "~s", "hoverformat": ",d", "nticks": 6,
        }  # fmt: skip
        layout[f"yaxis{number}"] = line | {
            "anchor": f"x{number}", "gridcolor": "#ececec", "nticks": 6,
            "range": [-0.03, 1.03] if curves.is_share(measure) else None,
        }  # fmt: skip
        layout["annotations"].append(
            {
                "text": chart_text(curves.measure(measure).long), "showarrow": False,
                "xref": f"x{number} domain", "yref": f"y{number} domain",
                "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "yshift": 8,
                "font": {"size": 13}, "align": "left",
            }
        )  # fmt: skip
    return layout


def _number(index: int) -> str:
    """Of a panel's axes, as Plotly counts: the first have none."""
    return str(index + 1) if index else ""


def _condition_traces(name: str, condition: Json, measure: str, look: Look) -> Iterator[go.Scatter]:
    """Band, mean and diverged runs; the one that says showlegend stands for the condition."""
    runs = condition["runs"]
    band = curves.band(list(runs.values()), measure)
    if band.steps:
        xs, ys = _outline(band)
        yield go.Scatter(
            x=xs, y=ys, mode="lines", line={"width": 0}, fill="toself",
            fillcolor=_pale(look.colour), hoverinfo="skip", name=chart_text(name),
            showlegend=False,
        )  # fmt: skip
        yield go.Scatter(
            x=band.steps, y=_rounded(band.mean), mode="lines", name=chart_text(name),
            line={"color": look.colour, "width": 2, "dash": DASHES[look.dashes]},
            customdata=_numbers(runs, measure, band), hovertemplate=_hover(runs),
            showlegend=True,
        )  # fmt: skip
    for seed, run in runs.items():
        steps, values = curves.points(run, measure)
        if run.get("diverged_at_step") is not None and steps:
            sizes = [0] * (len(steps) - 1) + [9]
            said = f"{chart_text(name)}, seed {chart_text(seed)}"
            said += f"<br>diverged at step {run['diverged_at_step']:,}"
            yield go.Scatter(
                x=steps, y=_rounded(values), mode="lines+markers", name=chart_text(name),
                line={"color": look.colour, "width": 1}, opacity=0.8,
                marker={"symbol": "x-thin", "size": sizes, "line": {"width": 2,
                        "color": look.colour}},
                hovertemplate=f"{said}<br>%{{y}} at step %{{x}}<extra></extra>",
                showlegend=not band.steps,
            )  # fmt: skip


def _chances(conditions: Mapping[str, Json], measure: str) -> Iterator[go.Scatter]:
    last = max(
        (
            step
            for condition in conditions.values()
            for run in condition["runs"].values()
            for step in curves.points(run, measure)[0]
        ),
        default=0,
    )
    for chance in curves.distinct_chances(conditions, measure) if last else ():
        yield go.Scatter(
            x=[0, last], y=[chance, chance], mode="lines", name="chance",
            line={"color": style.GREY, "width": 1.2, "dash": "1px,3px"}, showlegend=False,
            hovertemplate=f"chance: {chance:.3g}<extra></extra>",
        )  # fmt: skip


def _numbers(runs: Mapping[str, Json], measure: str, band: Band) -> list[list[float | str]]:
    """At each step the band's ends, and what every run has there."""
    own = [dict(zip(*curves.points(run, measure), strict=True)) for run in runs.values()]
    return [
        [_or_unknown(value) for value in (low, high, *(values.get(step) for values in own))]
        for step, low, high in zip(band.steps, band.low, band.high, strict=True)
    ]


def _hover(runs: Mapping[str, Json]) -> str:
    """Plotly's template for what `_numbers` gives."""
    seeds = [
        f"seed {chart_text(seed)}: %{{customdata[{index + 2}]}}" for index, seed in enumerate(runs)
    ]
    lines = [
        ",  ".join(seeds[start : start + SEEDS_A_LINE])
        for start in range(0, len(seeds), SEEDS_A_LINE)
    ]
    return (
        "<b>%{fullData.name}</b>, step %{x}<br>mean %{y} "
        "[%{customdata[0]}, %{customdata[1]}]<br>" + "<br>".join(lines) + "<extra></extra>"
    )


def _outline(band: Band) -> tuple[list[int | None], list[float | None]]:
    """A closed line around each stretch of steps where the band is known, None between them."""
    xs: list[int | None] = []
    ys: list[float | None] = []
    stretch: list[int] = []
    for index in range(len(band.steps) + 1):
        if index < len(band.steps) and not math.isnan(band.low[index]):
            stretch.append(index)
            continue
        if stretch:
            there_and_back = [*stretch, *reversed(stretch)]
            xs += [band.steps[i] for i in there_and_back] + [None]
            ys += _rounded([band.high[i] for i in stretch])
            ys += [*_rounded([band.low[i] for i in reversed(stretch)]), None]
        stretch = []
    return xs[:-1], ys[:-1]


def _rounded(values: list[float]) -> list[float | None]:
    return [round(value, DIGITS) for value in values]


def _or_unknown(value: float | None) -> float | str:
    return round(value, DIGITS) if curves.is_number(value) else UNKNOWN


def _pale(colour: str) -> str:
    red, green, blue = (round(255 * part) for part in to_rgb(colour))
    return f"rgba({red},{green},{blue},0.16)"
