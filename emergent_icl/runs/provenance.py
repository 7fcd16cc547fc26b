"""What a result can be cited by: the hash of its config, and the commit of the code."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import ml_collections

from emergent_icl.config.identity import identity


def git(*words: str, folder: Path | None = None) -> tuple[int | None, str]:
    """Exit status and output of git in a folder, the current one by default; None without git."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, cwd=folder)
    except OSError:
        return None, ""
    return done.returncode, done.stdout


def commit_of(folder: Path | None = None) -> str | None:
    """HEAD of a folder's repository, with '-dirty' if tracked files have changed; None without."""
    status, said = git(
        "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*", folder=folder
    )
    return said.strip() if status == 0 else None


@functools.cache
def code_commit() -> str | None:
    """The commit of this package's code; None where it is installed outside its repository."""
    here = Path(__file__)
    # An environment may lie inside the repository of something else.
    is_tracked, _ = git("ls-files", "--error-unmatch", here.name, folder=here.parent)
    return commit_of(here.parent) if is_tracked == 0 else None


def config_hash(config: ml_collections.ConfigDict) -> str:
    """The identity of a config as 8 hexadecimal digits."""
    return f"{identity(config):08x}"


def citation(config: ml_collections.ConfigDict, commit: str | None) -> str:
    """'config 1a2b3c4d, commit 03431ae1234', for the margin of a figure."""
    return f"config {config_hash(config)}" + (f", commit {short(commit)}" if commit else "")


def short(commit: str) -> str:
    """The first 10 digits of a commit, and '-dirty' where it says so."""
    hexadecimal, dash, dirty = commit.partition("-")
    return f"{hexadecimal[:10]}{dash}{dirty}"
