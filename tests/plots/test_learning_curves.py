import numpy as np
import pytest
from PIL import Image

from emergent_icl.plots import style
from emergent_icl.plots.learning_curves import learning_curves_figure
from emergent_icl.plots.style import LOOKS

ICL_COLOR, IWL_COLOR, LOSS_COLOR = (LOOKS[measure].color for measure in ("icl", "iwl", "loss"))

RECORDS = [
    {
        "step": step,
        "train/loss": 5 - step / 100,
        "eval/fewshot_holdout/accuracy_closed": 0.5 + step / 1000,
        "eval/no_support_zipfian/accuracy": 0.1,
    }
    for step in range(0, 401, 100)
]


def pixels(path, color):
    """How many pixels of a PNG have exactly this color."""
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return np.count_nonzero((np.asarray(Image.open(path).convert("RGB")) == rgb).all(axis=-1))


@pytest.mark.parametrize(
    ("drop", "absent"),
    [
        ((), ()),
        (("eval/fewshot_holdout/accuracy_closed",), (ICL_COLOR,)),
        (("eval/no_support_zipfian/accuracy",), (IWL_COLOR,)),
        (("train/loss",), (LOSS_COLOR,)),
    ],
)
def test_every_curve_that_was_measured_is_drawn(tmp_path, drop, absent):
    records = [{k: v for k, v in record.items() if k not in drop} for record in RECORDS]
    path = tmp_path / "figures" / "curves.png"
    style.save(learning_curves_figure(records, "title", 0.5), path)
    for color in (ICL_COLOR, IWL_COLOR, LOSS_COLOR):
        assert (pixels(path, color) > 50) == (color not in absent), color


def test_a_run_without_any_line_still_gets_a_figure(tmp_path):
    style.save(learning_curves_figure([], "title", None), tmp_path / "empty.png")
    assert (tmp_path / "empty.png").stat().st_size > 1000
