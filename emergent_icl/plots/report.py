"""The report of a reproduction: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from emergent_icl.plots import report_tables as tables
from emergent_icl.plots import sweep_curves as curves
from emergent_icl.plots.durations import duration_text
from emergent_icl.plots.report_charts import chart_json, has_curves
from emergent_icl.plots.report_tables import Html, lines, markup
from emergent_icl.plots.sweep_curves import Json

SUMMARY = "summary"
PAPER = (
    "Reproduction of “Data Distributional Properties Drive Emergent In-Context Learning in "
    "Transformers”"
)
# Nothing may be fetched, whatever a name in the results says.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<meta http-equiv="Content-Security-Policy" content="$policy">
<title>$title</title>
<style>
$style
</style>
</head>
<body>
<main>
$body
</main>
<script>
$plotly
</script>
<script>
$script
</script>
</body>
</html>
""")


def write_report(results: Json, figures_dir: Path | None, path: Path) -> None:
    """Writes the report of a reproduction.

    Args:
      results: results.json.
      figures_dir: where summary.svg and a FINDING.svg each lie, to be shown within the page (a
        finding's own where scripts are switched off); None, or a missing file, to leave them out.
      path: of the HTML file; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report_page(results, figures_dir), encoding="utf-8")


def report_page(results: Json, figures_dir: Path | None) -> str:
    """The page of `write_report`."""
    findings = {
        # What was planned but not run may have only one of them.
        name: (results["sweeps"].get(name), results["verdicts"].get(name))
        for name in [*results["sweeps"], *results["verdicts"]]
    }
    parts = [_head(results), _verdicts(findings), _picture(figures_dir, SUMMARY, "All findings")]
    for index, (name, (sweep, verdict)) in enumerate(findings.items()):
        parts.append(_finding(index, name, sweep, verdict, figures_dir))
    parts += [_configs(results["sweeps"]), _origin(results)]
    return PAGE.substitute(
        policy=POLICY,
        title=markup(f"{curves.headline(results['verdicts'])}: {results['dataset']}"),
        style=_own_file("report.css"),
        body="\n".join(parts),
        plotly=get_plotlyjs(),
        script=_own_file("report.js"),
    )


def _head(results: Json) -> Html:
    machine, seeds = results["machine"], ", ".join(map(str, results["seeds"]))
    changes = ", ".join(f"{option}={value}" for option, value in results["changes"].items())
    facts = {
        "Data": results["dataset"],
        **({"Preset": results["preset"]} if results["preset"] else {}),
        **({"Changed": changes} if changes else {}),
        "Seeds": seeds,
        "Compute": duration_text(results["compute_seconds"]),
        "Machine": f"{machine['processor']}, {machine['devices']}",
    }
    items = "".join(
        f"<div><dt>{markup(name)}</dt><dd>{markup(fact)}</dd></div>" for name, fact in facts.items()
    )
    # Only the paper's own findings have presets.
    kicker = PAPER if results["preset"] else "A sweep"
    return Html(
        f'<header><p class="kicker">{markup(kicker)}</p>'
        f"<h1>{markup(curves.headline(results['verdicts']))}</h1><dl>{items}</dl></header>"
    )


def _verdicts(findings: Mapping[str, tuple[Json | None, Json | None]]) -> Html:
    rows = []
    for index, (name, (sweep, verdict)) in enumerate(findings.items()):
        told = [
            f"{tables.OUTCOMES.get(one['outcome'], '')} "
            f"{tables.numbers_text(one['numbers']) or one['reason']}"
            for one in (verdict or {}).get("statistics", ())
        ]
        link = Html(f'<a href="#finding-{index}">{markup(_title(name, sweep))}</a>')
        claim = (verdict or {}).get("claim", "")
        rows.append((link, tables.verdict_mark(verdict), claim, lines(told)))
    headers = ("Finding", "Verdict", "Claim", "Key numbers")
    return Html(
        '<section aria-labelledby="verdicts"><h2 id="verdicts">Verdicts</h2>'
        + tables.table("Each finding of the paper, and what became of it", headers, rows,
                       kind="verdicts cards")
        + "</section>"
    )  # fmt: skip


def _finding(
    index: int, name: str, sweep: Json | None, verdict: Json | None, figures_dir: Path | None
) -> Html:
    title = f"{markup(_title(name, sweep))} {tables.verdict_mark(verdict)}"
    parts = [
        f'<section class="finding" aria-labelledby="finding-{index}">'
        f'<h2 id="finding-{index}">{title}</h2>'
    ]
    if verdict:
        parts.append(f'<p class="claim">{markup(verdict["claim"])}</p>')
    if sweep is None:
        parts.append('<p class="none">Nothing of it was run.</p>')
    else:
        parts.append(_chart(index, name, sweep, figures_dir))
    if verdict and verdict["statistics"]:
        parts.append(tables.statistics_table(verdict))
    if sweep is not None:
        parts.append(_conditions(sweep, verdict))
    return Html("\n".join([*parts, "</section>"]))


def _chart(index: int, name: str, sweep: Json, figures_dir: Path | None) -> Html:
    if not has_curves(sweep):
        any_runs = any(condition["runs"] for condition in sweep["conditions"].values())
        why = "The runs kept no curves" if any_runs else "No runs"
        return Html(f'<p class="none">{why}, so there is nothing to draw.</p>')
    title = _title(name, sweep)
    by = f" by {sweep['axis']}" if sweep["axis"] else ""
    caption = (
        f"{curves.count_text(sweep)}. Lines: means over seeds{by}; bands: their 95 % intervals; "
        "dotted: chance. Click a name to hide its condition in all panels, twice to see it alone."
    )
    diverged = " Crosses: runs that diverged, in no mean." if curves.num_diverged(sweep) else ""
    return Html(
        f'<figure><div class="chart" id="chart-{index}" role="img" '
        f'aria-label="{markup(f"{title}: curves over training")}"></div>'
        f'<script type="application/json" id="chart-{index}-data">{chart_json(sweep)}</script>'
        f"<noscript>{_picture(figures_dir, name, title)}</noscript>"
        f"<figcaption>{markup(caption + diverged)}</figcaption></figure>"
    )


def _conditions(sweep: Json, verdict: Json | None) -> Html:
    parts = [tables.conditions_table(sweep)]
    if sweep["notes"]:
        parts.append(f'<p class="notes">{markup(sweep["notes"])}</p>')
    if sweep["search"]:
        draws = sum(len(found["draws"]) for found in sweep["search"].values())
        content = tables.search_tables(sweep["search"], sweep["measures"])
        parts.append(tables.details(f"Search for settings ({draws} draws)", content))
    count = sum(len(condition["runs"]) for condition in sweep["conditions"].values())
    decides = f", {len(verdict['runs'])} decide the verdict" if verdict else ""
    parts.append(tables.details(f"Run folders ({count} runs{decides})", tables.runs_table(sweep)))
    return Html("\n".join(parts))


def _configs(sweeps: Mapping[str, Json]) -> Html:
    configs = [
        tables.details(
            _title(name, sweep),
            tables.pairs_table("What its conditions start from", ("Option", "Value"),
                               sweep["config"]),
        )
        for name, sweep in sweeps.items()
    ]  # fmt: skip
    return Html(
        f'<section aria-labelledby="configs"><h2 id="configs">Configs</h2>{"".join(configs)}'
        "</section>"
    )


def _origin(results: Json) -> Html:
    machine = results["machine"] | {"compute": duration_text(results["compute_seconds"])}
    return Html(
        '<section aria-labelledby="origin"><h2 id="origin">Machine and versions</h2>'
        '<div class="columns">'
        + tables.pairs_table("Machine", ("What", "Value"), machine)
        + tables.pairs_table("Versions", ("Package", "Version"), results["versions"])
        + "</div></section>"
    )


def _picture(figures_dir: Path | None, name: str, title: str) -> Html:
    """A static figure within the page, empty where there is none."""
    path = figures_dir / f"{name}.svg" if figures_dir and Path(name).name == name else None
    if path is None or not path.is_file():
        return Html("")
    code = base64.b64encode(path.read_bytes()).decode("ascii")
    return Html(
        '<div class="scroll" role="region" tabindex="0" '
        f'aria-label="{markup(title)}, as a picture">'
        f'<img class="picture" alt="{markup(title)}: the tables have its numbers" '
        f'src="data:image/svg+xml;base64,{code}"></div>'
    )


def _title(name: str, sweep: Json | None) -> str:
    return (sweep or {}).get("title") or name


def _own_file(name: str) -> str:
    return resources.files("emergent_icl.plots").joinpath(name).read_text("utf-8").strip()
