"""Small configs that train in seconds, and where the real data are."""

import os
from pathlib import Path

import jax
import pytest
import tiny

# Most of the suite's time is compilation, of programs that run for an instant. Fault tests, whose
# number of devices is set, compile as users do.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

LONGEST = ("test_fuzzed_configs.py", "test_slurm.py", "test_soak.py", "test_processes.py")


def pytest_collection_modifyitems(items):
    """Of the fault tests, what takes longest is begun first: so the cores end together."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory, worker_id):
    """Tests, and the processes that they start, neither read nor write the user's caches.

    What one of them compiled the others need not compile again.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    compiled = str(shared / "compiled")
    settings = {
        "XDG_CACHE_HOME": str(shared / "cache"),
        "JAX_COMPILATION_CACHE_DIR": compiled,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    jax.config.update("jax_compilation_cache_dir", compiled)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture
def config():
    """The tiny config of integers, unlocked."""
    return tiny.get_config("symbols").unlock()


@pytest.fixture
def image_config():
    """The tiny config of noisy images, unlocked."""
    return tiny.get_config("images").unlock()


def has_omniglot():
    folder = os.environ.get("TFDS_DATA_DIR")
    return bool(folder) and (Path(folder) / "omniglot" / "3.0.0").is_dir()


# Real Omniglot is no part of the repository: where it is missing, the suite must still pass.
needs_omniglot = pytest.mark.skipif(not has_omniglot(), reason="no Omniglot in TFDS_DATA_DIR")
