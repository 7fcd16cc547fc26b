"""docs/reproduction.md agrees with its results, and they with the current sweeps."""

import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from emergent_icl import findings as files
from emergent_icl.cli.pages import filled
from emergent_icl.config.configs import flatten
from emergent_icl.config.identity import lacking
from emergent_icl.sweeps.results import collect
from emergent_icl.sweeps.spec import load_sweep

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs" / "reproduction"
RESULTS = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
for stored in RESULTS["sweeps"].values():
    # Later options describe the behavior before them.
    stored["config"] |= json.loads(json.dumps(lacking(stored["config"])))
every_finding = pytest.mark.parametrize("name", files.FINDINGS)


@pytest.mark.parametrize("name", ["README.md", "docs/reproduction.md"])
def test_pages_match_the_results(name):
    path = ROOT / name
    text = path.read_text(encoding="utf-8")
    assert "<!-- results: " in text
    assert filled(path, FOLDER / "results.json") == text, "run: make docs"


def test_findings_use_real_data_and_five_seeds():
    assert set(RESULTS["verdicts"]) == set(RESULTS["sweeps"]) == set(files.FINDINGS)
    assert (RESULTS["dataset"], RESULTS["preset"], RESULTS["changes"]) == (
        "omniglot",
        "one-split",
        {},
    )
    assert RESULTS["seeds"] == [0, 1, 2, 3, 4]


@every_finding
def test_results_match_the_current_sweeps(name):
    sweep = load_sweep(f"{Path(files.__file__).parent / name}.py:one-split")
    found = RESULTS["sweeps"][name]
    assert json.loads(json.dumps(flatten(sweep.base.to_dict()))) == found["config"]
    assert {one.name: dict(one.overrides) for one in sweep.conditions} == {
        condition: one["overrides"] for condition, one in found["conditions"].items()
    }
    verdict = RESULTS["verdicts"][name]
    assert verdict["claim"] == sweep.claim.text
    assert [one["check"] for one in verdict["statistics"]] == [
        check.text() for check in sweep.claim.read_by(sweep.claim.rule)
    ]
    if sweep.search is not None:
        for searched in found["search"].values():
            draws = [draw["overrides"] for draw in searched["draws"].values()]
            assert draws == sweep.search.settings()


def test_results_match_the_records_of_the_runs(tmp_path):
    with tarfile.open(FOLDER / "records.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    sweeps = [
        load_sweep(f"{Path(files.__file__).parent / name}.py:one-split") for name in files.FINDINGS
    ]
    found = json.loads(json.dumps(collect(sweeps, tmp_path / "laptop", {})))
    for part in ("verdicts", "sweeps", "runs", "compute_seconds"):
        assert found[part] == RESULTS[part]


@every_finding
def test_every_verdict_uses_all_runs(name):
    conditions = RESULTS["sweeps"][name]["conditions"]
    counts = {len(one["runs"]) for one in conditions.values()}
    assert counts == {5} or RESULTS["verdicts"][name]["verdict"] == "inconclusive"


@pytest.mark.parametrize("name", ["summary", *files.FINDINGS])
def test_every_figure_exists_and_is_shown(name):
    assert f"(reproduction/{name}.png)" in (ROOT / "docs" / "reproduction.md").read_text("utf-8")
    with Image.open(FOLDER / f"{name}.png") as picture:
        assert picture.width > 600
