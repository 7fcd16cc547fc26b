"""The published weights of a paper-size run are intact, and give the recorded accuracy."""

import hashlib
import re

import jax
import pytest
from conftest import needs_omniglot
from launching import ROOT, launch

from emergent_icl.evaluation.metrics import ICL
from emergent_icl.runs.checkpoints import CheckpointStore
from emergent_icl.runs.open import load_run
from emergent_icl.runs.pack import unpack
from emergent_icl.runs.records import lines_at
from emergent_icl.runs.workdir import Workdir

FOLDER = ROOT / "docs" / "reproduction" / "paper" / "p1.0"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    workdir = Workdir(tmp_path_factory.mktemp("published") / "run")
    return workdir, unpack(FOLDER / "weights.icl.zip", workdir)


def test_the_page_states_size_step_and_checksum(published):
    workdir, packed = published
    page = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
    assert hashlib.sha256((FOLDER / "weights.icl.zip").read_bytes()).hexdigest() in page
    assert re.search(rf"weights of step {packed.step:,} \(", page)
    with CheckpointStore(workdir.checkpoints, config=workdir.read_config()) as store:
        params, _, diverged = store.restore_weights(packed.step)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 831_479
    assert not diverged
    assert packed.weights_only


def test_the_metrics_are_those_of_the_published_curve(published):
    workdir, packed = published
    whole = (FOLDER / "metrics.jsonl").read_text(encoding="utf-8")
    assert whole.startswith(workdir.metrics.read_text(encoding="utf-8"))
    assert lines_at(FOLDER / "metrics.jsonl", packed.step)


@needs_omniglot
def test_the_model_has_the_recorded_accuracy(published):
    workdir, packed = published
    run = load_run(workdir.path)
    recorded = lines_at(workdir.metrics, packed.step)[""]["/".join(("eval", *ICL))]
    found = run.evaluate(ICL[0], run.trained.evaluation.num_sequences)[ICL[0]][ICL[1]].mean
    # On another processor, rounding may change a few of the 2,000 answers.
    assert found == pytest.approx(recorded, abs=0.01)


@needs_omniglot
@pytest.mark.faults
def test_the_commands_of_the_page_draw_its_attention(published, tmp_path):
    workdir, packed = published
    words = ["--mode=fewshot_holdout", "--sequences=0", f"--output={tmp_path}"]
    done = launch("inspect_run", f"--workdir={workdir.path}", *words)
    assert done.returncode == 0, done.stderr
    stem = f"fewshot_holdout_step_{packed.step}"
    names = [f"attention_{stem}_sequence_0.png", f"predictions_{stem}.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
