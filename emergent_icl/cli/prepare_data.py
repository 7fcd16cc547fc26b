"""Write Omniglot as one file, which opens without TensorFlow and TFDS.

python -m experiments.prepare_data --out=FILE [--data_dir=DIR]

To use it, set TFDS_DATA_DIR or --config.data.data_dir to the file, also on another machine.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from emergent_icl.cli import console
from emergent_icl.cli.flags import data_dir_flag
from emergent_icl.config.configs import with_options
from emergent_icl.data.sources import omniglot
from emergent_icl.presets import base

_DATA_DIR = data_dir_flag()
_OUT = flags.DEFINE_string("out", None, "File to write (45 MB).", required=True)


def main(argv: Sequence[str]) -> None:
    """Writes the file."""
    with console.command(argv):
        path = Path(_OUT.value).expanduser()
        if path.exists() and not omniglot.is_prepared(path):
            console.fail(
                f"{path} exists, and is not an intact file of this command: "
                "remove it, or choose another --out"
            )
        config = with_options(base.get_config(), {"data.data_dir": _DATA_DIR.value or ""})
        console.write(path, lambda: omniglot.prepare(path, config.data))
