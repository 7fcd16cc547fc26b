"""Published verdicts agree with their pages, their records, and the current sweeps."""

import functools
import itertools
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from emergent_icl import findings as files
from emergent_icl.cli.pages import filled
from emergent_icl.config.configs import flatten
from emergent_icl.config.identity import lacking
from emergent_icl.sweeps import registration
from emergent_icl.sweeps.results import collect
from emergent_icl.sweeps.spec import load_sweep

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs" / "reproduction"


class Study(NamedTuple):
    """Published runs of a preset, and the pages that show them; the last shows all figures."""

    preset: str
    folder: Path
    pages: tuple[Path, ...]
    records: tuple[Path, ...]
    registration: Path | None = None

    def sweep(self, name):
        """A sweep, with the options that it was registered with."""
        own = load_sweep(f"{Path(files.__file__).parent / name}.py:{self.preset}")
        if self.registration is None:
            return own
        return registration.as_registered([own], self.registration.parent)[0][0]


@functools.cache
def results_of(study) -> Any:
    found = json.loads((study.folder / "results.json").read_text(encoding="utf-8"))
    for stored in found["sweeps"].values():
        # Later options describe the behavior before them.
        stored["config"] |= json.loads(json.dumps(lacking(stored["config"])))
    return found


@pytest.fixture(scope="module", params=["laptop", "one-split"])
def study(request, tmp_path_factory):
    if request.param == "one-split":
        folder, pages = FOLDER / "one_split", (ROOT / "docs" / "one_split.md",)
        return Study("one-split", folder, pages, (folder / "records.tar.xz",))
    copied = tmp_path_factory.mktemp("registered") / "registration.json"
    shutil.copy(FOLDER / "registrations" / "laptop.json", copied)
    records = tuple(sorted((FOLDER / "records").glob("*.tar.xz")))
    pages = ROOT / "README.md", ROOT / "docs" / "reproduction.md"
    return Study("laptop", FOLDER, pages, records, copied)


every_finding = pytest.mark.parametrize("name", files.FINDINGS)


def test_pages_match_the_results(study):
    for path in study.pages:
        text = path.read_text(encoding="utf-8")
        assert "<!-- results: " in text
        assert filled(path, study.folder / "results.json") == text, "run: make docs"


def test_findings_use_real_data_and_all_seeds(study):
    found = results_of(study)
    assert set(found["verdicts"]) == set(found["sweeps"]) == set(files.FINDINGS)
    said = found["dataset"], found["preset"], found["changes"]
    assert said == ("omniglot", study.preset, {})
    seeds = itertools.chain.from_iterable(study.sweep(name).seeds for name in files.FINDINGS)
    assert found["seeds"] == sorted(set(seeds))


@every_finding
def test_results_match_the_current_sweeps(study, name):
    sweep, results = study.sweep(name), results_of(study)
    found = results["sweeps"][name]
    assert json.loads(json.dumps(flatten(sweep.base.to_dict()))) == found["config"]
    assert {one.name: dict(one.overrides) for one in sweep.conditions} == {
        condition: one["overrides"] for condition, one in found["conditions"].items()
    }
    verdict = results["verdicts"][name]
    assert verdict["claim"] == sweep.claim.text
    assert [one["check"] for one in verdict["statistics"]] == [
        check.text() for check in sweep.claim.read_by(sweep.claim.rule)
    ]
    if sweep.search is not None:
        for searched in found["search"].values():
            draws = [draw["overrides"] for draw in searched["draws"].values()]
            assert draws == sweep.search.settings()


def test_results_match_the_records_of_the_runs(study, tmp_path):
    for path in study.records:
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path, filter="data")
    sweeps, results = [*map(study.sweep, files.FINDINGS)], results_of(study)
    found = json.loads(json.dumps(collect(sweeps, tmp_path / "laptop", {})))
    for part in ("verdicts", "sweeps", "runs", "compute_seconds"):
        assert found[part] == results[part]


@every_finding
def test_every_verdict_uses_all_runs(study, name):
    conditions = results_of(study)["sweeps"][name]["conditions"]
    counts = {len(one["runs"]) for one in conditions.values()}
    is_open = results_of(study)["verdicts"][name]["verdict"] == "inconclusive"
    assert counts == {len(study.sweep(name).seeds)} or is_open


def test_registered_verdicts_name_their_registration(study):
    status = set(results_of(study)["registration"]["status"].values())
    if study.registration is None:
        assert status == {"not registered"}
    else:
        stored = json.loads(study.registration.read_text(encoding="utf-8"))
        (said,) = status
        assert said == registration.registered_text(stored)


@pytest.mark.parametrize("name", ["summary", *files.FINDINGS])
def test_every_figure_exists_and_is_shown(study, name):
    page = study.pages[-1]
    picture = (study.folder / f"{name}.png").relative_to(page.parent)
    assert f"({picture})" in page.read_text(encoding="utf-8")
    with Image.open(study.folder / f"{name}.png") as opened:
        assert opened.width > 600
