"""examples/explore.ipynb, executed on a run of its own."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import tiny

from emergent_icl.plots.learning_curves import draw
from emergent_icl.runs.records import Display
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir

NOTEBOOK = Path(__file__).parent.parent / "examples" / "explore.ipynb"

# In a process of its own: the kernel's libraries warn of their own affairs.
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

source, target = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
place = {"metadata": {"path": str(__import__("pathlib").Path(source).parent)}}
NotebookClient(notebook, timeout=240, kernel_name="python3", resources=place).execute()
nbformat.write(notebook, target)
"""


def outputs(notebook, kind):
    return [
        output["data"][kind]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if kind in output.get("data", {})
    ]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    workdir = Workdir(folder / "run")
    train(tiny.get_config("images"), workdir, Display())
    draw(workdir)
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(NOTEBOOK), str(folder / "executed.ipynb")],
        env={**os.environ, "EMERGENT_ICL_RUN": str(folder / "run")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(folder / "executed.ipynb", as_version=4)


def test_the_notebook_runs_and_shows_sequences_predictions_and_attention(executed):
    # Learning curves, predictions on sequences, attention.
    assert len(outputs(executed, "image/png")) == 3
    text = "".join(
        output.get("text", "") for cell in executed.cells for output in cell.get("outputs", ())
    )
    assert "tiny images" in text
    assert "exchanged: p(0) =" in text
    assert "predicts_own_label" in text


def test_the_notebook_is_stored_with_its_outputs():
    """So that it can be read where nothing can be run."""
    stored = nbformat.read(NOTEBOOK, as_version=4)
    assert len(outputs(stored, "image/png")) == 3
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert NOTEBOOK.stat().st_size < 2**20
