"""examples/explore.ipynb, executed on a tiny run."""

import json
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

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "explore.ipynb"

# In a separate process, because the kernel's libraries cause unrelated warnings.
EXECUTE = """
import json, sys
import nbformat
from nbclient import NotebookClient

source, target, more = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
notebook.cells += map(nbformat.v4.new_code_cell, json.loads(more))
place = {"metadata": {"path": str(__import__("pathlib").Path(source).parent)}}
NotebookClient(notebook, timeout=240, kernel_name="python3", resources=place).execute()
nbformat.write(notebook, target)
"""


# In the same kernel, where JAX has been used: train, interrupt, resume; then a command.
INTERRUPTED = """
import signal, sys
from emergent_icl.runs.records import Display
sys.path.insert(0, "{tests}")
import tiny

class Interrupt(Display):
    def logged(self, step, records):
        os.kill(os.getpid(), signal.SIGINT)

config = tiny.get_config("symbols")
try:
    icl.train(config, "{folder}", Interrupt())
except KeyboardInterrupt as error:
    print(error)
print("resumed to step", icl.train(config, "{folder}").step)
"""
# As on a machine where a command restarts itself for huge pages.
COMMAND = """
from emergent_icl.cli import start
start.wanted_tunables = lambda *_: "glibc.malloc.hugetlb=1"
process, handler = os.getpid(), signal.getsignal(signal.SIGINT)
%run -e {root}/experiments/train.py --config={tests}/tiny.py:symbols --workdir={folder}
%run -e {root}/experiments/compare.py {folder}/{long}
same = process == os.getpid(), handler is signal.getsignal(signal.SIGINT)
print("the same process and handler:", same)
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
    places = {"root": ROOT, "tests": ROOT / "tests", "folder": folder / "interrupted"}
    places["long"] = "x" * 300
    more = json.dumps([cell.format(**places) for cell in (INTERRUPTED, COMMAND)])
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(NOTEBOOK), str(folder / "executed.ipynb"), more],
        env={**os.environ, "EMERGENT_ICL_RUN": str(folder / "run")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(folder / "executed.ipynb", as_version=4)


def printed(executed):
    cells = (output for cell in executed.cells for output in cell.get("outputs", ()))
    texts = (output.get("text", output.get("data", {}).get("text/plain", "")) for output in cells)
    return "".join(texts)


@pytest.mark.faults
def test_a_kernel_trains_after_an_interrupt(executed):
    text = printed(executed)
    assert "training stopped after step 10; the state is saved" in text
    assert "resumed to step 40" in text


@pytest.mark.faults
def test_a_command_does_not_change_the_kernel(executed):
    text = printed(executed)
    assert "is complete: 40 steps" in text
    # Outside a notebook, the program would exit here without interpreter shutdown.
    assert "error: File name too long: " in text
    assert "the same process and handler: (True, True)" in text


@pytest.mark.faults
def test_the_notebook_runs_and_shows_sequences_predictions_and_attention(executed):
    # Learning curves, predictions on sequences, attention.
    assert len(outputs(executed, "image/png")) == 3
    text = printed(executed)
    assert "tiny images" in text
    assert "exchanged: p(0) =" in text
    assert "predicts_own_label" in text


def test_the_notebook_is_stored_with_its_outputs():
    """Readers see the results without running it."""
    stored = nbformat.read(NOTEBOOK, as_version=4)
    assert len(outputs(stored, "image/png")) == 3
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert NOTEBOOK.stat().st_size < 2**20
