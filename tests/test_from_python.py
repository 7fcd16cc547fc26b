"""The package from Python: a run's methods, comparisons, interruption, and global state."""

import contextlib
import inspect
import json
import logging
import os
import pydoc
import random
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import jax
import matplotlib
import numpy as np
import pytest
import tiny
from launching import launch

import emergent_icl as icl
from emergent_icl.config.configs import with_options
from emergent_icl.data.tensorflow import import_tensorflow
from emergent_icl.plots import style
from emergent_icl.runs import open as opening
from emergent_icl.runs.records import Display, read_metrics

pytestmark = pytest.mark.usefixtures("quick_runs")
CONFIG = tiny.get_config("images")
TIMES = ("steps_per_second", "sequences_per_second")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return icl.train(CONFIG, tmp_path_factory.mktemp("runs") / "bursty")


@pytest.fixture(scope="module")
def evaluated(run):
    return run.evaluate(num_sequences=None)


def lines(workdir):
    records = read_metrics(workdir.metrics)
    return [{k: v for k, v in one.items() if k not in TIMES} for one in records]


def test_importing_the_package_imports_nothing_heavy_and_lists_its_names():
    code = "import sys, emergent_icl; print({'jax', 'numpy'} & {*sys.modules}, *dir(emergent_icl))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"set() {' '.join(dir(icl))}\n"
    assert {"get_config", "train", "load_run", "compare", "Run", "DATA_SOURCES"} < set(dir(icl))
    assert "omniglot" in icl.DATA_SOURCES
    assert "fewshot_holdout" in icl.EVALUATION_MODES
    assert repr(icl.DATA_SOURCES).startswith("<data sources: ")
    assert all(len(getattr(icl, name)) > 1 for name in dir(icl) if name.isupper())
    assert "icl.compare([" in pydoc.render_doc(icl)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = icl.trian


def test_overrides_of_a_config_are_checked_together():
    config = icl.get_config("gaussian:reddy", {"evaluation.modes": ["flip"], "data.noise_scale": 1})
    assert (config.evaluation.modes, config.data.noise_scale) == (("flip",), 1)
    assert config.is_locked
    with pytest.raises(icl.ConfigError) as error:
        icl.get_config("gaussian", {"data.sequences.p_bursty": 2.0, "model.num_layers": 0})
    assert all(name in str(error.value) for name in ("p_bursty = 2.0", "num_layers = 0"))
    for name, overrides, said in (
        ("gausian", {}, "did you mean 'gaussian'"),
        ("gaussian:redy", {}, "'redy' is unknown (allowed: "),
        ("base:x", {}, "config 'base:x': base: "),
        ("gaussian", {"model.nun_layers": 1}, "did you mean 'model.num_layers'"),
    ):
        with pytest.raises(icl.ConfigError) as error:
            icl.get_config(name, overrides)
        assert said in str(error.value)


def test_evaluations_agree_with_training_and_accept_other_options(run, evaluated):
    last = lines(run.workdir)[-1]
    for mode, metrics in evaluated.items():
        for metric, one in metrics.items():
            assert one.mean == last[f"eval/{mode}/{metric}"]
            assert one.low <= one.mean <= one.high
    assert list(run.evaluate("flip", 20, shots=2)) == ["flip"]
    # The command and the method have the same default.
    parameters = inspect.signature(run.evaluate).parameters
    assert parameters["num_sequences"].default == opening.NUM_SEQUENCES
    for options in ({"modes": "flipp"}, {"num_sequences": 0}, {"shot": 3}, {"shots": 0}):
        with pytest.raises(icl.ConfigError):
            run.evaluate(**options)


def test_predictions_agree_with_evaluations(run, evaluated):
    count = CONFIG.evaluation.num_sequences
    shown = run.sequences("no_support_zipfian", count)
    assert shown.examples.shape == (count, 9, 12, 12, 1)
    assert shown.labels.shape == shown.class_names.shape == shown.roles.shape == (count, 9)
    assert set(shown.roles.flat) == {"rare", "common"}
    assert shown.class_names[0, 0] == f"glyph {shown.class_ids[0, 0]}"
    probabilities = run.predict(shown.examples, shown.labels[:, :-1])
    of_truth = probabilities[np.arange(count), shown.query_labels]
    loss = evaluated["no_support_zipfian"]["loss"].mean
    assert -np.log(of_truth).mean() == pytest.approx(loss, rel=1e-4)
    # The query's label is ignored; the channel axis is optional; sequences may be few and short.
    wrong = shown.labels[:2, 4:] * ([1] * 4 + [0])
    some = run.predict(shown.examples[:2, 4:, ..., 0], wrong)
    assert some.sum(axis=1) == pytest.approx(1, abs=1e-5)
    for row, one in enumerate(run.sequences("no_support_zipfian", 2).examples):
        np.testing.assert_array_equal(one, shown.examples[row])


EXAMPLES, LABELS = np.zeros((2, 3, 12, 12)), np.zeros((2, 2), int)


@pytest.mark.parametrize(
    ("examples", "labels", "said"),
    [
        (EXAMPLES[0], LABELS, r"shape \[3, 12, 12\], but must have shape \[B, S, 12, 12, 1\]"),
        (EXAMPLES[:, :1], LABELS[:, :0], "S >= 2"),
        (EXAMPLES[:0], LABELS[:0], "B sequences"),
        (EXAMPLES.astype(np.uint8), LABELS, "examples are uint8, but images must be float"),
        (EXAMPLES + 255, LABELS, "examples reach 255, but pixels lie in"),
        (EXAMPLES * np.nan, LABELS, "not finite"),
        (EXAMPLES, LABELS[:1], r"labels have shape \[1, 2\].* need \[2, 2\]"),
        (EXAMPLES, LABELS + 40, "labels range from 40 to 40, but must lie between 0 and 39"),
        (EXAMPLES, LABELS - 1, "labels range from -1"),
        (EXAMPLES, LABELS + 0.5, "labels are float64, but must be integers"),
    ],
)
def test_invalid_sequences_are_rejected_with_one_sentence(run, examples, labels, said):
    with pytest.raises(ValueError, match=said):
        run.predict(examples, labels)


@pytest.mark.parametrize("with_pandas", [False, True])
def test_curves_are_the_lines_of_metrics(run, with_pandas, monkeypatch):
    if with_pandas:
        pytest.importorskip("pandas")  # An extra; the other case runs without it.
    else:
        monkeypatch.setitem(sys.modules, "pandas", None)
    curves, expected = run.curves(), lines(run.workdir)
    assert list(curves)[:2] == ["step", "replica"]
    assert list(curves["step"]) == [10, 20, 30, 40]
    assert list(curves["train/loss"]) == [line["train/loss"] for line in expected]
    icl_curve = np.asarray(curves["eval/fewshot_holdout/accuracy_closed"])
    assert list(np.isnan(icl_curve)) == [True, False, True, False]
    assert hasattr(curves, "iloc") == with_pandas


def test_exported_parameters_can_be_read_back(run, tmp_path):
    path = run.export(tmp_path / "weights.npz")
    with np.load(path) as arrays:
        assert arrays["step"] == 40
        assert '"num_holdout": 8' in str(arrays["config"])
        np.testing.assert_array_equal(arrays["params/head/w"], run.params["head"]["w"])
        names = {name for name in arrays if name.startswith("params/")}
    assert len(names) == len(jax.tree.leaves(run.params))
    content = path.read_bytes()
    assert run.export(path).read_bytes() == content
    with pytest.raises(ValueError, match=r"weights\.pt: parameters are exported as an \.npz"):
        run.export(tmp_path / "weights.pt")


def test_runs_are_compared_by_their_records(run, evaluated, tmp_path):
    names = ({"name": "a"}, {"name": "b", "training.seed": 5})
    options = {"training.replica_overrides": names, "training.num_steps": 20}
    options["model.sequence_model"] = "rnn"  # It compiles fastest.
    config = with_options(tiny.get_config("symbols"), options)
    with pytest.raises(icl.ConfigError, match="use train_replicas"):
        icl.train(config, tmp_path / "seeds")
    replicas = icl.train_replicas(config, tmp_path / "seeds")
    assert list(replicas) == ["a", "b"]
    found = icl.compare([run, tmp_path / "seeds", replicas["b"]])
    assert list(found.ends) == ["bursty", "seeds, a", "seeds, b"]
    assert list(found.options)[-2:] == ["training.num_steps", "training.seed"]
    assert list(found.options["model.encoder"].values()) == ["mlp", "embedding", "embedding"]
    assert list(found.options["training.seed"].values()) == [0, 0, 5]
    end = found.ends["bursty"]
    assert end["ICL"] == evaluated["fewshot_holdout"]["accuracy_closed"]
    assert end["IWL"] == evaluated["no_support_zipfian"]["accuracy"]
    assert (end["state"], end["step"]) == ("complete", 40)
    assert str(end["ICL"]) in repr(found)
    drawn = {line.get_label() for line in found.figure.axes[0].lines}
    assert set(found.ends) <= drawn
    signature = found.figure.texts[-1].get_text().replace("\n", " ")
    assert f"seeds, b: config {found.ends['seeds, b']['config']}" in signature
    with pytest.raises(ValueError, match="no runs"):
        icl.compare([])
    with pytest.raises(icl.WorkdirError, match="no config"):
        icl.compare([tmp_path / "nothing"])


def test_an_incomplete_run_is_compared_at_its_last_evaluation(run, tmp_path):
    shutil.copytree(run.workdir.path, tmp_path / "ahead")
    (tmp_path / "ahead" / "summary.json").unlink()
    metrics = tmp_path / "ahead" / "metrics.jsonl"
    trained_on = {"step": 50, "train/loss": 0.0, "train/accuracy": 1.0}
    metrics.write_text(metrics.read_text() + json.dumps(trained_on) + "\n")
    before, ahead = icl.compare([run, tmp_path / "ahead"]).ends.values()
    assert (ahead["state"], ahead["step"]) == ("incomplete", 40)
    for name in ("ICL", "IWL", "loss"):
        assert ahead[name] == before[name]


def test_a_run_without_an_evaluation_has_no_final_values(run, tmp_path):
    shutil.copytree(run.workdir.path, tmp_path / "begun")
    (tmp_path / "begun" / "summary.json").unlink()
    line = {"step": 10, "train/loss": 2.0, "train/accuracy": 0.1}
    (tmp_path / "begun" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (end,) = icl.compare([tmp_path / "begun"]).ends.values()
    assert end["state"] == "incomplete"
    assert [end[name] for name in ("step", "ICL", "IWL", "loss")] == [None] * 4


def test_runs_of_an_extension_that_is_not_loaded_are_compared_without_chance(run, tmp_path):
    shutil.copytree(run.workdir.path, tmp_path / "other")
    path = tmp_path / "other" / "config.json"
    tree = json.loads(path.read_text())
    tree["evaluation"]["modes"] = ["of_an_extension"]
    path.write_text(json.dumps(tree))
    ends = icl.compare([run, tmp_path / "other"]).ends.values()
    assert [end["step"] for end in ends] == [40, 40]


FORMATS = {"c.png": b"\x89PNG", "c.PDF": b"%PDF", "c.svg": b"<?xml"}


@pytest.mark.parametrize("name", FORMATS)
def test_a_figure_has_the_format_of_its_name_and_is_reproducible(tmp_path, name):
    contents = []
    for _ in range(2):
        figure = style.new_figure(2, 1)
        figure.subplots().plot([1, 2])
        style.sign(figure, "config 12345678")
        style.save(figure, tmp_path / name)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0].startswith(FORMATS[name])
    assert contents[0] == contents[1]
    said = r"c\.gif: figures are written as \.png, \.pdf, \.svg"
    with pytest.raises(style.FigureError, match=said):
        style.save(figure, tmp_path / "c.gif")


# Imported libraries create loggers and warning filters, so they are imported first.
PUBLIC = [getattr(icl, name) for name in dir(icl)]
LOGGERS = sorted(logging.root.manager.loggerDict)


def global_state():
    """Global state of the calling program."""
    loggers = [logging.root, *map(logging.getLogger, LOGGERS)]
    return {
        "environment": dict(os.environ),
        "logging": [(one.name, one.level, list(one.handlers)) for one in loggers],
        "warnings": list(warnings.filters),
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.gettrace()),
        "signals": {one: signal.getsignal(one) for one in signal.Signals},
        "jax": dict(jax.config.values),
        "random": (random.getstate(), repr(np.random.get_state())),  # noqa: NPY002
        "backend": matplotlib.get_backend(auto_select=False),
        # Reading the backend would choose one.
        "style": {name: matplotlib.rcParams[name] for name in {*matplotlib.rcParams} - {"backend"}},
        "folder": os.getcwd(),
        "streams": (sys.stdout, sys.stderr),
    }


@contextlib.contextmanager
def nothing_changes():
    before = global_state()
    yield
    after = global_state()
    assert {name for name in before if before[name] != after[name]} == set()


class Killer(Display):
    """Sends this process SIGINT when a step is logged."""

    def __init__(self, step, times=1):
        self.step, self.times = step, times

    def logged(self, step, records):
        if step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def interruptible():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupted_run_is_resumed_by_the_same_call(run, tmp_path, times, interruptible, capfd):
    with nothing_changes():
        # The first interrupt saves after the step; the second stops immediately.
        with pytest.raises(KeyboardInterrupt) as stopped:
            icl.train(CONFIG, tmp_path / "run", Killer(30, times))
        resumed = icl.train(CONFIG, tmp_path / "run")
        icl.compare([resumed]).save(tmp_path / "c.svg")
    assert ("stopped after step 30; the state is saved" in str(stopped.value)) == (times == 1)
    assert lines(resumed.workdir) == lines(run.workdir)
    for one, other in zip(*map(jax.tree.leaves, (resumed.params, run.params)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert capfd.readouterr() == ("", "")


def test_a_run_in_a_thread_leaves_signals_alone(run, tmp_path):
    threads = ThreadPoolExecutor(1)
    with nothing_changes(), threads:
        trained = threads.submit(icl.train, CONFIG, tmp_path / "run").result()
    assert lines(trained.workdir) == lines(run.workdir)


def test_missing_determinism_on_a_gpu_causes_a_warning_only(run, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    config = with_options(CONFIG, {"training.deterministic": True, "training.num_steps": 0})
    with (
        pytest.warns(UserWarning, match="needs XLA_FLAGS=--xla_gpu"),
        pytest.raises(icl.ConfigError),
    ):
        icl.train(config, tmp_path / "run")
    assert "deterministic" not in os.environ["XLA_FLAGS"]


def test_the_command_prints_tables_before_it_writes_the_figure(run, tmp_path):
    output = tmp_path / "curves.pdf"
    words = (f"{run.workdir.path}", f"{run.workdir.path}/../bursty", f"--output={output}")
    done = launch("compare", *words)
    assert done.returncode == 0, done.stderr
    end = icl.compare([run]).ends["bursty"]
    for text in (str(end["ICL"]), str(end["IWL"]), end["config"], f"Written: {output}"):
        assert text in done.stdout
    assert output.read_bytes().startswith(b"%PDF")
    done = launch("compare", run.workdir.path, "--output=a.gif")
    assert done.returncode == 1
    assert done.stderr == "error: a.gif: figures are written as .png, .pdf, .svg files\n"


def test_importing_tensorflow_leaves_no_trace_in_the_process(tmp_path, monkeypatch):
    lines = (
        "import os, random, types, warnings",
        "os.environ['TF2_BEHAVIOR'] = '1'",
        "random.seed(5)",
        "warnings.simplefilter('ignore')",
        "config = types.SimpleNamespace(set_visible_devices=lambda *_: None)",
    )
    (tmp_path / "tensorflow.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorflow"]:
        monkeypatch.delitem(sys.modules, name)
    with nothing_changes():
        module = import_tensorflow()
    assert module.__file__ == str(tmp_path / "tensorflow.py")
    # The monkeypatch would restore it for later tests.
    del sys.modules["tensorflow"]
