"""The wheel and the citation."""

import zipfile

import pytest
import wheel_smoke
import yaml

import emergent_icl


@pytest.mark.faults
def test_the_wheel_contains_only_the_package(tmp_path):
    # Without isolation, nothing is downloaded: setuptools is a dependency of "dev".
    wheel = wheel_smoke.build_wheel(tmp_path, "--no-build-isolation")
    assert wheel.name == f"emergent_icl-{emergent_icl.__version__}-py3-none-any.whl"
    wheel_smoke.check_content(wheel)
    sdist = wheel_smoke.build_sdist(tmp_path / "sdist")
    assert sdist.name == f"emergent_icl-{emergent_icl.__version__}.tar.gz"
    again = wheel_smoke.build_wheel(tmp_path / "again", "--no-build-isolation", source=sdist)
    assert wheel_smoke.content(again) == wheel_smoke.content(wheel)
    (name,) = (name for name in wheel_smoke.content(wheel) if name.endswith("entry_points.txt"))
    points = zipfile.ZipFile(wheel).read(name).decode()
    assert points == "[console_scripts]\nemergent-icl = emergent_icl.cli.start:main\n"


def test_a_missing_interpreter_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"Python 3\.12 is missing: python3\.12 is not on PATH"):
        wheel_smoke.find_python("3.12")
    shim = tmp_path / "python3.12"  # As pyenv leaves it when the version is not installed.
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    with pytest.raises(SystemExit):
        wheel_smoke.find_python("3.12")
    shim.write_text("#!/bin/sh\necho 3.12\n")
    assert wheel_smoke.find_python("3.12") == "python3.12"


def test_the_citation_names_this_version_the_paper_and_the_data():
    citation = yaml.safe_load((wheel_smoke.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert (citation["title"], citation["license"]) == ("emergent-icl", "Apache-2.0")
    assert citation["version"] == emergent_icl.__version__
    assert citation["authors"] == [{"name": "The emergent-icl authors"}]
    paper, data = citation["references"]
    assert paper["url"].endswith("2205.05055")
    assert [author["family-names"] for author in paper["authors"]][::7] == ["Chan", "Hill"]
    assert data["authors"][0]["family-names"] == "Lake"
