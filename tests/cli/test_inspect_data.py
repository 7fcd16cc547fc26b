"""The launcher, in a separate process."""

import json

import pytest
import tiny
from launching import launch
from PIL import Image

from emergent_icl.runs.workdir import Workdir

FORMATS = {"images": "png", "symbols": "png", "vectors": "pdf"}
MODES = ("fewshot_holdout", "no_support_zipfian")


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("preset", ["images", "symbols", "vectors"])
def test_figures_table_and_numbers(preset, tmp_path):
    folder = tmp_path / "new" / "folder"
    before = claim(folder, "symbols") if preset == "symbols" else {}
    done = launch(
        "inspect_data",
        f"--config=tests/tiny.py:{preset}", f"--workdir={folder}", "--rows=2",
        "--sample=500", "--config.data.sequences.p_bursty=0.5", f"--format={FORMATS[preset]}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pictures = [f"sequences_{name}" for name in ("train_bursty", *MODES)]
    # Integers have no lookalikes.
    lookalikes = () if preset == "symbols" else ("lookalikes",)
    figures = (*pictures, "class_frequencies", "bursts", *lookalikes)
    names = [f"figures/{name}.{FORMATS[preset]}" for name in figures]
    assert files(folder) == {*names, "inspection.json", *before}
    for name in names:
        if preset == "vectors":
            assert (folder / name).read_bytes().startswith(b"%PDF")
            continue
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 300
    for name in (*names, "inspection.json"):
        assert f"Written: {folder / name}\n" in done.stdout
    assert f"tiny {preset}: 500 sequences of each type, seed 0" in done.stdout
    for heading in ("training (bursty)", *MODES):
        assert heading in done.stdout

    content = json.loads((folder / "inspection.json").read_text())
    assert content["evaluation"]["fewshot_holdout"]["support"] == 1.0
    assert content["evaluation"]["no_support_zipfian"]["support"] == 0.0
    # Half of the sequences are bursty; others contain the query's class by chance.
    training = content["training"]["bursty"]
    assert 0.5 < training["support"] < 0.8
    assert training["num_sequences"] == 500

    # The folder has a run with another config, which is not changed; a note says so.
    assert {name: (folder / name).read_bytes() for name in before} == before
    note = f"Note: the run in {folder} has another config: data.sequences.p_bursty."
    assert (note in " ".join(done.stdout.split())) == bool(before)


def claim(folder, preset, **changes):
    """Makes a folder look like a run's; returns its files."""
    config = tiny.get_config(preset).unlock()
    config.update_from_flattened_dict(changes)
    workdir = Workdir(folder)
    workdir.claim(config)
    workdir.summary.write_text("a summary")
    return {name: (folder / name).read_bytes() for name in files(folder)}


def test_without_a_config_it_inspects_the_run_in_the_folder(tmp_path):
    before = claim(tmp_path, "symbols", **{"evaluation.modes": ("flip",)})
    done = launch("inspect_data", f"--workdir={tmp_path}", "--rows=1", "--sample=20", "--seed=5")
    assert done.returncode == 0, done.stderr
    assert "Note:" not in done.stdout
    assert "Without a trained model:" in done.stdout
    assert (tmp_path / "figures" / "sequences_flip.png").exists()
    content = json.loads((tmp_path / "inspection.json").read_text())
    assert (content["seed"], list(content["evaluation"])) == (5, ["flip"])
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workdir={0}"], "no config.json"),
        (["--workdir={0}", "--config=tests/tiny.py", "--config.data.sequences.p_bursty=2.0"],
         "data.sequences.p_bursty = 2.0 must be a number >= 0 and <= 1"),
    ],
)  # fmt: skip
def test_invalid_input_is_one_message_and_writes_nothing(flags, message, tmp_path):
    folder = tmp_path / "none"
    done = launch("inspect_data", *(flag.format(folder) for flag in flags))
    assert done.returncode in (1, 2)
    assert done.stderr.count("error:") == 1
    assert message in done.stderr
    assert not folder.exists()
