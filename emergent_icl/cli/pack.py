"""Pack a run into one file, to resume or open it elsewhere.

python -m experiments.pack RUN [--step=N] [--weights_only] [--output=FILE]

The file holds the config, the newest checkpoint, and the metrics, but not the data. The command
'unpack' reads it. The run may be training. With --weights_only, it can be opened elsewhere, but
not resumed. An existing file is replaced only if it holds the same run, and not by its weights
alone if it can be resumed.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from emergent_icl.cli import console
from emergent_icl.cli.flags import output_flag, step_flag
from emergent_icl.runs import pack
from emergent_icl.runs.workdir import Workdir

_STEP, _output = step_flag(), output_flag()
_WEIGHTS_ONLY = flags.DEFINE_bool(
    "weights_only", False, "Leave out the state of the optimizer: a smaller file, which can be "
    "opened, but not resumed.",
)  # fmt: skip


def main(argv: Sequence[str]) -> None:
    """Writes the file."""
    if len(argv) != 2:
        console.fail("pack needs the folder of one run: pack RUN", 2)
    with console.command(argv[:1]):
        workdir = Workdir(argv[1])
        output = _output() or Path(f"{workdir.path.name}{pack.SUFFIX}")
        given = (workdir, output, _STEP.value, _WEIGHTS_ONLY.value)
        if found := console.write(output, lambda: pack.pack(*given)):
            use = "open" if found.weights_only else "resume or open"
            console.say(
                f"Step {found.step}, {found.num_bytes / 1e6:.1f} MB. To {use} it elsewhere:\n"
                f"  emergent-icl unpack {shlex.quote(output.name)} --workdir=DIR"
            )
