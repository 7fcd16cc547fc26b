"""Pack a run into one file, to resume or open it elsewhere.

python -m experiments.pack RUN [--step=N] [--output=FILE]

The file holds the config, the newest checkpoint, and the metrics, but not the data. The command
'unpack' reads it. The run may be training.
"""

from collections.abc import Sequence
from pathlib import Path

from emergent_icl.cli import console
from emergent_icl.cli.flags import output_flag, step_flag
from emergent_icl.runs import pack
from emergent_icl.runs.workdir import Workdir

_STEP, _output = step_flag(), output_flag()


def main(argv: Sequence[str]) -> None:
    """Writes the file."""
    if len(argv) != 2:
        console.fail("pack needs the folder of one run: pack RUN", 2)
    with console.command(argv[:1]):
        workdir = Workdir(argv[1])
        output = _output() or Path(f"{workdir.path.name}{pack.SUFFIX}")
        if found := console.write(output, lambda: pack.pack(workdir, output, _STEP.value)):
            console.say(
                f"Step {found.step}, {found.num_bytes / 1e6:.1f} MB. To resume or open it "
                f"elsewhere:\n  emergent-icl unpack {output.name} --workdir=DIR"
            )
