"""How every command starts: what must happen before the seconds that its imports take.

Imports nothing of weight itself.
"""

from __future__ import annotations

import importlib
import sys
import time

from emergent_icl.cli import huge_pages
from emergent_icl.cli.signals import StopSignals

# Commands that compute, and those that a signal may stop at any step.
ON_DEVICES = ("train", "evaluate", "describe")
STOPPABLE = ("train", "sweep", "reproduce")

STARTED = time.monotonic()
STOP_SIGNALS = StopSignals()


def launch(command: str) -> None:
    """Runs a command of this package as a program: flags in, exit code out."""
    if command in ON_DEVICES:
        huge_pages.restart()
    if command in STOPPABLE:
        # A user waits for the imports, too, and may interrupt them.
        STOP_SIGNALS.install()
    run(f"emergent_icl.cli.{command}")


def run(module_name: str) -> None:
    """Imports a module with a `main`, and runs that as a program with all flags."""
    from absl import app, flags

    module = importlib.import_module(module_name)
    from emergent_icl.cli import console

    sys.modules["__main__"].__doc__ = module.__doc__
    # Flags of the launcher itself, so that --help lists them.
    for flag in flags.FLAGS.get_flags_for_module(module.__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(module.main, flags_parser=console.parse_flags)
