"""The HTML report of sweeps, and generated blocks of Markdown pages."""

import base64
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from emergent_icl.plots import sweep_data as data
from emergent_icl.plots import sweep_tables as tables
from emergent_icl.plots.charts import chart
from emergent_icl.plots.sweep_data import Json
from emergent_icl.runs.progress import duration_text

# Macros of pages.md.jinja.
BLOCKS = ("verdicts", "checks", "findings", "origin")
# <!-- results: NAME --> ... <!-- /results -->
_BLOCK = re.compile(
    r"(?P<open><!-- results: (?P<name>[^\n]*?) -->\n).*?(?P<close><!-- /results -->)", re.DOTALL
)
_MARK = re.compile(r"<!-- /?results\b")


def report_page(results: Json, figures_dir: Path | None) -> str:
    """The self-contained HTML report of results.json.

    Embeds summary.svg and, for readers without scripts, FINDING.svg from `figures_dir` if present.
    """
    machine, compute = results["machine"], duration_text(results["compute_seconds"])
    found = results.get("registration", {})
    # Facts without a value are omitted.
    facts = {
        "Data": results["dataset"],
        "Preset": results["preset"],
        "Changed": ", ".join(data.changes(results)),
        "Replicates": data.replicates_text(results),
        "Registration": found.get("hash"),
        "Registered": found.get("registered"),
        "Registered at commit": found.get("commit"),
        "Compute": compute,
        "Machine": f"{machine['processor']}, {machine['devices']}",
    }
    findings = [(row, results["sweeps"].get(row.name)) for row in tables.finding_rows(results)]
    page = _templates().get_template("report.html.jinja")
    return page.render(
        results=results,
        facts=facts,
        findings=findings,
        machine=machine | {"compute": compute},
        address_of=lambda name: _picture(figures_dir, name),
        plotly=Markup(get_plotlyjs()),
    )


def _picture(figures_dir: Path | None, name: str) -> str:
    """A figure as a data URL, '' if there is none."""
    # A name in the results may contain a path.
    path = figures_dir / f"{name}.svg" if figures_dir and Path(name).name == name else None
    if path is None or not path.is_file():
        return ""
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def fill(page: str, results: Json, pictures: str) -> str:
    """Regenerates the blocks of a Markdown page.

    Blocks lie between the lines '<!-- results: NAME -->' (NAME in BLOCKS) and '<!-- /results -->'.
    `pictures` is the path from the page to the folder of figures.

    Raises:
      ValueError: a block is not closed or its NAME is unknown.
    """
    blocks = _templates().get_template("pages.md.jinja").module

    def renewed(block: re.Match[str]) -> str:
        if block["name"] not in BLOCKS:
            raise ValueError(f"there is no block '{block['name']}' (allowed: {', '.join(BLOCKS)})")
        text = getattr(blocks, block["name"])(results, pictures).strip()
        return f"{block['open']}\n{text}\n\n{block['close']}"

    if len(_MARK.findall(page)) != 2 * len(_BLOCK.findall(page)):
        raise ValueError("every '<!-- results: NAME -->' needs a '<!-- /results -->' after it")
    return _BLOCK.sub(renewed, page)


def _plain(text: object) -> str:
    """Escapes tags and table separators in Markdown."""
    # No-break spaces would defeat text search.
    searchable = str(text).replace(tables.NO_BREAK, " ")
    return re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", searchable.replace("|", r"\|"))


def _templates() -> Environment:
    """The templates' environment; HTML is escaped automatically."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(("html.jinja",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    functions = {"chart": chart, "duration_text": duration_text}
    environment.globals |= {"data": data, "tables": tables, **functions}
    environment.filters["plain"] = _plain
    environment.tests["diverged"] = data.has_diverged
    return environment
