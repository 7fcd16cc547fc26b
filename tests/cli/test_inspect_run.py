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


def test_inspect_run_errors_are_one_message(trained):
    for flags, message in (
        (["--mode=flipp"], "evaluation.modes"),
        (["--sequences=0,a"], "--sequences=0,a must be numbers"),
        (["--sequences=99999"], "sequences [99999] must be below"),
        (["--step=3"], "no checkpoint of step 3"),
    ):
        done = launch("inspect_run", f"--workdir={trained}", *flags)
        assert done.returncode in (1, 2)
        assert done.stderr.startswith("error:")
        assert message in done.stderr
    assert not list(Path(trained).glob("figures/*99999*"))
