"""Beyond the paper: ICL fades with training (Singh et al. 2023), less so with weight decay."""

from __future__ import annotations

from emergent_icl.findings import scale
from emergent_icl.sweeps.claims import Difference, Fades
from emergent_icl.sweeps.spec import Sweep, over

_NOTES = (
    "Runs of 40,000 steps with decays 0, .01 and .1 (seed 1000) chose a decay of .1: ICL "
    "was highest at 8,000 to 10,000 steps, .83, .81 and .88; at the end .68, .71 and .82. "
    "On one split, seeds 0 to 4 without decay ended .038 [.005, .071] below their height at 30,000 "
    "steps and, prolonged beyond the verdict (not in the records), .072 [.027, .117] at 40,500."
)


def get_sweep(preset: str = "laptop") -> Sweep:
    """Presets: see scale.py."""
    is_laptop = preset == "laptop"
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
        **({"seeds": tuple(range(100, 112))} if is_laptop else {}),
        notes=_NOTES + (" So these are longer, on 12 fresh seeds." if is_laptop else ""),
    )
