"""Finding 6: a transformer learns in context; recurrent models do not, however they are tuned.

A search first chooses the learning rate and warm-up of each model; the chosen setting is then
judged on seeds not used in the search. All sequences are bursty, which is easiest for ICL.

laptop: settings are chosen by training loss. Training continues until the loss of the recurrent
    models is below the loss at which the transformer begins to learn in context.
paper, one-split: settings are chosen by ICL. paper: each model with 2 and with 12 layers.
    one-split: more classes and fewer steps.
"""

from emergent_icl.findings import scale
from emergent_icl.sweeps.claims import Within
from emergent_icl.sweeps.spec import Condition, Search, Sweep

MODELS = ("transformer", "lstm", "rnn")
RATE, WARMUP = "training.optimizer.learning_rate", "training.optimizer.warmup_steps"
DEPTHS = (2, 12)  # at the paper's scale
_TRAINED = (Within("loss", "lstm", high=0.7), Within("loss", "rnn", high=0.7))
_LEARNS = "A transformer learns in context; LSTM and vanilla RNN of the same depth stay "
_AT_A_LOSS = "near chance, at a training loss at which the transformer learns in context."
_AT_BEST = "at chance with the best setting that a search finds for them."
NOTES = {
    "laptop": "The transformer (learning rate 0.0017, seeds 1000 and 1001) began to learn in "
    "context between 1,600 and 2,000 steps: ICL was 0.52 to 0.54 at a loss of 1.8 to 2.0, and 0.64 "
    "to 0.82 at 0.62 to 0.75. The LSTM (learning rate 0.002, the same seeds) had a loss of 0.72 "
    "after 9,000 steps and 0.24 after 18,000, with an ICL of 0.50 to 0.54 at every evaluation. The "
    "bound and the number of steps, ten times what the transformer needed, are based on this.",
    "one-split": "After 8,000 steps the recurrent models are far from the end of training: from "
    "9.46, the loss of guessing, the loss fell to 7.5 (LSTM) and 8.0 to 8.4 (RNN), compared with "
    "0.83 to 0.90 for the transformer. The runs show only that recurrent models do not learn in "
    "context in the time that a transformer needs. All draws of their searches are at chance, so "
    "which one is best is noise. With 1,523 classes the claim was undecided (seeds 0 to 4): ICL "
    "was 0.787 [0.691, 0.883] for the transformer, 0.522 for the LSTM, and 0.502 for the RNN. "
    "Draws of the search are shorter: 6,000 steps.",
}


def get_sweep(preset: str = "laptop") -> Sweep:
    """Presets: see scale.py."""
    is_laptop, is_one_split = preset == "laptop", preset == "one-split"
    conditions = tuple(Condition(name, {"model.sequence_model": name}) for name in MODELS)
    if preset == "paper":
        search = Search({RATE: (1e-5, 1e-1), WARMUP: (1, 10_000)}, draws=15)
        conditions = tuple(
            Condition(f"{one.name}-{depth}", {**one.overrides, "model.num_layers": depth})
            for one in conditions
            for depth in DEPTHS
        )
    else:
        space, by = {RATE: (1e-4, 3e-2), WARMUP: (10, 2000)}, "loss" if is_laptop else "icl"
        search = Search(space, num_steps=6_000, choose_by=by)
    transformers = [one.name for one in conditions if one.name.startswith("transformer")]
    recurrent = [one.name for one in conditions if one.name not in transformers]
    claimed = (
        *(Within("icl", name, low=0.75) for name in transformers),
        *(Within("icl", name, low=0.45, high=0.55) for name in recurrent),
    )
    return scale.sweep(
        preset,
        _LEARNS + (_AT_A_LOSS if is_laptop else _AT_BEST),
        (*claimed, *_TRAINED) if is_laptop else claimed,
        name="architecture",
        title="Transformer or recurrent",
        axis="sequence model",
        steps=8_000 if is_one_split else 20_000,
        augmented=is_one_split,
        options={"data.sequences.p_bursty": 1.0},
        conditions=conditions,
        search=search,
        measures=("icl", "iwl", "loss") if is_laptop else ("icl", "iwl"),
        notes=NOTES.get(preset, ""),
    )
