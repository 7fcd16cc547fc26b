"""Small configs that train in seconds, and where the real data are."""

import os
from pathlib import Path

import pytest

from experiments.configs import base

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory):
    """Tests neither read nor write the user's cache."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture
def config():
    """Integers, one transformer layer: compiles in about a second. Unlocked."""
    config = base.get_config().unlock()
    config.name = "tiny"
    config.data.source = "symbolic"
    config.data.feeder = "python"
    config.data.symbolic.num_classes = 40
    config.data.split.num_rare = 28
    config.data.split.num_common = 4
    config.data.split.num_holdout = 8
    config.model.encoder = "embedding"
    config.model.num_symbols = 40
    config.model.embedding_size = 16
    config.model.num_layers = 1
    config.model.num_heads = 2
    config.model.rnn_size = 16
    config.training.num_steps = 40
    config.training.batch_size = 8
    config.training.log_every = 10
    config.training.optimizer.warmup_steps = 10
    config.training.optimizer.learning_rate = 1e-2
    config.evaluation.every = 20
    config.evaluation.num_sequences = 50
    config.evaluation.batch_size = 16
    config.checkpoints.every = 20
    return config


@pytest.fixture
def image_config(config):
    """The same on 12 x 12 glyphs with an MLP and pixel noise."""
    config.name = "tiny images"
    config.data.source = "glyphs"
    config.data.image_size = 12
    config.data.noise_scale = 0.1
    config.data.glyphs.num_classes = 40
    config.data.glyphs.num_exemplars = 5
    config.model.encoder = "mlp"
    config.model.mlp.hidden_sizes = (16,)
    return config


def has_omniglot():
    folder = os.environ.get("TFDS_DATA_DIR")
    return bool(folder) and (Path(folder) / "omniglot" / "3.0.0").is_dir()


# Real Omniglot is not part of the repository.
needs_omniglot = pytest.mark.skipif(not has_omniglot(), reason="no Omniglot in TFDS_DATA_DIR")
