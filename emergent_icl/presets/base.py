"""The paper's setting, as far as one config can represent it; the base of all presets.

All options are declared in emergent_icl/config/options.py.
"""

from ml_collections import ConfigDict

from emergent_icl.config.configs import default_config


def get_config() -> ConfigDict:
    """Every option at its default; locked."""
    return default_config()


def check_preset(preset: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError for unknown presets."""
    if preset not in allowed:
        raise ValueError(f"preset '{preset}' is unknown (allowed: {', '.join(allowed)})")


def train_briefly(config: ConfigDict, num_steps: int, evaluate_every: int) -> None:
    """Sets training of small models: a higher, constant learning rate and a short warm-up."""
    config.training.num_steps = num_steps
    config.training.optimizer.update(learning_rate=1e-3, schedule="constant", warmup_steps=500)
    config.evaluation.every = evaluate_every
