"""Starts every command: whatever must happen before its slow imports."""

import ast
import contextlib
import importlib
import logging
import os
import platform
import re
import sys
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from emergent_icl.cli.signals import STOP_SIGNALS, unchanged_signals
from emergent_icl.config.registry import unknown_name

if TYPE_CHECKING:
    import ml_collections

COMMANDS = (
    "train", "evaluate", "compare", "describe", "inspect_data", "inspect_run", "options", "sweep",
    "reproduce", "variance", "pack", "unpack", "prepare_data", "pages",
)  # fmt: skip
ON_DEVICES = ("train", "evaluate", "describe", "variance")
# A signal stops these at the next step.
STOPPABLE = ("train", "sweep", "reproduce")
# --help lists the flags of these packages, not absl's own.
OURS = ("emergent_icl", "experiments", "benchmarks")
SCRIPT = "emergent-icl"

STARTED = time.monotonic()
# See `is_program`.
IS_PROGRAM = False


def main() -> None:
    """The installed command."""
    if not sys.flags.safe_path:
        # As `python -m` does, but last; --extensions may name modules there.
        sys.path.append("")
    dispatch(SCRIPT)


def dispatch(program: str) -> None:
    """Runs the command that the first word after `program` names, with hyphens or underscores."""
    word = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    command, shown = word.replace("-", "_"), [name.replace("_", "-") for name in COMMANDS]
    if word in ("--help", "-h", "help"):
        print(f"usage: {program} COMMAND [--flag=value ...]\n")
        for name, file in zip(shown, COMMANDS, strict=True):
            path = Path(__file__).with_name(f"{file}.py")
            # Not imported, which would be slow.
            doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            print(f"  {name:{max(map(len, shown))}}  {doc.partition(chr(10))[0]}")
        print(f"\n{program} COMMAND --help lists the flags of a command.")
    elif word == "--version":
        print(f"{SCRIPT} {importlib.import_module('emergent_icl').__version__}")
    elif command in COMMANDS:
        launch(command, f"{program} {word}")
    else:
        wrong = unknown_name("command", word, shown)
        missing = f"a command is missing (allowed: {', '.join(sorted(shown))})"
        print(f"error: {wrong if word else missing}", file=sys.stderr)
        sys.exit(2)


def launch(command: str, typed: str = "") -> None:
    """Runs a command as a program; `typed` is what started it (default: its launcher)."""
    if command in ON_DEVICES:
        restart_with_huge_pages()
    with contextlib.nullcontext() if is_program() else unchanged_signals():
        STOP_SIGNALS.forget()
        if command in STOPPABLE:
            STOP_SIGNALS.install()
        run(f"emergent_icl.cli.{command}", typed or f"python -m experiments.{command}")


def run(module_name: str, typed: str) -> None:
    """Imports a module and runs its `main`; --help shows what was typed."""
    from absl import app, flags

    global IS_PROGRAM
    IS_PROGRAM = is_program()
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if not sys.flags.optimize:  # See models/__init__.py.
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    from emergent_icl.cli.flags import parse_flags

    doc = re.sub(r"python -m experiments\.\w+", typed, module.__doc__ or "")
    sys.modules["__main__"].__doc__ = doc
    sys.argv[0] = typed
    for definer, defined in flags.FLAGS.flags_by_module_dict().items():
        if definer.split(".")[0] in OURS:
            for flag in defined:  # --help lists key flags.
                flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(module.main, flags_parser=parse_flags)


# On CPU, page faults took half of a paper-size step: XLA allocates a gigabyte of temporary buffers
# at every step, in 4 KiB pages. With this tunable, set before start, glibc requests 2 MiB pages.
TUNABLE, FIRST_GLIBC = "glibc.malloc.hugetlb", (2, 35)
_RESTARTED = "EMERGENT_ICL_RESTARTED"
_SELF = Path("/proc/self/exe")
_MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_with_huge_pages() -> None:
    """Restarts this program with huge pages where that helps.

    Call it before slow imports. GLIBC_TUNABLES=glibc.malloc.hugetlb=0 prevents it.
    """
    mode = _MODE.read_text(encoding="utf-8") if _MODE.exists() else ""
    tunables = wanted_tunables(mode, platform.libc_ver(), os.environ)
    # A privileged interpreter ignores tunables and would restart forever.
    pid = str(os.getpid())
    if tunables is not None and is_program() and os.environ.get(_RESTARTED) != pid:
        environment = {**os.environ, _RESTARTED: pid, "GLIBC_TUNABLES": tunables}
        with contextlib.suppress(OSError):  # Otherwise it only runs more slowly.
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def wanted_tunables(mode: str, libc: tuple[str, str], environment: Mapping[str, str]) -> str | None:
    """GLIBC_TUNABLES for huge pages; None if they would not help.

    Args:
      mode: Linux's choice, in brackets: 'always [madvise] never'; only madvise must be requested.
      libc: name and version of the C library.
      environment: of this process.
    """
    name, version = libc
    present = environment.get("GLIBC_TUNABLES", "")
    if "[madvise]" not in mode or name != "glibc" or TUNABLE in present:
        return None
    is_new = tuple(map(int, version.split(".")[:2])) >= FIRST_GLIBC
    return f"{present}:{TUNABLE}=1".lstrip(":") if is_new else None


def is_program() -> bool:
    """Whether Python runs only this program, which may then restart or end the process.

    False in a notebook, a prompt, a debugger, or an embedding program.
    """
    is_prompt = "IPython" in sys.modules or hasattr(sys, "ps1") or bool(sys.flags.interactive)
    # A debugger that continued the program no longer traces, but is still a caller.
    if is_prompt or sys.gettrace() is not None or _callers() - {"__main__", "runpy", *OURS}:
        return False
    interpreter = sys.executable and os.path.realpath(sys.executable)
    return not _SELF.exists() or os.path.realpath(_SELF) == interpreter


def _callers() -> set[str]:
    """Top-level packages of the functions running in this thread."""
    names, frame = set(), sys._getframe()
    while frame is not None:
        names.add(frame.f_globals.get("__name__", "").partition(".")[0])
        frame = frame.f_back
    return names


# XLA's own way to set the number of CPU devices.
CPU_DEVICES = "--xla_force_host_platform_device_count"
_CPU_INFO = Path("/proc/cpuinfo")


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache; JAX's environment variables may disable it."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    with contextlib.suppress(RuntimeError, OSError):  # There is no home folder.
        jax.config.update("jax_compilation_cache_dir", str(compilation_cache()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        # A broken cache only costs time.
        jax.config.update("jax_raise_persistent_cache_errors", False)


def compilation_cache() -> Path:
    """The folder for this kind of processor: machines that share a home folder may differ."""
    from emergent_icl.data.sources.cache import cache_folder

    lines = _CPU_INFO.read_text(encoding="utf-8").splitlines() if _CPU_INFO.exists() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    kind = f"{platform.machine()}-{zlib.crc32(features.encode()):08x}"
    return cache_folder("") / "compiled" / kind


def use_cores(config: "ml_collections.ConfigDict") -> None:
    """Makes as many CPU devices as cores can share the replicas evenly, unless the user has chosen.

    Without effect on accelerators. `check` reports malformed configs later.
    """
    import jax

    in_flags = CPU_DEVICES in os.environ.get("XLA_FLAGS", "")
    is_chosen = jax.config.values["jax_num_cpu_devices"] > 0 or in_flags
    # The error: JAX has found its devices already, as when several processes train a run.
    with contextlib.suppress(AttributeError, TypeError, RuntimeError):
        training = config.training
        replicas = max(training.replicas, len(training.replica_overrides))
        if training.arithmetic > 1 and replicas > 1 and not is_chosen:
            jax.config.update("jax_num_cpu_devices", cpu_devices(replicas))


def cpu_devices(replicas: int) -> int:
    """The largest number of CPU devices, at most one per core, that share replicas evenly."""
    cores = min(available_cores(), replicas)
    return next(count for count in range(cores, 0, -1) if replicas % count == 0)


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return bound or 1


def make_deterministic(config: "ml_collections.ConfigDict") -> None:
    """Applies `training.deterministic`; `check` reports malformed configs later."""
    from emergent_icl.training.settings import DETERMINISTIC_FLAG, deterministic_flag

    flags, given = os.environ.get("XLA_FLAGS", ""), deterministic_flag()
    with contextlib.suppress(AttributeError):
        if config.training.deterministic and given is None:
            os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC_FLAG}=true".strip()
        elif config.training.deterministic and not given:
            logging.getLogger(__name__).warning(
                "XLA_FLAGS has %s=false, which defeats training.deterministic = True on GPUs: the "
                "last digits may differ between runs. Remove the flag, or set the option to False.",
                DETERMINISTIC_FLAG,
            )
