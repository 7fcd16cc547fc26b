"""Omniglot, small or as in the paper.

    python -m experiments.train --config=experiments/configs/omniglot.py:small --workdir=runs/small

Presets, measured on 2 CPU cores (ICL: closed accuracy on fewshot_holdout, chance 0.5; IWL:
accuracy on no_support_zipfian):

small: 28 x 28 images, MLP encoder, 2 layers; 1,523 classes and 100 held out.
    10,000 steps in about 2 minutes: ICL 0.73, IWL 0.36.
    --config.data.sequences.p_bursty=1.0 --config.training.num_steps=5000: ICL 0.92, IWL 0.03.
    --config.data.sequences.p_bursty=0.0 --config.training.num_steps=9000: ICL 0.51, IWL 0.86.
    With p_bursty=1.0, 5,000 steps, and --config.model.sequence_model=lstm: ICL 0.51, IWL 0.02;
    with rnn: ICL 0.51, IWL 0.36.

crossed: 'small', each of 6 class splits with each of 6 training seeds, together. For the command
    variance.

paper: 105 x 105 images, ResNet, 12 layers, 500,000 steps; 1,613 classes and 10 held out.
    0.4 to 0.8 seconds per step on 2 CPU cores and 30 to 40 seconds from launch to the first step:
    for a brief look (--config.training.num_steps=20) or an accelerator (not yet benchmarked).
    The paper's recurrent baselines: --config.model.sequence_model=lstm (or rnn).

paper28: the same on 28 x 28 inverted images (ink 1, background 0), 0.1 to 0.2 seconds per step.
    --config.data.sequences.p_bursty=1 with training.seed=1: ICL 0.82 at step 10,000, 0.86 at
    15,000, IWL 0.004; seed 2: 0.83 at 10,000; seed 0: 0.63 at 29,000 (docs/reproduction.md).
    With p_bursty=0.9 and seed 1: ICL 0.64, IWL 0.03 at step 17,000; with 0: 0.49, 0.11 at 9,000.
"""

import itertools

from ml_collections import ConfigDict

from emergent_icl.presets import base

# Of preset 'crossed'.
NUM_SPLITS, NUM_SEEDS = 6, 6


def get_config(preset: str = "small") -> ConfigDict:
    """Presets: crossed, paper, paper28, small."""
    base.check_preset(preset, ("crossed", "paper", "paper28", "small"))
    config = base.get_config().unlock()
    config.name = "Omniglot, the paper's setting"
    if preset != "paper":
        config.data.update(image_size=28, inverted=True)
    if preset == "paper28":
        config.name = "Omniglot, the paper's model on 28 x 28 images"
    if preset in ("small", "crossed"):
        config.name = "Omniglot, small"
        config.data.split.update(num_rare=1523, num_common=0, num_holdout=100)
        config.model.update(encoder="mlp", num_layers=2)
        base.train_briefly(config, num_steps=10_000, evaluate_every=500)
    if preset == "crossed":
        config.name = "Omniglot, small, splits x seeds"
        config.evaluation.every = config.checkpoints.every = 2_500
        config.training.replica_overrides = tuple(
            {"name": f"split={s},seed={t}", "data.split.seed": s, "training.seed": t}
            for s, t in itertools.product(range(NUM_SPLITS), range(NUM_SEEDS))
        )
    return config.lock()
