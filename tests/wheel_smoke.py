"""Builds the wheel, installs it into a clean environment, and trains with it: `make wheel`.

Not collected by pytest: it installs every dependency anew. tests/test_packaging.py builds the
same wheel and only looks inside.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "emergent_icl"
SOURCES = (".py", ".css", ".js", ".jinja")
# Hidden files and folders, and what building, running and testing leave behind.
NOT_SOURCE = (".*", "__pycache__", "build", "dist", "*.egg-info")

# A run of the demo that is over in seconds.
SHORT = {
    "data.glyphs.num_classes": 60,
    "data.split.num_rare": 40,
    "data.split.num_holdout": 20,
    "training.num_steps": 20,
    "evaluation.num_sequences": 50,
}

INSTALLED = """
import sys
from pathlib import Path
import emergent_icl
folder = Path(emergent_icl.__file__).parent
assert folder.is_relative_to(sys.prefix), f"{folder} is not the installed package"
assert (folder / "py.typed").is_file(), "py.typed is missing"
"""


def build_wheel(destination: Path, *flags: str) -> Path:
    """Builds the wheel, from a copy of the sources.

    In the tree itself setuptools would leave a build folder behind, and pack into the next wheel
    whatever lies in an older one.

    Args:
      destination: folder of the wheel.
      flags: for `pip wheel`.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, built = Path(folder, "source"), Path(folder, "built")
        shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_SOURCE))
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
        command = [*pip, "--no-deps", *flags, "--wheel-dir", built, source]
        subprocess.run(command, check=True, cwd=folder)
        (wheel,) = built.glob("*.whl")
        destination.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheel, destination))


def check_content(wheel: Path) -> None:
    """Raises AssertionError unless the wheel holds the sources of the package, all, and no more."""
    names = set(zipfile.ZipFile(wheel).namelist())
    info = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    expected = {"emergent_icl/py.typed"} | {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / PACKAGE).rglob("*")
        if path.suffix in SOURCES
    }
    found = names - info
    assert found == expected, f"missing: {expected - found}; too many: {found - expected}"
    for needed in ("presets/base.py", "findings/burstiness.py", "__main__.py"):
        assert f"{PACKAGE}/{needed}" in found, f"{needed} is missing"
    assert {name.split("/")[0] for name in found} == {PACKAGE}, "there is another package"
    assert any(name.endswith("/LICENSE") for name in info), "LICENSE is missing"


def install(wheel: Path, folder: Path) -> Path:
    """Makes a clean environment with the wheel and the pinned dependencies; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--constraint", ROOT / "requirements.lock", wheel], check=True)
    return python


def try_out(python: Path, folder: Path) -> None:
    """Trains and evaluates from an empty folder, where nothing but the wheel can be imported."""
    here, workdir = folder / "empty", folder / "run"
    here.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["XDG_CACHE_HOME"] = str(folder / "cache")

    def run(*words: str) -> str:
        done = subprocess.run(
            [python, *words], cwd=here, env=environment, stdout=subprocess.PIPE, text=True
        )
        print(done.stdout, end="", flush=True)
        assert done.returncode == 0, f"{words} ended with {done.returncode}"
        return done.stdout

    run("-c", INSTALLED)
    options = [f"--config.{path}={value}" for path, value in SHORT.items()]
    run("-m", PACKAGE, "train", "--config=glyphs:demo", f"--workdir={workdir}", *options)
    summary = json.loads((workdir / "summary.json").read_text(encoding="utf-8"))
    assert summary["step"] == SHORT["training.num_steps"], summary
    run("-m", PACKAGE, "evaluate", f"--workdir={workdir}", "--num_sequences=100")
    assert list((workdir / "evaluations").glob("*.json"))
    assert "p_bursty" in run("-m", PACKAGE, "options", "--filter=p_bursty")
    assert not list(here.iterdir()), "something was written into the current folder"


def main() -> None:
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {what}", flush=True)

    wheel = build_wheel(ROOT / "dist")
    check_content(wheel)
    say(f"{wheel.relative_to(ROOT)}: {wheel.stat().st_size // 1024} KB, complete")
    with tempfile.TemporaryDirectory(prefix="wheel-") as name:
        folder = Path(name)
        python = install(wheel, folder / "environment")
        say("installed into a clean environment")
        try_out(python, folder)
    say("trained and evaluated by the wheel alone")


if __name__ == "__main__":
    main()
