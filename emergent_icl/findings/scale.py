"""What the paper's sweeps start from, at two scales.

laptop: 28 x 28 images, MLP encoder, 2 layers: minutes a run on a CPU core.
paper: 105 x 105 images, ResNet, 12 layers, 500,000 steps: for accelerators.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from emergent_icl.config.configs import with_options
from emergent_icl.findings import PRESETS
from emergent_icl.presets import base, omniglot, omniglot_augmented

# Points of a curve.
EVALUATIONS = 20


def start(
    preset: str, laptop_steps: int, paper_steps: int = 0, *, augmented: bool = False
) -> ConfigDict:
    """The config of a scale, with as many evaluations of each run as figures need.

    Runs at the paper's scale have its own number of steps where 0 is asked for. With `augmented`
    flips and quarter turns are classes of their own. Raises ValueError for an unknown preset.
    """
    base.check_preset(preset, PRESETS)
    source = omniglot_augmented if augmented else omniglot
    config = source.get_config("small" if preset == "laptop" else "paper")
    steps = laptop_steps if preset == "laptop" else paper_steps or config.training.num_steps
    often = dict.fromkeys(("evaluation.every", "checkpoints.every"), steps // EVALUATIONS)
    return with_options(config, {"training.num_steps": steps, **often, "checkpoints.keep": 1})
