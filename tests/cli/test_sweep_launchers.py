"""experiments.sweep and experiments.reproduce, in separate processes."""

import json
import re
import signal

import pytest
import tiny_sweep
from launching import PATIENCE, launch, start, wait_for

from emergent_icl.runs.records import Display, last_step, read_metrics
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir
from emergent_icl.sweeps.evidence import read_runs
from emergent_icl.sweeps.registration import FILE, read, register

SIZES = ("compute_seconds", "machine")


def flags(folder, *others, preset="plain"):
    return (f"--sweep=tests/tiny_sweep.py:{preset}", f"--workdir={folder}", "--seeds=2", *others)


def numbers(folder):
    """Everything in results.json that does not depend on time or machine."""
    results = json.loads((folder / "results.json").read_text())
    return {name: value for name, value in results.items() if name not in SIZES}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A registered sweep after a first call, in which one of the searches could not write."""
    folder = tmp_path_factory.mktemp("sweep")
    done = launch("sweep", *flags(folder, "--register", preset="searched"))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert "tiny: Bursts do something. (2 conditions, seeds 0, 1)" in done.stdout
    assert f"as {read(folder)['hash'][:12]}: {folder / FILE}. Commit a copy" in done.stdout
    obstacle = folder / "tiny" / "p=0" / "search" / ".lock"
    obstacle.mkdir(parents=True)
    return folder, obstacle, launch("sweep", *flags(folder, preset="searched"))


@pytest.fixture(scope="module")
def whole(broken):
    """The same sweep after a second call, in which all could write."""
    folder, obstacle, _ = broken
    kept = (folder / "tiny" / "p=1" / "seeds=0-1" / "metrics.jsonl").stat().st_mtime_ns
    obstacle.rmdir()
    done = launch("sweep", *flags(folder, preset="searched"))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, kept, done


def test_a_failed_program_is_reported_and_the_others_continue(broken):
    folder, _, done = broken
    assert done.returncode == 1
    assert "failed    tiny/p=0/search" in done.stdout
    assert "error: tiny/p=0/search failed (exit status 1):" in done.stderr
    assert f"({folder}/tiny/p=0/search/train.log)" in done.stdout
    assert "search/.lock" in done.stdout
    # The runs that wait for it have not started.
    assert not (folder / "tiny" / "p=0" / "seeds=0-1").exists()
    assert "To retry failed programs:" in done.stdout
    results = numbers(folder)
    assert len(results["sweeps"]["tiny"]["conditions"]["p=1"]["runs"]) == 2
    verdict = results["verdicts"]["tiny"]
    assert verdict["verdict"] == "inconclusive"
    assert verdict["statistics"][0]["reason"] == "no runs of p=0"
    assert (folder / "report.html").exists()


def test_the_next_call_reruns_only_what_failed(whole):
    folder, kept, done = whole
    assert "4 programs of 8 runs, 2 complete" in done.stdout
    started = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("started")]
    assert started == ["tiny/p=0/search", "tiny/p=0/seeds=0-1"]
    again = (folder / "tiny" / "p=1" / "seeds=0-1" / "metrics.jsonl").stat().st_mtime_ns
    assert again == kept


def test_results_are_those_of_the_runs(whole):
    folder, _, _ = whole
    conditions = numbers(folder)["sweeps"]["tiny"]["conditions"]
    for name, condition in conditions.items():
        lines = read_metrics(folder / "tiny" / name / "seeds=0-1" / "metrics.jsonl")
        for seed, run in condition["runs"].items():
            own = [one for one in lines if one["replica"] == f"seed={seed}"]
            last = own[-1]["eval/fewshot_holdout/accuracy_closed"]
            assert run["final"]["icl"] == pytest.approx(last, abs=1e-5)
            assert run["curves"]["icl"]["steps"] == [20, 40]


def test_runs_use_the_best_setting_of_their_search(whole):
    folder, _, _ = whole
    for name, search in numbers(folder)["sweeps"]["tiny"]["search"].items():
        draws = search["draws"].values()
        best = max(draw["final"]["icl"] for draw in draws)
        chosen = search["draws"][search["chosen"]]
        assert chosen["final"]["icl"] == best
        config = Workdir(folder / "tiny" / name / "seeds=0-1").read_config()
        rate = "training.optimizer.learning_rate"
        assert config.training.optimizer.learning_rate == chosen["overrides"][rate]


def test_figures_and_report_are_drawn(whole):
    folder, _, done = whole
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "tiny.png", "tiny.svg", "summary.png", "summary.svg",
    }  # fmt: skip
    assert "Bursts do something." in done.stdout
    assert "Bursts do something." in (folder / "report.html").read_text()


def test_a_verdict_on_registered_runs_says_so(whole, tmp_path):
    folder, _, done = whole
    made, found = read(folder), numbers(folder)["registration"]
    # Another process computes the same hash.
    sweep = tiny_sweep.get_sweep("searched").with_replicates(2)
    assert found["hash"] == made["hash"] == register([sweep], tmp_path)["hash"]
    said = f"registered on {made['registered'][:10]} as {made['hash'][:12]}"
    assert found["status"]["tiny"].startswith(said)
    assert said in done.stdout
    assert said in (folder / "report.html").read_text()

    # Last, since it overwrites them. Differences are printed before and after.
    done = launch("sweep", *flags(folder, "--seeds=1", preset="searched"))
    assert done.returncode == 0, done.stderr
    said = "changed after registration: seeds: [0, 1] registered, [0] now"
    # The table may wrap it.
    assert re.sub(r"[\s│]+", " ", done.stdout).count(said) == 2
    assert numbers(folder)["registration"]["status"] == {"tiny": said}


def test_the_plan_is_printed_and_nothing_is_run(tmp_path):
    folder = tmp_path / "none"
    done = launch("sweep", *flags(folder, "--plan", preset="searched"))
    assert done.returncode == 0, done.stderr
    assert "tiny/p=0/search" in done.stdout
    assert "waits for its search" in done.stdout
    assert "8 runs in 4 programs" in done.stdout
    assert not folder.exists()


@pytest.mark.faults
def test_a_stopped_sweep_resumes_to_the_same_numbers(tmp_path):
    folder = tmp_path / "stopped"
    words = flags(folder, "--set=training.num_steps=12_000_000", "--set=evaluation.every=600")
    process = start("-m", "experiments.sweep", *words)
    metrics = folder / "tiny" / "p=0" / "seeds=0-1" / "metrics.jsonl"
    wait_for(lambda: last_step(metrics) >= 40, "lines of metrics")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM, out + err
    assert "Stopped; every run is saved. To resume:" in out
    assert f"--workdir={tmp_path / 'stopped'}" in out

    # Long enough for all runs that have begun.
    steps = max(last_step(one) for one in folder.rglob("metrics.jsonl")) // 600 * 600 + 600
    words = flags(folder, f"--set=training.num_steps={steps}", "--set=evaluation.every=600")
    assert launch("sweep", *words).returncode == 0
    stopped = Workdir(metrics.parent)
    uninterrupted = Workdir(tmp_path / "uninterrupted")
    train(stopped.read_config(), uninterrupted, Display())
    assert read_runs(stopped) == read_runs(uninterrupted)
    found = numbers(tmp_path / "stopped")["sweeps"]["tiny"]["conditions"]
    assert {name: list(one["runs"]) for name, one in found.items()} == {
        "p=0": ["0", "1"],
        "p=1": ["0", "1"],
    }


@pytest.mark.faults
def test_reproduce_judges_findings_on_glyphs(tmp_path):
    tiny = {
        "data.image_size": 12,
        "data.glyphs.num_classes": 60,
        "data.glyphs.num_exemplars": 5,
        "data.split.num_rare": 40,
        "data.split.num_holdout": 20,
        # The fastest to compile.
        "model.sequence_model": "rnn",
        "training.optimizer.name": "sgd",
        "model.mlp.hidden_sizes": (16,),
        "training.num_steps": 20,
        "training.batch_size": 8,
        "evaluation.every": 10,
        "evaluation.num_sequences": 50,
        "data.feeder": "python",
    }
    changes = [f"--set={path}={value}" for path, value in tiny.items()]
    words = ("--findings=transience", "--dataset=glyphs", "--seeds=1", f"--workdir={tmp_path}")
    done = launch("reproduce", *words, *changes)
    assert done.returncode == 0, done.stdout + done.stderr
    results = numbers(tmp_path)
    assert (results["preset"], results["dataset"]) == ("laptop", "glyphs")
    assert results["changes"]["model.mlp.hidden_sizes"] == [16]
    assert results["verdicts"]["transience"]["verdict"] == "inconclusive"  # One run per condition.
    assert len(results["verdicts"]["transience"]["runs"]) == 2
    assert results["registration"]["status"] == {"transience": "not registered"}


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("sweep", ("--sweep=none.py",), "--sweep=none.py: there is no file none.py"),
        ("sweep", ("--sweep=tests/tiny_sweep.py,tests/tiny_sweep.py",), "two sweeps are named 'ti"),
        ("sweep", ("--sweep=tests/tiny_sweep.py", "--set=x"), "--set=x must be OPTION=VALUE"),
        (
            "sweep",
            ("--sweep=tests/tiny_sweep.py", "--set=training.num_steps=many"),
            "training.num_steps = 'many' must be",
        ),
        (
            "sweep",
            ("--sweep=tests/tiny_sweep.py", "--set=data.sequences.p_bursty=0.3"),
            "--set=data.sequences.p_bursty has no effect: every condition, or its search, sets",
        ),
        (
            "sweep",
            ("--sweep=tests/tiny_sweep.py:searched", "--set=training.optimizer.learning_rate=0.1"),
            "--set=training.optimizer.learning_rate has no effect: every condition, or its search",
        ),
        ("reproduce", ("--findings=",), "--findings must name at least one of burstiness, classes"),
        (
            "reproduce",
            ("--findings=burstines",),
            "--findings: burstines is unknown (allowed: burstiness, classes",
        ),
    ],
)
def test_invalid_input_is_one_line_and_changes_nothing(module, words, said, tmp_path):
    done = launch(module, *words, f"--workdir={tmp_path / 'none'}")
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("memory", ["inf", "nan"])
def test_memory_must_be_finite(memory, tmp_path):
    done = launch("sweep", *flags(tmp_path / "none", f"--memory_gb={memory}"))
    assert done.returncode == 2
    assert done.stderr == f"error: flag --memory_gb={memory}: must be finite\n"


def test_without_slurm_an_error_comes_before_anything_is_written(tmp_path):
    """Even on a SLURM machine: only PATH is searched."""
    folder = tmp_path / "none"
    nothing = {"PATH": str(tmp_path)}
    for further, missing in (((), "sbatch, squeue, srun"), (("--status",), "squeue")):
        done = launch("sweep", *flags(folder, "--executor=slurm", *further), env=nothing)
        assert done.returncode == 1
        said = f"error: --executor=slurm needs SLURM, but {missing} cannot be found on PATH"
        assert done.stderr.startswith(said)
        assert done.stderr.count("\n") == 1
    assert not folder.exists()


def test_set_parses_none_as_unset():
    words = ["evaluation.ways=none", "model.positions=none", "training.optimizer.options.b1=0.8"]
    words += ["data.augment=true", "data.data_dir=", "model.mlp.hidden_sizes=16"]
    code = f"from emergent_icl.cli import sweeping; print(sweeping._changes({words}))"
    out, err = start("-c", code).communicate(timeout=PATIENCE)
    changes = {
        "evaluation.ways": None,
        "model.positions": "none",
        "training.optimizer.options.b1": 0.8,
        "data.augment": True,
        "data.data_dir": "",
        "model.mlp.hidden_sizes": (16,),
    }
    assert out == f"{changes}\n", err
