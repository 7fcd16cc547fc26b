"""The paper's sweeps at three scales, and how their replicates differ.

laptop: 28 x 28 images, MLP encoder, 2 layers: minutes per run on a CPU core. Each replicate has its
    own held-out characters and evaluation sequences.
paper: 105 x 105 images, ResNet, 12 layers, 500,000 steps, 10,000 evaluation sequences: for
    accelerators. One split, as in the paper. Where differences of means are claimed, the bounds are
    wider than those of the laptop's scale: none is based on a run at this scale.
one-split: the laptop's scale on one split: the sweeps of version 0.1.0, as they were run.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from emergent_icl.config.configs import with_options
from emergent_icl.findings import PRESETS
from emergent_icl.presets import base, omniglot, omniglot_augmented
from emergent_icl.sweeps.claims import Claim
from emergent_icl.sweeps.spec import Sweep
from emergent_icl.sweeps.verdicts import Check

# Points per curve.
EVALUATIONS = 20
# Per evaluation and mode, as in the reference implementation.
PAPER_SEQUENCES = 10_000
# Options of the committed runs whose defaults have changed since.
AS_RECORDED = {
    "data.sequences.draws": 1,
    "evaluation.shots": 4,
    "evaluation.ways": 2,
    "model.own_labels": False,
    "model.resnet.stem": "whole",
    "training.arithmetic": 1,
}
# New seeds: those of version 0.1.0 influenced the choice of conditions.
_FIELDS: dict[str, dict[str, Any]] = {
    "laptop": {"seeds": tuple(range(100, 108)), "split": "replicate"},
    "paper": {"seeds": tuple(range(5)), "split": "fixed"},
    "one-split": {"seeds": tuple(range(5)), "split": "fixed"},
}


def sweep(
    preset: str,
    claim: str,
    checks: tuple[Check, ...],
    *,
    steps: int,
    augmented: bool = False,
    options: Mapping[str, Any] = MappingProxyType({}),
    **fields: Any,
) -> Sweep:
    """A sweep at a preset's scale, with each run evaluated as often as figures need.

    Runs at the paper's scale have the paper's number of steps unless `options` override it. With
    `augmented`, flips and 90-degree rotations are separate classes. `fields` are those of Sweep.
    Raises ValueError for an unknown preset.
    """
    base.check_preset(preset, PRESETS)
    source = omniglot_augmented if augmented else omniglot
    config = source.get_config("paper" if preset == "paper" else "small")
    own: dict[str, Any] = {"training.num_steps": steps}
    if preset == "paper":
        own = {"evaluation.num_sequences": PAPER_SEQUENCES}
    if preset == "one-split":
        own |= AS_RECORDED | ({"data.split.num_holdout": 80} if augmented else {})
    config = with_options(config, {**own, **options})
    often = config.training.num_steps // EVALUATIONS
    every = {"evaluation.every": often, "checkpoints.every": often, "checkpoints.keep": 1}
    return Sweep(
        base=with_options(config, every),
        # Claims of version 0.1.0 keep the rule under which they were written.
        claim=Claim(claim, checks, "point" if preset == "one-split" else "limits"),
        **{**_FIELDS[preset], **fields},
    )
