"""How every command starts: what must happen before its slow imports.

Signals, huge pages, and settings of JAX, which only the functions that need it import.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
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
    "reproduce", "pages",
)  # fmt: skip
# Commands that compute, and those that a signal may stop at any step.
ON_DEVICES = ("train", "evaluate", "describe")
STOPPABLE = ("train", "sweep", "reproduce")
# Packages whose flags --help lists; the others are absl's own.
OURS = ("emergent_icl", "experiments", "benchmarks")
SCRIPT = "emergent-icl"

STARTED = time.monotonic()
# Whether the command that runs is a program of its own, see `is_program`.
IS_PROGRAM = False


def main() -> None:
    """The installed command."""
    if not sys.flags.safe_path:
        # As `python -m` does, but last: modules of the user may be named by --extensions.
        sys.path.append("")
    dispatch(SCRIPT)


def dispatch(program: str) -> None:
    """Runs the command that the first word names, with hyphens or underscores.

    `program` is what was typed before it.
    """
    word = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    command, shown = word.replace("-", "_"), [name.replace("_", "-") for name in COMMANDS]
    if word in ("--help", "-h", "help"):
        print(f"usage: {program} COMMAND [--flag=value ...]\n")
        for name in shown:
            print(f"  {name:{max(map(len, shown))}}  {_summary(name)}")
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


def _summary(name: str) -> str:
    """The first line of what a command says of itself, which is read without its slow imports."""
    path = Path(__file__).with_name(f"{name.replace('-', '_')}.py")
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0]


def launch(command: str, typed: str = "") -> None:
    """Runs a command of this package as a program: flags in, exit code out.

    `typed` is what a user typed to start it, by default its launcher in `experiments`.
    """
    if command in ON_DEVICES:
        restart_with_huge_pages()
    with contextlib.nullcontext() if is_program() else unchanged_signals():
        if command in STOPPABLE:
            # Already during the imports a user may interrupt.
            STOP_SIGNALS.install()
        run(f"emergent_icl.cli.{command}", typed or f"python -m experiments.{command}")


def run(module_name: str, typed: str) -> None:
    """Imports a module and runs its `main` as a program, whose --help shows what was typed."""
    from absl import app, flags

    global IS_PROGRAM
    IS_PROGRAM = is_program()
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if not sys.flags.optimize:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    from emergent_icl.cli.flags import parse_flags

    doc = re.sub(r"python -m experiments\.\w+", typed, module.__doc__ or "")
    sys.modules["__main__"].__doc__ = doc
    sys.argv[0] = typed
    for definer, defined in flags.FLAGS.flags_by_module_dict().items():
        if definer.split(".")[0] in OURS:
            for flag in defined:
                # So that --help lists it.
                flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(module.main, flags_parser=parse_flags)


# On CPU, half of a paper-size step went into page faults: XLA asks the C library for its temporary
# buffers anew at every step (a gigabyte in the paper's setting), and Linux hands them out in pages
# of 4 KiB. glibc 2.35 asks for pages of 2 MiB if it was told to before the process started.
TUNABLE, FIRST_GLIBC = "glibc.malloc.hugetlb", (2, 35)
_RESTARTED = "EMERGENT_ICL_RESTARTED"
_SELF = Path("/proc/self/exe")
_MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_with_huge_pages() -> None:
    """Starts this program anew, with huge pages, where that helps.

    To be called before the heavy imports. GLIBC_TUNABLES=glibc.malloc.hugetlb=0 prevents it.
    """
    mode = _MODE.read_text(encoding="utf-8") if _MODE.exists() else ""
    tunables = wanted_tunables(mode, platform.libc_ver(), os.environ)
    # A privileged interpreter starts without its tunables, and would start over for ever.
    pid = str(os.getpid())
    if tunables is not None and is_program() and os.environ.get(_RESTARTED) != pid:
        environment = {**os.environ, _RESTARTED: pid, "GLIBC_TUNABLES": tunables}
        with contextlib.suppress(OSError):  # Without, it only runs more slowly.
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def wanted_tunables(mode: str, libc: tuple[str, str], environment: Mapping[str, str]) -> str | None:
    """GLIBC_TUNABLES of a process with huge pages; None where there is nothing to gain.

    `mode` is what Linux does, as in 'always madvise [never]', the chosen one in brackets; only
    'madvise' waits to be asked. `libc` is name and version of the C library.
    """
    name, version = libc
    present = environment.get("GLIBC_TUNABLES", "")
    if "[madvise]" not in mode or name != "glibc" or TUNABLE in present:
        return None
    is_new = tuple(map(int, version.split(".")[:2])) >= FIRST_GLIBC
    return f"{present}:{TUNABLE}=1".lstrip(":") if is_new else None


def is_program() -> bool:
    """Whether Python runs nothing but this program: no notebook, prompt, debugger or embedding.

    Any other process is not ours: it is neither restarted nor ended at once.
    """
    is_prompt = "IPython" in sys.modules or hasattr(sys, "ps1") or bool(sys.flags.interactive)
    # A debugger that was told to continue traces no longer, but it still called us.
    if is_prompt or sys.gettrace() is not None or _callers() - {"__main__", "runpy", *OURS}:
        return False
    interpreter = sys.executable and os.path.realpath(sys.executable)
    return not _SELF.exists() or os.path.realpath(_SELF) == interpreter


def _callers() -> set[str]:
    """Top-level packages of all functions that are running in this thread."""
    names, frame = set(), sys._getframe()
    while frame is not None:
        names.add(frame.f_globals.get("__name__", "").partition(".")[0])
        frame = frame.f_back
    return names


_CPU_INFO = Path("/proc/cpuinfo")


def use_compilation_cache() -> None:
    """Keeps compiled programs for the next command, in a folder of the user's cache.

    Another folder: JAX_COMPILATION_CACHE_DIR; none: JAX_ENABLE_COMPILATION_CACHE=false.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    with contextlib.suppress(RuntimeError, OSError):  # There is no home folder.
        jax.config.update("jax_compilation_cache_dir", str(compilation_cache()))
        # Faster compilations are not worth a file.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        # A cache that cannot be read or written only costs time.
        jax.config.update("jax_raise_persistent_cache_errors", False)


def compilation_cache() -> Path:
    """The folder for this kind of processor, since machines of a cluster share home folders."""
    from emergent_icl.data.sources.cache import cache_folder

    lines = _CPU_INFO.read_text(encoding="utf-8").splitlines() if _CPU_INFO.exists() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    kind = f"{platform.machine()}-{zlib.crc32(features.encode()):08x}"
    return cache_folder("") / "compiled" / kind


def make_deterministic(config: ml_collections.ConfigDict) -> None:
    """Applies `training.deterministic`; a malformed config is reported later, by its check."""
    from emergent_icl.runs.session import DETERMINISTIC_FLAG

    flags = os.environ.get("XLA_FLAGS", "")
    with contextlib.suppress(AttributeError):
        if config.training.deterministic and DETERMINISTIC_FLAG not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC_FLAG}=true".strip()
