"""Beyond the paper: ICL fades with training (Singh et al. 2023), less so with weight decay."""

from typing import Any

from emergent_icl.findings import scale
from emergent_icl.sweeps.claims import Difference, Fades
from emergent_icl.sweeps.spec import Sweep, over

_NOTES = (
    "The weight decay of 0.1 was chosen from runs of 40,000 steps with decays 0, 0.01, and 0.1 "
    "(seed 1000): ICL peaked at 8,000 to 10,000 steps at 0.83, 0.81, and 0.88, and ended at 0.68, "
    "0.71, and 0.82. On one split, seeds 0 to 4 without decay ended 0.038 [0.005, 0.071] below "
    "their peak at 30,000 steps and, extended beyond the verdict (not in the records), 0.072 "
    "[0.027, 0.117] at 40,500."
)


def get_sweep(preset: str = "laptop") -> Sweep:
    """Presets: see scale.py."""
    is_laptop = preset == "laptop"
    own: dict[str, Any] = {"seeds": tuple(range(100, 112))} if is_laptop else {}
    return scale.sweep(
        preset,
        "Trained for long enough, in-context learning fades; weight decay keeps more of it.",
        (
            Fades("icl", "decay=0", by=0.05),
            Difference("icl", high="decay=0.1", low="decay=0", more_than=0.05),
        ),
        name="transience",
        title="Long training",
        axis="weight decay",
        steps=80_000 if is_laptop else 30_000,
        options={"training.num_steps": 1_500_000} if preset == "paper" else {},
        conditions=over("training.optimizer.weight_decay", (0.0, 0.1), "decay"),
        plot="curves",
        **own,
        notes=_NOTES + (" So these runs are longer, with 12 new seeds." if is_laptop else ""),
    )
