import json
from pathlib import Path

import pytest
from launching import launch, train_flags
from PIL import Image


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspected")
    assert launch("train", *train_flags(folder, "images")).returncode == 0
    return folder


def test_inspect_run_draws_predictions_and_attention(trained):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    done = launch("inspect_run", f"--workdir={trained}", "--sequences=0,7", "--mode=flip")
    assert done.returncode == 0, done.stderr
    names = ["predictions_flip_step_40.png"]
    names += [f"attention_flip_step_40_sequence_{row}.png" for row in (0, 7)]
    for name in names:
        path = trained / "figures" / name
        assert str(path) in done.stdout
        with Image.open(path) as image:
            assert min(image.size) > 200
            assert len(image.convert("L").getcolors(10_000)) > 20
    assert all(path.read_bytes() == content for path, content in before.items())


def test_inspect_data_of_a_trained_run_reports_icl_without_lookalikes(trained):
    done = launch("inspect_data", f"--workdir={trained}", "--rows=1", "--sample=20")
    assert done.returncode == 0, done.stderr
    assert (
        "Held-out characters that are nearest to a training class (the nearest 5%, rounded up)"
        in done.stdout
    )
    found = json.loads((trained / "inspection.json").read_text())["lookalikes"]
    assert list(found["nearest"]) == ["blurred pixels", "encoder"]
    assert all(len(pairs) == 8 for pairs in found["nearest"].values())
    summary = json.loads((trained / "summary.json").read_text())
    everything, *without = found["icl"].values()
    mode, metric = found["mode"], found["metric"]
    assert everything["accuracy"]["mean"] == summary["evals"][mode][metric]
    assert len(without) == 2
    for one in without:
        # One of 8 held-out classes; each sequence shows 2.
        assert one["num_left_out"] == 1
        assert one["num_sequences"] == pytest.approx(50 * 6 / 8, abs=12)


def test_inspect_run_errors_are_one_message(trained):
    for flags, message in (
        (["--mode=flipp"], "evaluation.modes"),
        (["--sequences=0,a"], "--sequences=0,a must be integers"),
        (["--sequences=99999"], "sequences [99999] must be below"),
        (["--step=3"], "no checkpoint of step 3"),
    ):
        done = launch("inspect_run", f"--workdir={trained}", *flags)
        assert done.returncode in (1, 2)
        assert done.stderr.startswith("error:")
        assert message in done.stderr
    assert not list(Path(trained).glob("figures/*99999*"))
