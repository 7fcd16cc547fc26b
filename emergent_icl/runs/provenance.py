"""How to cite a result: the hash of its config and the commit of the code."""

import functools
import subprocess
from pathlib import Path

from ml_collections import ConfigDict

from emergent_icl.config.identity import identity


def git(*words: str, folder: Path | None = None) -> tuple[int | None, str]:
    """Exit status of git in a folder, None if git is missing, and its output."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, cwd=folder)
    except OSError:
        return None, ""
    return done.returncode, done.stdout


def commit_of(folder: Path | None = None) -> str | None:
    """HEAD of a folder's repository, or None; with '-dirty' if tracked files differ."""
    words = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    status, said = git(*words, folder=folder)
    return said.strip() if status == 0 else None


@functools.cache
def code_commit() -> str | None:
    """The commit of this package's code; None if it is installed outside its repository."""
    here = Path(__file__)
    # The environment may be inside another repository.
    is_tracked, _ = git("ls-files", "--error-unmatch", here.name, folder=here.parent)
    return commit_of(here.parent) if is_tracked == 0 else None


def config_hash(config: ConfigDict) -> str:
    """The identity of a config as 8 hexadecimal digits."""
    return f"{identity(config):08x}"


def citation(config: ConfigDict, commit: str | None) -> str:
    """'config 1a2b3c4d, commit 03431ae123', for the margin of a figure."""
    return f"config {config_hash(config)}" + (f", commit {short(commit)}" if commit else "")


def short(commit: str) -> str:
    """The first 10 digits of a commit, and '-dirty' if present."""
    hexadecimal, dash, dirty = commit.partition("-")
    return f"{hexadecimal[:10]}{dash}{dirty}"
