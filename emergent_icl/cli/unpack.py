"""Unpack a run that the command 'pack' wrote, to resume or open it here.

python -m experiments.unpack FILE --workdir=DIR
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from emergent_icl.cli import console
from emergent_icl.cli.flags import workdir_flag
from emergent_icl.runs.pack import unpack
from emergent_icl.runs.records import versions
from emergent_icl.runs.workdir import Workdir

_WORKDIR = workdir_flag()


def main(argv: Sequence[str]) -> None:
    """Makes the folder."""
    if len(argv) != 2:
        console.fail("unpack needs one packed run: unpack FILE --workdir=DIR", 2)
    with console.command(argv[:1]):
        workdir = Workdir(_WORKDIR.value)
        found = unpack(Path(argv[1]).expanduser(), workdir)
        here = versions(found.versions)
        other = [
            f"{name} {there} (here {here.get(name, 'missing')})"
            for name, there in found.versions.items()
            if there != here.get(name)
        ]
        console.say(f"Unpacked step {found.step} into {workdir.path}.")
        if other:
            console.say(
                f"It was packed with {', '.join(other)}: new numbers may differ in the last digits."
            )
        if found.weights_only:
            console.say("It holds weights only: it can be opened, but not resumed.")
        to, command = ("open it", "inspect-run") if found.weights_only else ("resume", "train")
        words = ["emergent-icl", command, f"--workdir={workdir.path}"]
        console.say(f"To {to}:\n  {shlex.join(words)}")
