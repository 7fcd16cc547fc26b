"""A map of classes by burstiness, on the smallest preset: not a finding of the paper, no claim.

    python -m experiments.sweep --sweep=map --workdir=runs/map

Few classes or few bursts: in-weights learning. Many classes in bursts: in-context learning. The 50
runs take 4 minutes of CPU time.
"""

from emergent_icl.config.configs import with_options
from emergent_icl.presets import gaussian
from emergent_icl.sweeps.spec import Sweep, grid, over


def get_sweep() -> Sweep:
    """5 x 5 conditions; one program trains all conditions of a seed."""
    often = {"evaluation.every": 1_000, "checkpoints.every": 3_000, "checkpoints.keep": 1}
    return Sweep(
        name="map",
        title="Classes by burstiness",
        axis=("training classes", "fraction of bursty sequences"),
        base=with_options(gaussian.get_config("tiny"), often),
        conditions=grid(
            over("data.split.num_rare", (32, 128, 512, 2048, 8192), "classes"),
            over("data.sequences.p_bursty", (0.0, 0.25, 0.5, 0.75, 1.0), "p"),
        ),
        seeds=(0, 1),
        together=True,
        notes="Gaussian classes with 8 shared labels; 3,000 steps.",
    )
