"""Procedural characters that resemble handwriting: no download needed.

python -m experiments.train --config=experiments/configs/glyphs.py:demo --workdir=runs/demo

demo: 28 x 28 images, MLP encoder, 2 layers; 1,600 classes and 100 held out, p_bursty 1.
    4,000 steps in about a minute on 2 CPU cores: ICL 0.96, IWL 0.01 (ICL: closed accuracy on
    fewshot_holdout, chance 0.5; IWL: accuracy on no_support_zipfian).

Any number of classes is possible, for example --config.data.glyphs.num_classes=100000. Drawing a
class of 20 exemplars at 28 x 28 takes 1.8 ms on one core (3 minutes for 100,000), once; later runs
read the cache. A class takes 15.7 KB (1.46 GiB for 100,000) on the host and on every device (on
CPU both share the same memory).
"""

from ml_collections import ConfigDict

from emergent_icl.presets import base, omniglot


def get_config(preset: str = "demo") -> ConfigDict:
    """Presets: demo."""
    base.check_preset(preset, ("demo",))
    config = omniglot.get_config("small").unlock()
    config.name = "glyphs demo: fully bursty sequences"
    config.data.update(source="glyphs", inverted=False)
    config.data.split.update(num_rare=1600, num_holdout=100)
    config.data.sequences.p_bursty = 1.0
    config.training.num_steps = 4000
    config.evaluation.every = 250
    return config.lock()
