"""Integer tokens: no images and no variation within a class, only the statistics of sequences.

python -m experiments.train --config=experiments/configs/symbolic.py --workdir=runs/symbolic

small: 1,600 classes and 100 held out, a 2-layer transformer on an embedding table.
    Holdout integers have untrained embeddings: random but distinct vectors.
    Without variation within a class, the model learns in weights: after 1,000 steps
    (15 seconds on 2 CPU cores) IWL 0.997, ICL 0.50; after 10,000 (2 minutes) IWL 1.00, ICL 0.49.
"""

from ml_collections import ConfigDict

from emergent_icl.presets import base


def get_config(preset: str = "small") -> ConfigDict:
    """Presets: small."""
    base.check_preset(preset, ("small",))
    config = base.get_config().unlock()
    config.name = "integer tokens"
    config.data.source = "symbolic"
    config.data.split.update(num_rare=1600, num_common=0, num_holdout=100)
    config.model.update(encoder="embedding", num_layers=2)
    base.train_briefly(config, num_steps=10_000, evaluate_every=500)
    return config.lock()
