"""Omniglot with flips and 90-degree rotations as separate classes.

    python -m experiments.train --config=experiments/configs/omniglot_augmented.py:small \
        --workdir=runs/augmented

12,700 rare and 100 common classes (paper section 3.2); the 8 variants of a character stay on one
side of the split. The paper's Zipf sweep starts from this config:
--config.data.sequences.zipf_exponent=1.0

small: 28 x 28 images, MLP encoder, 2 layers; 10,000 steps. 184 classes are held out, the variants
    of the 23 remaining characters. With 80 held out, of 10 characters, ICL was 0.90 after 5,000
    steps, 0.95 with IWL 0.01 after 10,000 (4 minutes on 2 CPU cores), and 0.96 with IWL 0.02 after
    20,000. (omniglot.py:small, 1,523 classes: ICL 0.73, IWL 0.36.)
paper: 105 x 105 images, ResNet, 12 layers, 500,000 steps: for an accelerator. 80 classes are held
    out, as in the reference implementation.
"""

from ml_collections import ConfigDict

from emergent_icl.presets import omniglot


def get_config(preset: str = "small") -> ConfigDict:
    """Presets: paper, small."""
    config = omniglot.get_config(preset).unlock()
    config.name += ", augmented"
    config.data.augment = True
    num_holdout = 184 if preset == "small" else 80
    config.data.split.update(num_rare=12_700, num_common=100, num_holdout=num_holdout)
    in_weights = ("no_support_zipfian", "no_support_common", "no_support_rare")
    config.evaluation.modes = ("fewshot_holdout", *in_weights)
    return config.lock()
