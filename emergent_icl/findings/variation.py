"""Finding 4: the more the examples of a class vary, the more ICL and the less IWL.

Values are ranks: identical drawings, pixel noise, drawings by 20 people.
"""

from emergent_icl.findings import scale
from emergent_icl.sweeps.claims import Difference, Trend
from emergent_icl.sweeps.spec import Condition, Sweep


def _single(name: str, noise_scale: float, rank: int) -> Condition:
    overrides = {"data.drawings": "single", "data.noise_scale": noise_scale}
    return Condition(name, overrides, rank)


def get_sweep(preset: str = "laptop") -> Sweep:
    """Presets: see scale.py."""
    more_than = 0.2 if preset == "paper" else 0.1
    return scale.sweep(
        preset,
        "The more the examples of a class vary, the more is learned in context and the less "
        "in weights.",
        (
            Difference("icl", high="all", low="single", more_than=more_than),
            Trend("icl", rising=True),
            Trend("iwl", rising=False),
        ),
        name="variation",
        title="Variation within a class",
        axis="within-class variation",
        steps=10_000,
        conditions=(
            _single("single", 0.0, 0),
            _single("noise=0.1", 0.1, 1),
            _single("noise=0.5", 0.5, 2),
            Condition("all", {"data.drawings": "all"}, 3),
        ),
        notes="Runs of 6,000 steps without noise and with both noise scales (seed 1000) showed "
        "that 10,000 steps are enough.",
    )
