"""docs/options.md and the command agree with emergent_icl/config/options.py."""

import re

import pytest
from launching import ROOT, launch
from ml_collections import ConfigDict

from emergent_icl.cli import options
from emergent_icl.config.configs import default_config
from emergent_icl.config.options import OPTIONS


def test_the_page_is_up_to_date():
    done = launch("options")
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert page == done.stdout, "docs/options.md is older than config/options.py: run `make docs`"
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    # An unescaped bar in a cell would start a column.
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}
    assert len(rows) == len(OPTIONS)
    assert [row.split("`")[1] for row in rows] == [f"--config.{path}" for path in OPTIONS]
    headings = re.findall(r"^## .*", page, re.MULTILINE)
    assert len(set(headings)) == len(headings)


def test_every_option_has_a_meaning_and_a_valid_default():
    config = default_config()
    for path, option in OPTIONS.items():
        # Rows are read on their own, so fragments make no sense.
        assert option.help
        assert not option.help.startswith("...")
        assert not option.help.endswith("...")
        value = config
        for name in path.split("."):
            value = value[name]
        assert option.rule.allows(value), path
        assert (value.to_dict() if isinstance(value, ConfigDict) else value) == option.default


@pytest.mark.parametrize(
    ("word", "found", "missing"),
    [
        ("burst", "sequences.p_bursty", "split.seed"),
        ("POLYSEMY", "sequences.label_multiplicity", "sequences.type"),
        ("split.num_", "split.num_rare", "sequences.type"),
    ],
)
def test_a_filter_searches_paths_and_meanings(word, found, missing):
    paths = set(options.matching(word))
    assert f"data.{found}" in paths
    assert f"data.{missing}" not in paths


def test_the_plain_table_fits_the_terminal():
    text = options.plain(OPTIONS, 100)
    assert max(map(len, text.splitlines())) <= 100
    for path, option in OPTIONS.items():
        assert f"--config.{path} " in text
        assert option.rule.text.split()[-1] in text


def test_the_launcher_prints_the_matching_options():
    done = launch("options", "--filter=zipf_exponent")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("--config.data.sequences.zipf_exponent ")
    assert "default 0.0; a number >= 0 and <= 10" in " ".join(done.stdout.split())
    nothing = launch("options", "--filter=zipfexponent")
    assert nothing.returncode == 1
    assert nothing.stderr == "error: no option's path or meaning contains 'zipfexponent'\n"
