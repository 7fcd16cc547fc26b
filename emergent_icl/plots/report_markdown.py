"""A reproduction in Markdown: blocks that pages hold between marks, renewed from results.json."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from emergent_icl.plots import report_tables as tables
from emergent_icl.plots import sweep_curves as curves
from emergent_icl.plots.durations import duration_text
from emergent_icl.plots.sweep_curves import Json

# <!-- results: NAME --> ... <!-- /results -->
_BLOCK = re.compile(
    r"(?P<open><!-- results: (?P<name>[^\n]*?) -->\n).*?(?P<close><!-- /results -->)", re.DOTALL
)
_MARK = re.compile(r"<!-- /?results\b")


def fill(page: str, results: Json, pictures: str) -> str:
    """The same page, with what stands between its marks written anew.

    Args:
      page: Markdown with '<!-- results: NAME -->' and '<!-- /results -->' on lines of their own,
        NAME one of BLOCKS.
      results: results.json.
      pictures: path from the page to the folder of a NAME.png each finding.

    Raises:
      ValueError: a mark has no other end, or a NAME is unknown.
    """

    def renewed(block: re.Match[str]) -> str:
        if block["name"] not in BLOCKS:
            known = ", ".join(BLOCKS)
            raise ValueError(f"there is no block '{block['name']}' (allowed: {known})")
        return f"{block['open']}\n{BLOCKS[block['name']](results, pictures)}\n\n{block['close']}"

    if len(_MARK.findall(page)) != 2 * len(_BLOCK.findall(page)):
        raise ValueError("every '<!-- results: NAME -->' needs a '<!-- /results -->' after it")
    return _BLOCK.sub(renewed, page)


def _verdicts(results: Json, pictures: str) -> str:
    """A row a finding: its verdict and its claim."""
    del pictures
    rows = [
        (results["sweeps"][name]["title"], curves.verdict_text(found)[0], found["claim"])
        for name, found in results["verdicts"].items()
    ]
    return _table(("finding", "verdict", "what was claimed"), rows)


def _checks(results: Json, pictures: str) -> str:
    """A row a finding: what its claim asks of the runs, and what they answered."""
    del pictures
    rows = []
    for name, found in results["verdicts"].items():
        said = [f"**{found['claim']}**", *(_check(one) for one in found["statistics"])]
        rows.append((name, curves.verdict_text(found)[0], "<br>".join(said)))
    return _table(("finding", "verdict", "what was claimed, and measured"), rows)


def _check(check: Json) -> str:
    # A break that a browser may make is none in a text that people search.
    said = tables.finding_text(check).replace(tables.NO_BREAK, " ")
    return f"{tables.OUTCOMES[check['outcome']]} {check['check']}: **{said}**"


def _findings(results: Json, pictures: str) -> str:
    """A section a finding: picture, the runs' ends, and where its settings come from."""
    return "\n\n".join(
        "\n\n".join(_finding(name, sweep, pictures)) for name, sweep in results["sweeps"].items()
    )


def _finding(name: str, sweep: Json, pictures: str) -> list[str]:
    parts = [f"### {sweep['title']}", f"![{sweep['title']}]({pictures}/{name}.png)"]
    measures = sweep["measures"]
    rows = [
        (condition, *(tables.mean_text(curves.finals(one, measure)) for measure in measures))
        for condition, one in sweep["conditions"].items()
    ]
    headers = ("condition", *(curves.measure(one).short for one in measures))
    parts.append(_table(headers, rows))
    if sweep["search"]:
        parts.append(f"Chosen settings: {'; '.join(_chosen(sweep['search']))}.")
    if sweep["notes"]:
        parts.append(sweep["notes"])
    return parts


def _chosen(search: Json) -> list[str]:
    said = []
    for condition, found in search.items():
        count = len(found["draws"])
        if found["chosen"] is None:
            said.append(f"{condition}: none, all {count} draws diverged")
            continue
        values = found["draws"][found["chosen"]]["overrides"]
        texts = [f"`{path}={tables.value_text(value)}`" for path, value in values.items()]
        said.append(f"{condition}: {', '.join(texts)}, the best of {count} draws")
    return said


def _origin(results: Json, pictures: str) -> str:
    """Where the numbers come from, in a paragraph."""
    del pictures
    machine, preset = results["machine"], results["preset"]
    which = f", preset '{preset}'" if preset else ""
    changes = "".join(f", {name}={value}" for name, value in results["changes"].items())
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        f"{results['runs']} runs, searches included, of {results['dataset']}{which}{changes}, "
        f"seeds {', '.join(map(str, results['seeds']))}: "
        f"{duration_text(results['compute_seconds'])} of computing on {machine['devices']} each; "
        f"judged on {machine['processor']} ({machine['cores']} cores). Versions: {versions}."
    )


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
                     for line in lines)  # fmt: skip


# Name -> (results.json, path to the pictures) -> Markdown.
BLOCKS: dict[str, Callable[[Json, str], str]] = {
    "verdicts": _verdicts,
    "checks": _checks,
    "findings": _findings,
    "origin": _origin,
}
