"""Flags that several launchers share; defined once, so that they can be imported together."""

from __future__ import annotations

from absl import flags

# Read by experiments/extensions.py before flags are parsed; defined here for --help.
EXTENSIONS = flags.DEFINE_list(
    "extensions",
    [],
    "Modules to import first: what they register can be named (docs/extending.md).",
)
STEP = flags.DEFINE_integer("step", None, "Checkpoint to open; default: the newest.")
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of the TFDS datasets, where it is not that of the run's config."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
