"""What the paper's sweeps start from, at two scales, and how their replicates differ.

laptop: 28 x 28 images, MLP encoder, 2 layers: minutes a run on a CPU core. Each replicate has its
    own held-out characters and evaluation sequences.
paper: 105 x 105 images, ResNet, 12 layers, 500,000 steps: for accelerators. One split, as in the
    paper.
one-split: the laptop's scale, on one split: the sweeps of version 0.1.0, as they were run.
"""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from emergent_icl.config.configs import with_options
from emergent_icl.findings import PRESETS
from emergent_icl.presets import base, omniglot, omniglot_augmented
from emergent_icl.sweeps.checks import Rule

# Points of a curve.
EVALUATIONS = 20
# What the committed runs were trained with, where a default has changed since.
AS_RECORDED = {
    "data.sequences.draws": 1,
    "evaluation.shots": 4,
    "evaluation.ways": 2,
    "model.own_labels": False,
}
_IN_HISTORY = "written before the runs in the repository's history; no registration"
# Fresh seeds: those of version 0.1.0 had a part in choosing conditions.
_REPLICATES: dict[str, dict[str, Any]] = {
    "laptop": {"seeds": tuple(range(100, 108)), "split": "replicate"},
    "paper": {"seeds": tuple(range(5)), "split": "fixed"},
    "one-split": {"seeds": tuple(range(5)), "split": "fixed", "unregistered": _IN_HISTORY},
}
# How claims are read; those of version 0.1.0 keep the rule that they were written with.
RULES: dict[str, Rule] = {"laptop": "limits", "paper": "limits", "one-split": "point"}


def start(
    preset: str, laptop_steps: int, paper_steps: int = 0, *, augmented: bool = False
) -> ConfigDict:
    """The config of a scale, with as many evaluations of each run as figures need.

    Runs at the paper's scale have its own number of steps where 0 is asked for. With `augmented`
    flips and quarter turns are classes of their own. Raises ValueError for an unknown preset.
    """
    base.check_preset(preset, PRESETS)
    is_small = preset != "paper"
    source = omniglot_augmented if augmented else omniglot
    config = source.get_config("small" if is_small else "paper")
    if preset == "one-split" and augmented:
        config = with_options(config, {"data.split.num_holdout": 80})
    steps = laptop_steps if is_small else paper_steps or config.training.num_steps
    often = dict.fromkeys(("evaluation.every", "checkpoints.every"), steps // EVALUATIONS)
    recorded = AS_RECORDED if preset == "one-split" else {}
    whole = {"training.num_steps": steps, **often, "checkpoints.keep": 1}
    return with_options(config, whole | recorded)


def replicates(preset: str) -> dict[str, Any]:
    """Fields of a Sweep: `seeds`, `split` and others of a preset."""
    return dict(_REPLICATES[preset])
