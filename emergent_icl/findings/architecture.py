"""Finding 6: a transformer learns in context, recurrent models do not, however they are tuned.

Learning rate and warm-up of each model are searched first, by what is best for ICL; the chosen
setting is then judged on seeds that the search has not seen. All sequences are bursty and, on a
laptop, classes are many: where ICL is easiest.
"""

from __future__ import annotations

from emergent_icl.config.configs import with_options
from emergent_icl.findings import scale
from emergent_icl.sweeps.claims import Claim, Within
from emergent_icl.sweeps.spec import Condition, Search, Sweep

MODELS = ("transformer", "lstm", "rnn")
RATE, WARMUP = "training.optimizer.learning_rate", "training.optimizer.warmup_steps"
_SMALL = Search({RATE: (1e-4, 3e-2), WARMUP: (10, 2000)}, draws=8, num_steps=6_000)
SEARCHES = {
    "laptop": _SMALL,
    "paper": Search({RATE: (1e-5, 1e-1), WARMUP: (1, 10_000)}, draws=15),
    "one-split": _SMALL,
}


def get_sweep(preset: str = "laptop") -> Sweep:
    """Presets: see scale.py."""
    base = scale.start(preset, 8_000, augmented=preset != "paper")
    base = with_options(base, {"data.sequences.p_bursty": 1.0})
    return Sweep(
        name="architecture",
        title="Transformer or recurrent",
        axis="sequence model",
        base=base,
        **scale.replicates(preset),
        conditions=tuple(Condition(name, {"model.sequence_model": name}) for name in MODELS),
        search=SEARCHES[preset],
        claim=Claim(
            "A transformer learns in context; LSTM and vanilla RNN of the same depth stay at "
            "chance with the best setting that a search finds for them.",
            (
                Within("icl", "transformer", low=0.75),
                Within("icl", "lstm", low=0.45, high=0.55),
                Within("icl", "rnn", low=0.45, high=0.55),
            ),
        ),
        notes="After 8,000 steps the recurrent models are far from their end: from 9.46, which "
        "guessing gives, the loss of the LSTM fell to 7.5 and that of the RNN to 8.0 to 8.4, the "
        "transformer's to .83 to .90. What is shown is that they do not learn in context in the "
        "time in which a transformer does. All of their draws lie at chance: which of them is the "
        "best is noise. On 1,523 classes and in 8,000 steps the claim stayed undecided (seeds 0 to "
        "4): ICL of the transformer was .787 [.691, .883], of the LSTM .522, of the RNN .502. On "
        "12,800 classes (a rate of .0008, seeds 1000 to 1002) the transformer reached .907, .889 "
        "and .924 in as many steps, the LSTM (rates of .004 and .001, seeds 1000 and 1001) .49 to "
        ".50. Draws of the search are shorter: 6,000 steps.",
    )
