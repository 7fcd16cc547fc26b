"""What is given away: the wheel and the citation."""

import wheel_smoke
import yaml

import emergent_icl


def test_the_wheel_holds_one_package_and_nothing_else(tmp_path):
    # Without isolation nothing is downloaded: setuptools is among the dependencies of "dev".
    wheel = wheel_smoke.build_wheel(tmp_path, "--no-build-isolation")
    assert wheel.name == f"emergent_icl-{emergent_icl.__version__}-py3-none-any.whl"
    wheel_smoke.check_content(wheel)


def test_the_citation_is_of_this_version_and_names_paper_and_data():
    citation = yaml.safe_load((wheel_smoke.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert (citation["title"], citation["license"]) == ("emergent-icl", "Apache-2.0")
    assert citation["version"] == emergent_icl.__version__
    assert citation["authors"] == [{"name": "The emergent-icl authors"}]
    paper, data = citation["references"]
    assert paper["url"].endswith("2205.05055")
    assert [author["family-names"] for author in paper["authors"]][::7] == ["Chan", "Hill"]
    assert data["authors"][0]["family-names"] == "Lake"
