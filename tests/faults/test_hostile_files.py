"""No file that is loaded can execute code."""

import ast
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import syntax
import tiny
from launching import ROOT, Processes, train_flags

from emergent_icl.data.sources import cache
from emergent_icl.runs.open import load_run
from emergent_icl.runs.records import Display, read_metrics
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir, WorkdirError

pytestmark = pytest.mark.faults

EVALUATE = ("-m", "experiments.evaluate")


class Payload:
    """Writes a file when unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(tiny.get_config("symbols"), Workdir(folder), Display())
    return folder


@pytest.fixture
def hostile(finished, tmp_path):
    """A copy of the run, to be tampered with."""
    return shutil.copytree(finished, tmp_path / "run")


def evaluate(folder, *flags):
    with Processes(folder, [*flags, "--num_sequences=20"], program=EVALUATE) as process:
        return process.wait()


# What turns bytes into code. submitit loads only its own recent pickles (slurm.py).
EXECUTING_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "runpy"}
EXECUTING_CALLS = {"eval", "exec", "compile", "__import__"}


def executing(path):
    """Names in a file of the project that could execute loaded data."""
    for node in syntax.nodes(path):
        if isinstance(node, ast.Import):
            yield from EXECUTING_MODULES & {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            yield from EXECUTING_MODULES & {(node.module or "").partition(".")[0]}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield from EXECUTING_CALLS & {node.func.id}
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield from [] if ast.literal_eval(node.value) is False else ["allow_pickle"]


def test_no_file_of_the_project_can_execute_loaded_data():
    paths = [
        path for name in ("emergent_icl", "experiments") for path in (ROOT / name).rglob("*.py")
    ]
    assert len(paths) > 100
    assert {str(path): list(executing(path)) for path in paths if list(executing(path))} == {}


def test_code_that_could_execute_data_is_detected(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(
        "import pickle\nfrom joblib import load\neval('1')\nnp.load(path, allow_pickle=True)\n"
    )
    assert list(executing(path)) == ["pickle", "joblib", "eval", "allow_pickle"]


@pytest.mark.parametrize("place", ["state/payload", "progress/metadata", "state/_METADATA"])
def test_pickles_in_a_checkpoint_are_not_executed(hostile, place, tmp_path):
    mark = tmp_path / "executed"
    bomb = pickle.dumps(Payload(mark))
    path = hostile / "checkpoints" / "40" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bomb)
    status, _, err = evaluate(hostile)
    # Invalid metadata are rejected; an unexpected file is not read.
    assert status == (0 if place == "state/payload" else 1), err
    assert "Traceback" not in err
    assert not mark.exists()
    pickle.loads(bomb).close()
    assert mark.exists()


def test_python_files_in_a_work_directory_are_not_executed(hostile, tmp_path):
    mark = tmp_path / "executed"
    code = f"open({str(mark)!r}, 'w')\n"
    for name in ("sitecustomize.py", "experiments.py", "json.py", "config.py", "tiny.py", "jax.py"):
        (hostile / name).write_text(code)
    status, _, err = evaluate(hostile)
    assert status == 0, err
    # With -P, not even if started in that folder.
    words = [sys.executable, "-P", *EVALUATE, "--workdir=.", "--num_sequences=20"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=hostile, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        "open(MARK, 'w')",
        "[1, 2]",
        "{}",
        '{"data": 1}',
        '{"data": {"source": "symbolic"}}',
        '{"name": "x", "data": {"source": {"__class__": "os.system"}}}',
        '{"a":' * 100_000,
        '{"a.b": 1}',
        '{"\\ud800": 1, "name": "\\ud800"}',
    ],
)
def test_a_config_is_not_executed(hostile, content, tmp_path):
    mark = tmp_path / "executed"
    (hostile / "config.json").write_text(content.replace("MARK", repr(str(mark))))
    status, _, err = evaluate(hostile)
    assert status == 1
    assert "Traceback" not in err
    assert err.count("error:") == 1
    assert not mark.exists()


def test_a_file_named_by_a_config_is_not_executed(hostile, tmp_path):
    mark = tmp_path / "executed"
    extension = tmp_path / "extension.py"
    extension.write_text(f"open({str(mark)!r}, 'w')\n")
    config = json.loads((hostile / "config.json").read_text())
    config["data"]["source"] = str(extension)
    config["model"]["encoder"] = f"{extension}:run"
    (hostile / "config.json").write_text(json.dumps(config))
    status, _, err = evaluate(hostile)
    assert (status, err.count("error:")) == (1, 1)
    assert not mark.exists()


def test_a_cache_with_a_pickle_is_rebuilt(tmp_path):
    mark, path = tmp_path / "executed", tmp_path / "cache.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("header.npy", "images.npy"):
            with archive.open(name, "w") as file:
                np.lib.format.write_array(
                    file, np.array([Payload(mark)], dtype=object), allow_pickle=True
                )
    arrays = cache.load_or_build(path, {"a": 1}, lambda: {"images": np.zeros(3)})
    assert not mark.exists()
    assert arrays["images"].tolist() == [0, 0, 0]


def test_features_with_a_pickle_are_rejected(tmp_path):
    mark, path = tmp_path / "executed", tmp_path / "features.npy"
    np.save(path, np.array([[Payload(mark)]], dtype=object), allow_pickle=True)
    mark.unlink(missing_ok=True)
    flags = train_flags(preset="vectors", **{"data.source": "features", "data.features.path": path})
    with Processes(tmp_path / "run", flags) as process:
        status, _, err = process.wait()
    assert status == 1
    assert "Traceback" not in err
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"\x80\x04]", b"", b"[1]", b"{}", b"\x00" * 20])
def test_a_damaged_summary_is_rewritten(hostile, content):
    summary = Workdir(hostile).read_summary()
    (hostile / "summary.json").write_bytes(content)
    assert Workdir(hostile).read_summary() is None
    # It is not needed to open the run.
    assert load_run(hostile).step == 40
    train(tiny.get_config("symbols"), Workdir(hostile), Display())
    assert Workdir(hostile).read_summary()["evals"] == summary["evals"]


@pytest.mark.parametrize(
    "change", [("data.split.num_rare", 10**30), ("model.num_heads", -(10**30))]
)
def test_absurdly_large_numbers_are_rejected(hostile, change):
    path, value = change
    *folders, name = path.split(".")
    config = json.loads((hostile / "config.json").read_text())
    place = config
    for folder in folders:
        place = place[folder]
    place[name] = value
    (hostile / "config.json").write_text(json.dumps(config))
    status, _, err = evaluate(hostile)
    assert (status, err.count("error:")) == (1, 1)
    assert "Traceback" not in err


def test_a_corrupt_line_of_metrics_is_reported(hostile):
    path = hostile / "metrics.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first, "\0\0\0\n", *others]))
    with pytest.raises(WorkdirError, match=r"line 2 of .*metrics.jsonl is not a line of metrics"):
        read_metrics(path)
    # A last line may be incomplete after a crash.
    path.write_text("".join([first, "\0\0\0\n"]))
    assert [line["step"] for line in read_metrics(path)] == [10]
