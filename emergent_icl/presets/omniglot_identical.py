"""Omniglot with a single drawing per class: no variation within classes.

    python -m experiments.train --config=experiments/configs/omniglot_identical.py:small \
        --workdir=runs/identical

The paper's four levels of variation (section 3.1): this config; with
--config.data.noise_scale=0.1; with 0.5; and omniglot.py, which shows all 20 drawings.

small: 28 x 28 images, MLP encoder, 2 layers.
    The model learns in weights: after 1,000 steps IWL 1.00, ICL 0.50 (chance); the same
    after 10,000 steps, 3 minutes on 2 CPU cores.
paper: 105 x 105 images, ResNet, 12 layers, 500,000 steps: for an accelerator.
"""

from ml_collections import ConfigDict

from emergent_icl.presets import omniglot


def get_config(preset: str = "small") -> ConfigDict:
    """Presets: paper, small."""
    config = omniglot.get_config(preset).unlock()
    config.name += ", a single drawing of each class"
    config.data.drawings = "single"
    return config.lock()
