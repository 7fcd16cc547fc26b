"""The environment of every test, set up before JAX is imported, and tiny configs."""

import os
import signal
import tempfile
from importlib.metadata import version
from pathlib import Path

# Prefixes of environment variables that would affect the tests.
FOREIGN = (
    "SLURM", "SBATCH", "SRUN", "OMPI_", "PMI", "TPU_", "XLA_", "JAX_", "GLIBC_TUNABLES", "TF_",
    "MPL", "PYTHONWARNINGS", "PYTHONOPTIMIZE", "COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR",
    "TTY_", "EMERGENT_ICL",
)  # fmt: skip
# Set by the process that collects the tests, and inherited by those that run them.
CACHES = "TESTS_OWN_CACHES"


def set_up_environment():
    """Removes the user's caches, cluster, and settings, and restores signals that a shell ignores.

    Call it before JAX and Matplotlib are imported, which read some variables only once.
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
        # Tests share compiled programs.
        "JAX_COMPILATION_CACHE_DIR": f"{caches}/compiled",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_RAISE_PERSISTENT_CACHE_ERRORS": "false",
        # Another process may be writing the entry, or was killed while it did.
        "PYTHONWARNINGS": ",".join(
            f"ignore:Error {verb} persistent compilation cache" for verb in ("reading", "writing")
        ),
        # Most of the suite's time is compilation of programs that run only briefly. Fault tests
        # that set the number of devices compile as users do.
        "XLA_FLAGS": FAST_COMPILATION,
        # Locations of operations in the source are not needed.
        "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
        "MPLCONFIGDIR": f"{caches}/matplotlib",
        "IPYTHONDIR": f"{caches}/ipython",
        "JUPYTER_CONFIG_DIR": f"{caches}/jupyter/config",
        "JUPYTER_DATA_DIR": f"{caches}/jupyter/data",
        "JUPYTER_RUNTIME_DIR": f"{caches}/jupyter/runtime",
    }
    # nohup and background shells ignore these signals, and child processes inherit that. A handler
    # is not inherited: this process still ignores them, but its children do not.
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


# For functions that run only briefly: unoptimized code, which compiles three times as fast if it
# comes from the older generator. Later versions have only the new one, and end at an unknown flag.
FAST_COMPILATION = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
    FAST_COMPILATION += " --xla_cpu_use_fusion_emitters=false"
set_up_environment()

import gc  # noqa: E402

import haiku as hk  # noqa: E402
import hypothesis  # noqa: E402
import pytest  # noqa: E402
import sharing  # noqa: E402
import tiny  # noqa: E402

# Tracing creates many objects but no garbage, and descriptions of modules that are not needed.
# Together, these took a seventh of the time of tests/models/test_query_alone.py.
gc.set_threshold(100_000, 50, 50)
hk.config.set(module_auto_repr=False)

# On a busy machine, any example may take longer than Hypothesis's limit of 200 ms.
# CI judges a change by the same examples each time; other runs look for new ones.
hypothesis.settings.register_profile("busy machine", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("busy machine")

LONGEST = ("test_fuzzed_configs.py", "test_slurm.py", "test_soak.py", "test_processes.py")


def pytest_collection_modifyitems(items):
    """Starts the longest fault tests first, so that all cores finish at about the same time."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="module")
def quick_runs():
    """Runs in this process, including those of module fixtures, share compiled programs."""
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


# The repository does not contain Omniglot. Without it, the suite must still pass.
needs_omniglot = pytest.mark.skipif(not has_omniglot(), reason="no Omniglot in TFDS_DATA_DIR")
