"""Beyond the paper: ICL fades with training (Singh et al. 2023), less so with weight decay.

paper: the setting of Singh et al. (arXiv 2311.08360): 12,800 classes, and in every sequence two
    classes three times each; 1,500,000 steps, about 5e7 sequences.
"""

from typing import Any

from emergent_icl.findings import scale
from emergent_icl.sweeps.claims import Difference, Fades
from emergent_icl.sweeps.spec import Sweep, over

_NOTES = (
    "The weight decay of 0.1 was chosen from runs of 40,000 steps with decays 0, 0.01, and 0.1 "
    "(seed 1000): ICL peaked at 8,000 to 10,000 steps at 0.83, 0.81, and 0.88, and ended at 0.68, "
    "0.71, and 0.82. On one split, seeds 0 to 4 without decay ended 0.038 below their peak at "
    "30,000 steps and, extended beyond the verdict (not in the records), 0.072 at 40,500."
)

# The paper preset.
SINGH = {
    "data.augment": True,
    "data.split.num_rare": 12_800,
    "data.split.num_common": 0,
    "data.split.num_holdout": 80,
    "data.sequences.p_bursty": 1.0,
    "training.num_steps": 1_500_000,
}


def get_sweep(preset: str = "laptop") -> Sweep:
    """Presets: see scale.py."""
    is_laptop, is_paper = preset == "laptop", preset == "paper"
    own: dict[str, Any] = {"seeds": tuple(range(100, 112))} if is_laptop else {}
    by = 0.1 if is_paper else 0.05
    return scale.sweep(
        preset,
        "Trained for long enough, in-context learning fades; weight decay keeps more of it.",
        (
            Fades("icl", "decay=0", by=by),
            Difference("icl", high="decay=0.1", low="decay=0", more_than=by),
        ),
        name="transience",
        title="Long training",
        axis="weight decay",
        steps=80_000 if is_laptop else 30_000,
        options=SINGH if is_paper else {},
        conditions=over("training.optimizer.weight_decay", (0.0, 0.1), "decay"),
        plot="curves",
        **own,
        notes=_NOTES + (" So these runs are longer, with 12 new seeds." if is_laptop else ""),
    )
