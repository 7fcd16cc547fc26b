"""The code of docs/extending.md, run as a user would: from files, in separate processes."""

import json
import re
import subprocess
from pathlib import Path

import launching
import numpy as np
import pytest

from emergent_icl.sweeps.spec import load_sweep

ROOT = Path(__file__).parent.parent.parent
QUICK = ["--config.evaluation.num_sequences=200", "--config.data.feeder=python"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the modules of the page."""
    folder = tmp_path_factory.mktemp("user")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.S)
    name = None
    for block in blocks:
        if match := re.match(r"# (\w+\.py)\n", block):
            name = match[1]
        with (folder / name).open("a") as file:
            file.write(block)
    names = {"my_extension.py", "my_config.py", "my_sweep.py", "my_map.py"}
    assert {path.name for path in folder.iterdir()} == names
    return folder


def launch(folder, module, *flags, **how):
    """Runs a command in that folder; the package is found as if installed."""
    env = {"PYTHONPATH": str(ROOT)}
    process = launching.start("-m", module, *flags, cwd=folder, env=env, shortcuts=True, **how)
    out, err = process.communicate(timeout=launching.PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.faults
def test_every_registry_can_be_extended(folder):
    run = folder / "run"
    flags = ["--extensions=my_extension", f"--workdir={run}", "--config=my_config.py"]
    words = [*flags, *QUICK, "--config.training.num_steps=100"]
    done = launch(folder, "experiments.train", *words)
    assert done.returncode == 0, done.stderr
    summary = json.loads((run / "summary.json").read_text())
    modes = {"fewshot_holdout", "no_support_zipfian", "fewshot_holdout_1_shot", "one_shot"}
    assert set(summary["evals"]) == modes
    # In the last quarter, the schedule's rate is an eighth of the peak.
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["train/learning_rate"] == pytest.approx(1e-3 * (0.25 + 0.125) / 2, rel=1e-3)

    evaluate = ["experiments.evaluate", f"--workdir={run}", "--num_sequences=100"]
    extended = [*evaluate, "--extensions=my_extension"]
    done = launch(folder, *extended, "--modes=fewshot_holdout_1_shot")
    assert done.returncode == 0, done.stderr
    assert "fewshot_holdout_1_shot" in done.stdout
    for module in ("inspect_run", "inspect_data"):
        sample = ["--sample=500"] * (module == "inspect_data")
        done = launch(folder, f"experiments.{module}", extended[1], extended[-1], *sample)
        assert done.returncode == 0, done.stderr
    done = launch(folder, "experiments.describe", *flags[::2], "--nomeasure")
    assert done.returncode == 0, done.stderr
    done = launch(folder, "experiments.options", flags[0], "--filter=burst")
    assert done.returncode == 0, done.stderr
    # Without the extension, the error says that its names are unknown.
    done = launch(folder, *evaluate)
    assert done.returncode == 1
    assert "data.source = 'mosaics' must be one of" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.faults
def test_a_sweep_is_one_file(folder):
    page = (ROOT / "docs" / "extending.md").read_text()
    commands = re.findall(r"emergent-icl (sweep .*)\n", page)
    assert [command.endswith(" --register") for command in commands] == [True, False]
    quick = ("training.num_steps=20", "evaluation.num_sequences=100", "data.feeder=python")
    for command in commands:
        done = launch(
            folder,
            "emergent_icl",
            *command.split(),
            "--seeds=1",
            *(f"--set={one}" for one in quick),
        )
        assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((folder / "runs" / "mosaics" / "results.json").read_text())
    assert len(results["verdicts"]["mosaics"]["runs"]) == 3
    assert (folder / "runs" / "mosaics" / "figures" / "mosaics.png").exists()


def test_the_sweep_of_the_guide_is_valid(tmp_path):
    page = (ROOT / "docs" / "howto" / "sweeps.md").read_text()
    (block,) = re.findall(r"```python\n# my_sweep\.py\n(.*?)```", page, re.S)
    (tmp_path / "my_sweep.py").write_text(block)
    sweep = load_sweep(str(tmp_path / "my_sweep.py"))
    sweep.check()
    assert [one.name for one in sweep.conditions] == ["p=0", "p=0.5", "p=1"]


def test_a_sweep_over_two_options_is_one_file(folder):
    sweep = load_sweep(str(folder / "my_map.py"))
    assert [one.value for one in sweep.conditions][:3] == [(4, 0.5), (4, 1.0), (8, 0.5)]


def test_extension_options_are_checked(folder):
    flags = ["--extensions=my_extension", f"--workdir={folder / 'none'}", "--config=my_config.py"]
    wrong = ["--config.data.mosaics.p_turned=0.7", "--config.data.mosaics.num_clases=3"]
    done = launch(folder, "experiments.train", *flags, *wrong)
    assert done.returncode == 2
    assert "data.mosaics.p_turned = 0.7 must be a number >= 0 and <= 0.5" in done.stderr
    assert "did you mean 'data.mosaics.num_classes'" in done.stderr


@pytest.mark.faults
def test_training_on_vectors_from_a_file(folder):
    page = (ROOT / "docs" / "howto" / "own-data.md").read_text()
    (command,) = re.findall(r"^emergent-icl (train --config=gaussian .*?)\n```", page, re.S | re.M)
    vectors = np.random.default_rng(0).normal(size=(6000, 8)).astype(np.float32)
    np.savez(folder / "my_vectors.npz", x=vectors, y=np.repeat(np.arange(1000), 6))
    words = [*command.replace("\\\n", " ").split(), *QUICK, "--config.training.num_steps=20"]
    done = launch(folder, "emergent_icl", *words)
    assert done.returncode == 0, done.stderr
    assert "features my_vectors.npz: 900 rare, 0 common, 100 holdout classes" in done.stdout


def test_an_import_error_in_an_extension_is_one_message(folder):
    done = launch(folder, "experiments.train", "--extensions=nowhere", "--config=my_config.py")
    assert done.returncode == 2
    assert "error: --extensions: nowhere cannot be imported" in done.stderr
    assert "Traceback" not in done.stderr
