"""Flags that several launchers share; defined once, so that they can be imported together."""

from __future__ import annotations

from absl import flags

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
