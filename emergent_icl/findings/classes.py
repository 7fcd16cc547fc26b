"""Finding 2: the more (and therefore rarer) classes, the more ICL and the less IWL.

The same 23 characters are held out in every condition; the 12,800 classes are the flips and
90-degree rotations of 1,600 characters, with the 184 variants of those 23 held out. (paper: ten
characters, those of the reference implementation, and their 80 variants; one-split: 20, and the 80
variants of 10.)
"""

from emergent_icl.findings import scale
from emergent_icl.sweeps.claims import Difference, Trend
from emergent_icl.sweeps.spec import Condition, Sweep


def _condition(num_classes: int, num_holdout: int, augment: bool) -> Condition:
    overrides = {
        "data.split.num_rare": num_classes,
        "data.split.num_common": 0,
        "data.split.num_holdout": num_holdout,
        "data.augment": augment,
    }
    return Condition(f"classes={num_classes}", overrides, num_classes)


def get_sweep(preset: str = "laptop") -> Sweep:
    """Presets: see scale.py."""
    more_than = 0.3 if preset == "paper" else 0.2
    held_out, variants = {"one-split": (20, 80), "paper": (10, 80)}.get(preset, (23, 184))
    return scale.sweep(
        preset,
        "The more classes there are, the more is learned in context and the less in weights.",
        (
            Difference("icl", high="classes=12800", low="classes=100", more_than=more_than),
            Trend("icl", rising=True),
            Trend("iwl", rising=False),
        ),
        name="classes",
        title="Number of classes",
        axis="training classes",
        steps=10_000,
        conditions=(
            *(_condition(count, held_out, augment=False) for count in (100, 400, 1600)),
            _condition(12_800, variants, augment=True),
        ),
    )
