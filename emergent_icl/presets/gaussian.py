"""Clusters of vectors after Reddy 2023 (arXiv 2312.03002): the smallest tasks in which ICL emerges.

    python -m experiments.train --config=experiments/configs/gaussian.py:tiny --workdir=runs/tiny
    python -m experiments.train --config=experiments/configs/gaussian.py:reddy \
        --workdir=runs/gaussian

reddy: K = 1,024 classes in R^64, within-class variation epsilon = 0.1, L = 32 shared labels, 8
    pairs per context, 4 of them of the query's class (Reddy's B = 4, p_B = 1), two attention-only
    layers with one head, and an MLP classifier with 3 hidden layers. 6,000 steps take about 75
    seconds on 2 CPU cores. ICL (chance 0.50) emerges abruptly; IWL (chance 0.03) precedes it and is
    transient. `flip` shows the transition: the model first predicts the class's own label, then
    follows the context.

    step                                  1,000  2,000  2,500  3,000  4,000  6,000
    ICL, fewshot_holdout                   0.51   0.54   0.60   0.82   0.99   1.00
    IWL, no_support_zipfian                0.09   0.15   0.22   0.20   0.12   0.05
    flip: follows the context              0.26   0.17   0.21   0.54   0.95   0.99
    flip: predicts the class's own label   0.77   0.85   0.80   0.46   0.07   0.04

tiny: ICL and IWL in seconds: D = 32, 8 shared labels, 4 pairs per context (two classes, twice
    each), two attention-only layers of width 32 with one head, and a small MLP encoder. 3,000 steps
    take 17 s of CPU time including compilation, or 11 s with a warm compilation cache. By default
    the model learns in context; one or two options make it learn in weights:

    step (means of 3 seeds)                         500  1,000  1,500  2,000  3,000
    8,192 classes, all bursty        ICL           0.51   0.62   0.86   0.90   0.98
                                     IWL           0.12   0.12   0.12   0.12   0.12
    data.split.num_rare=128          ICL           0.50   0.51   0.51   0.51   0.51
                                     IWL           1.00   1.00   1.00   1.00   1.00
    data.split.num_rare=512 and      ICL           0.49   0.50   0.50   0.51   0.50
    data.sequences.p_bursty=0        IWL           0.98   1.00   1.00   0.98   1.00

    Chance is 0.50 for ICL (two classes) and 0.125 for IWL (8 labels).
"""

from ml_collections import ConfigDict

from emergent_icl.presets import base


def get_config(preset: str = "reddy") -> ConfigDict:
    """Presets: reddy, tiny."""
    base.check_preset(preset, ("reddy", "tiny"))
    config = base.get_config().unlock()
    config.name = "Gaussian classes, after Reddy 2023"
    config.data.update(source="gaussian", noise_scale=0.1)
    config.data.split.update(num_common=0, num_holdout=100)
    config.data.sequences.update(labeling="shared", p_bursty=1.0)
    config.model.update(encoder="linear", num_layers=2, num_heads=1, attention_only=True)
    (_reddy if preset == "reddy" else _tiny)(config)
    return config.lock()


def _reddy(config: ConfigDict) -> None:
    config.data.gaussian.update(num_classes=1124, dimension=64)
    config.data.split.update(num_rare=1024)
    config.data.sequences.update(num_shared_labels=32, shots=4, ways=2)
    config.model.head_hidden_sizes = (128, 128, 128)
    base.train_briefly(config, num_steps=6_000, evaluate_every=250)
    config.training.batch_size = 128
    config.evaluation.modes = ("fewshot_holdout", "no_support_zipfian", "flip")


def _tiny(config: ConfigDict) -> None:
    config.name = "Gaussian classes, tiny"
    config.data.gaussian.update(num_classes=8292, dimension=32)
    config.data.split.update(num_rare=8192)
    config.data.sequences.update(num_shared_labels=8, seq_len=5, shots=2, ways=2)
    config.model.update(encoder="mlp", embedding_size=32)
    config.model.mlp.hidden_sizes = (128,)
    base.train_briefly(config, num_steps=3_000, evaluate_every=100)
    config.training.optimizer.update(learning_rate=2e-3, warmup_steps=100)
    # Steps are dominated by call overhead, and TensorFlow takes seconds to import.
    config.training.update(batch_size=64, steps_per_call=50, log_every=100)
    config.data.feeder = "python"
    config.checkpoints.every = 3_000
    config.evaluation.update(num_sequences=1000, batch_size=1000)
    config.evaluation.modes = ("fewshot_holdout", "no_support_zipfian")
