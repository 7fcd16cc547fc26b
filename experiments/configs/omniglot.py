"""Real Omniglot."""

from __future__ import annotations

from ml_collections import ConfigDict

from experiments.configs import base


def get_config(preset: str = "small") -> ConfigDict:
    """Presets: paper, small."""
    base.check_preset(preset, ("paper", "small"))
    config = base.get_config().unlock()
    if preset == "paper":
        config.name = "Omniglot, the paper's setting"
    else:
        config.name = "Omniglot, small"
        _make_small(config)
    return config.lock()


def _make_small(config: ConfigDict) -> None:
    """A model and images that two CPU cores train in minutes."""
    config.data.image_size = 28
    config.data.inverted = True
    config.data.split.num_rare = 1523
    config.data.split.num_common = 0
    config.data.split.num_holdout = 100
    config.model.encoder = "mlp"
    config.model.num_layers = 2
    config.training.num_steps = 10_000
    config.training.optimizer.learning_rate = 1e-3
    config.training.optimizer.schedule = "constant"
    config.training.optimizer.warmup_steps = 500
    config.evaluation.every = 500
