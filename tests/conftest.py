"""What every test finds: an environment that the tests set up themselves, and tiny configs."""

import os
import signal
import tempfile
from pathlib import Path

# Prefixes of variables in the caller's environment that would change what the tests do.
FOREIGN = (
    "SLURM", "SBATCH", "SRUN", "OMPI_", "PMI", "TPU_", "XLA_", "JAX_", "GLIBC_TUNABLES", "TF_",
    "MPL", "PYTHONWARNINGS", "PYTHONOPTIMIZE", "COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR",
    "TTY_", "EMERGENT_ICL",
)  # fmt: skip
# Of the process that collects the tests; those that it starts to run them inherit the variable.
CACHES = "TESTS_OWN_CACHES"


def set_up_environment():
    """Neither the user's caches, cluster and settings, nor the signals that a shell ignores.

    Before JAX and Matplotlib are imported: they read some of it once.
    """
    if CACHES not in os.environ:
        for name in [name for name in os.environ if name.startswith(FOREIGN)]:
            del os.environ[name]
        folder = tempfile.TemporaryDirectory(
            prefix="emergent-icl-tests-", ignore_cleanup_errors=True
        )
        os.environ[CACHES] = folder.name
        # Kept until the process ends.
        set_up_environment.folder = folder
    caches = os.environ[CACHES]
    os.environ |= {
        "XDG_CACHE_HOME": f"{caches}/cache",
        # What one of them compiled the others need not compile again.
        "JAX_COMPILATION_CACHE_DIR": f"{caches}/compiled",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_RAISE_PERSISTENT_CACHE_ERRORS": "false",
        # Most of the suite's time is compilation, of programs that run for an instant. Fault tests,
        # whose number of devices is set, compile as users do.
        "XLA_FLAGS": FAST_COMPILATION,
        # Nobody reads where an operation comes from.
        "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
        "MPLCONFIGDIR": f"{caches}/matplotlib",
        "IPYTHONDIR": f"{caches}/ipython",
        "JUPYTER_CONFIG_DIR": f"{caches}/jupyter/config",
        "JUPYTER_DATA_DIR": f"{caches}/jupyter/data",
        "JUPYTER_RUNTIME_DIR": f"{caches}/jupyter/runtime",
    }
    # nohup and shells in the background ignore them, and a process inherits that from whoever
    # starts it. A handler is not inherited: this process stays deaf, those that it starts hear.
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


# Of functions that run for an instant: code is not optimized, and not generated in the newest way,
# which takes three times as long.
FAST_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)
set_up_environment()

import gc  # noqa: E402

import haiku as hk  # noqa: E402
import pytest  # noqa: E402
import sharing  # noqa: E402
import tiny  # noqa: E402

# Tracing makes many objects and no garbage, and texts of modules that nobody reads. Together that
# was a seventh of the time of tests/models/test_query_alone.py.
gc.set_threshold(100_000, 50, 50)
hk.config.set(module_auto_repr=False)

LONGEST = ("test_fuzzed_configs.py", "test_slurm.py", "test_soak.py", "test_processes.py")


def pytest_collection_modifyitems(items):
    """Of the fault tests, what takes longest is begun first: so the cores end together."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="module")
def quick_runs():
    """Runs of this process share compiled programs, those of module fixtures included."""
    with pytest.MonkeyPatch.context() as patch:
        sharing.share(patch)
        yield


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
