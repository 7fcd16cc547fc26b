"""Finding 3: the more labels a class has ("dynamic meanings"), the more ICL."""

from emergent_icl.findings import scale
from emergent_icl.sweeps.claims import Difference, Trend
from emergent_icl.sweeps.spec import Sweep, over


def get_sweep(preset: str = "laptop") -> Sweep:
    """Presets: see scale.py."""
    more_than = 0.1 if preset == "paper" else 0.05
    return scale.sweep(
        preset,
        "The more labels a class has, the more is learned in context.",
        (
            Difference("icl", high="labels=10", low="labels=1", more_than=more_than),
            Trend("icl", rising=True),
        ),
        name="multiplicity",
        title="Label multiplicity",
        axis="labels per class",
        steps=10_000,
        conditions=over("data.sequences.label_multiplicity", (1, 2, 5, 10), "labels"),
        notes="The effect is between one label and two; more labels add nothing. The number of "
        "steps was chosen from runs of 8,000 steps with 2, 5, and 10 labels (seed 1000).",
    )
