"""Flags that several launchers share; defined once, so that they can be imported together."""

from __future__ import annotations

from absl import flags

STEP = flags.DEFINE_integer("step", None, "Checkpoint to open; default: the newest.")
REPLICA = flags.DEFINE_string(
    "replica", None, "Name of the replica to open, where several were trained together."
)
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of the TFDS datasets, where it is not that of the run's config."
)
FEATURES_PATH = flags.DEFINE_string(
    "features_path", None, "File of feature vectors, where it is not that of the run's config."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)


def data_overrides() -> dict[str, str]:
    """Where the data are, as overrides for `load_run`, if that is not as in the run's config."""
    places = {"data.data_dir": DATA_DIR.value, "data.features.path": FEATURES_PATH.value}
    return {path: place for path, place in places.items() if place is not None}
