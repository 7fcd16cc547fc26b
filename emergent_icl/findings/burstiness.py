"""Finding 1: the more sequences are bursty, the more ICL and the less IWL."""

from emergent_icl.findings import scale
from emergent_icl.sweeps.claims import Difference, Trend
from emergent_icl.sweeps.spec import Sweep, over


def get_sweep(preset: str = "laptop") -> Sweep:
    """Presets: see scale.py."""
    more_than = 0.3 if preset == "paper" else 0.2
    return scale.sweep(
        preset,
        "The more training sequences are bursty, the more is learned in context and the less "
        "in weights.",
        (
            Difference("icl", high="p=1", low="p=0", more_than=more_than),
            Trend("icl", rising=True),
            Trend("iwl", rising=False),
        ),
        name="burstiness",
        title="Burstiness",
        axis="fraction of sequences that are bursty",
        steps=10_000,
        conditions=over("data.sequences.p_bursty", (0.0, 0.5, 0.9, 1.0), "p"),
    )
