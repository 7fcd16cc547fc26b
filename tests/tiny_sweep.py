"""A sweep that runs in seconds, as a user would write it. Presets: plain, searched, renamed."""

import dataclasses
import sys
from pathlib import Path

from emergent_icl.config.configs import with_options
from emergent_icl.sweeps.claims import Claim, Difference, Trend
from emergent_icl.sweeps.spec import Search, Sweep, over

sys.path.append(str(Path(__file__).parent))
import tiny


def seeded(sweeps, seeds):
    """The same sweeps with replicates of these seeds."""
    return [dataclasses.replace(sweep, seeds=tuple(seeds)) for sweep in sweeps]


def get_sweep(preset="plain"):
    if preset not in ("plain", "searched", "renamed"):
        raise ValueError(f"no preset {preset!r} (allowed: plain, searched, renamed)")
    # The model that compiles fastest: the sweep is tested here, not the model.
    quick = {"model.sequence_model": "rnn", "training.optimizer.name": "sgd"}
    space = {"training.optimizer.learning_rate": (1e-4, 1e-1)}
    return Sweep(
        name="renamed" if preset == "renamed" else "tiny",
        title="Tiny",
        axis="fraction of bursty sequences",
        base=with_options(tiny.get_config(), quick | {"checkpoints.keep": 1}),
        conditions=over("data.sequences.p_bursty", (0.0, 1.0), "p"),
        claim=Claim(
            "Bursts do something.",
            (Difference("icl", high="p=1", low="p=0"), Trend("iwl", rising=False)),
        ),
        search=Search(space, draws=2) if preset == "searched" else None,
        notes="Nobody tuned this.",
    )
