"""The paper's own preset on one, two, and four devices, as real processes."""

import pytest
from conftest import has_omniglot
from launching import launch, records

pytestmark = pytest.mark.faults

# In place of Omniglot: as many characters of the same size, with one drawing each.
GLYPHS = ("data.source=glyphs", "data.glyphs.num_classes=1623", "data.glyphs.num_exemplars=1")
SHORT = (
    "training.num_steps=4", "training.log_every=1", "evaluation.every=4",
    "evaluation.num_sequences=32", "checkpoints.every=4",
)  # fmt: skip


def train(folder, devices, *words, status=0):
    options = (*SHORT, *(() if has_omniglot() else GLYPHS))
    flags = [f"--workdir={folder}", *(f"--config.{option}" for option in options), *words]
    done = launch("train", "--config=omniglot:paper", *flags, devices=devices)
    assert done.returncode == status, done.stderr
    return records(folder)


def test_the_paper_preset_is_the_same_on_two_and_four_devices(tmp_path):
    """The second run moves from two devices to four."""
    alone = train(tmp_path / "alone", 1)
    train(tmp_path / "moved", 2, "--stop_after=2", status=143)
    moved = train(tmp_path / "moved", 4)
    assert [line["step"] for line in moved] == [1, 2, 3, 4]
    for expected, line in zip(alone, moved, strict=True):
        assert line.keys() == expected.keys()
        assert line["train/loss"] == pytest.approx(expected["train/loss"], rel=2e-4)
        assert line["train/grad_norm"] == pytest.approx(expected["train/grad_norm"], rel=2e-3)
    losses = [name for name in alone[-1] if name.endswith("/loss") and name.startswith("eval")]
    assert len(losses) >= 2
    for name in losses:
        assert moved[-1][name] == pytest.approx(alone[-1][name], rel=2e-4)
