"""Committed registrations are authentic, and the findings still agree with them."""

import shutil
from pathlib import Path

import pytest

from emergent_icl import findings as files
from emergent_icl.sweeps.registration import FILE, as_registered, differences, read, register
from emergent_icl.sweeps.spec import load_sweep

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs" / "reproduction" / "registrations"


def registration(path, folder):
    """The content of a registration with any file name."""
    shutil.copy(path, folder / FILE)
    return read(folder)


def finding(name, preset):
    return load_sweep(f"{Path(files.__file__).parent / name}.py:{preset}")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_committed_registrations_match_the_current_findings(path, tmp_path):
    found = registration(path, tmp_path)
    # A file named after a preset is its current registration; others are history.
    if path.stem in files.PRESETS:
        sweeps, _ = as_registered([finding(name, path.stem) for name in found["sweeps"]], tmp_path)
        for sweep in sweeps:
            assert not differences(found["sweeps"][sweep.name], sweep)


def test_a_registration_determines_the_sweep(tmp_path):
    sweeps = [finding(name, "paper") for name in ("zipf", "architecture")]
    found = register(sweeps, tmp_path)["sweeps"]
    assert list(found) == ["zipf", "architecture"]
    for sweep in sweeps:
        assert not differences(found[sweep.name], sweep)
        assert differences(found[sweep.name], finding(sweep.name, "laptop"))
