"""Clouds of vectors after Reddy 2023 (arXiv 2312.03002): the smallest place to watch ICL emerge.

    python -m experiments.train --config=experiments/configs/gaussian.py:reddy \
        --workdir=runs/gaussian

reddy: K = 1,024 classes in R^64, within-class variation epsilon = .1, L = 32 labels that the
    classes share, 8 pairs in a context, the query's class among them 4 times (his B = 4,
    p_B = 1), two attention-only layers with one head, an MLP classifier of 3 hidden layers.
    6,000 steps in about 75 seconds on 2 CPU cores. ICL (chance .50) appears abruptly, IWL
    (chance .03) comes before it and goes again; `flip` shows what changes: first the weights
    choose among the context's labels, then the context alone.

    step                                  1,000  2,000  2,500  3,000  4,000  6,000
    ICL, fewshot_holdout                    .51    .54    .60    .82    .99   1.00
    IWL, no_support_zipfian                 .09    .15    .22    .20    .12    .05
    flip: follows the context               .26    .17    .21    .54    .95    .99
    flip: predicts the class's own label    .77    .85    .80    .46    .07    .04
"""

from __future__ import annotations

from ml_collections import ConfigDict

from emergent_icl.presets import base


def get_config(preset: str = "reddy") -> ConfigDict:
    """Presets: reddy."""
    base.check_preset(preset, ("reddy",))
    config = base.get_config().unlock()
    config.name = "Gaussian classes, after Reddy 2023"
    config.data.update(source="gaussian", noise_scale=0.1)
    config.data.gaussian.update(num_classes=1124, dimension=64)
    config.data.split.update(num_rare=1024, num_common=0, num_holdout=100)
    config.data.sequences.update(labeling="shared", num_shared_labels=32)
    config.data.sequences.update(shots=4, ways=2, p_bursty=1.0)
    config.model.update(encoder="linear", num_layers=2, num_heads=1, attention_only=True)
    config.model.head_hidden_sizes = (128, 128, 128)
    base.train_briefly(config, num_steps=6_000, evaluate_every=250)
    config.training.batch_size = 128
    config.evaluation.modes = ("fewshot_holdout", "no_support_zipfian", "flip")
    return config.lock()
