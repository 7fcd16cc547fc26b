"""Builds the wheel, installs it into a clean environment, and trains with it: `make wheel`.

Given versions of Python, it also builds the sdist, and tests the wheel on each: `make release`.

Not collected by pytest, because it reinstalls every dependency. tests/test_packaging.py builds the
same wheel and only checks its content.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE, SCRIPT = "emergent_icl", "emergent-icl"
SOURCES = (".py", ".css", ".js", ".jinja")
# Hidden files and folders, and the output of builds, runs, and tests.
NOT_SOURCE = (".*", "__pycache__", "build", "dist", "*.egg-info")

# A demo that takes seconds.
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


def build_wheel(destination: Path, *flags: str, source: Path | None = None) -> Path:
    """Builds the wheel, from a copy of the sources.

    In the tree itself, setuptools would leave a build folder, and pack its old content into the
    next wheel.

    Args:
      destination: folder of the wheel.
      flags: flags of `pip wheel`.
      source: an sdist to build from instead.
    """
    with sources() as tree:
        built = tree.parent / "built"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
        command = [*pip, "--no-deps", *flags, "--wheel-dir", built, source or tree]
        subprocess.run(command, check=True, cwd=tree.parent)
        (wheel,) = built.glob("*.whl")
        destination.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheel, destination))


def build_sdist(destination: Path) -> Path:
    """Builds the sdist from a copy of the sources, with the setuptools of this environment."""
    code = "import sys, setuptools.build_meta as backend; backend.build_sdist(sys.argv[1])"
    destination = destination.absolute()
    destination.mkdir(parents=True, exist_ok=True)
    with sources() as tree:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        built = tree.parent / "built"
        subprocess.run([sys.executable, "-c", code, built], check=True, cwd=tree, **quiet)
        (sdist,) = built.glob("*.tar.gz")
        return Path(shutil.copy(sdist, destination))


@contextlib.contextmanager
def sources() -> Iterator[Path]:
    """A copy of the tree in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "source")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_SOURCE))
        yield tree


def content(wheel: Path) -> dict[str, int]:
    """Checksums by file name."""
    return {entry.filename: entry.CRC for entry in zipfile.ZipFile(wheel).infolist()}


def check_content(wheel: Path) -> None:
    """Raises AssertionError unless the wheel contains exactly the sources of the package."""
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


def find_python(version: str) -> str:
    """An interpreter of a version such as 3.12: on PATH, from pyenv, or from uv.

    Raises:
      SystemExit: there is none.
    """
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    candidates = [[name], *([str(path)] for path in sorted(pyenv.glob(f"{version}.*/bin/{name}")))]
    if uv := shutil.which("uv"):
        found = subprocess.run([uv, "python", "find", version], capture_output=True, text=True)
        candidates.append([found.stdout.strip()])
    code = "import sys; print('{}.{}'.format(*sys.version_info))"
    for command in candidates:
        with contextlib.suppress(OSError):
            # A shim of pyenv may be on PATH but fail.
            done = subprocess.run([*command, "-c", code], capture_output=True, text=True)
            if done.stdout.strip() == version:
                return command[0]
    raise SystemExit(
        f"Python {version} is missing: {name} is not on PATH, and neither pyenv nor uv has it. "
        f"Install it, for example with `uv python install {version}`."
    )


def install(wheel: Path, folder: Path, python: str = sys.executable) -> Path:
    """Creates an environment with the wheel and the pinned dependencies; returns its bin folder.

    Args:
      wheel: the wheel to install.
      folder: folder of the environment.
      python: the interpreter that creates it.
    """
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    subprocess.run([python, "-m", "venv", folder], check=True, env=environment)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [programs / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    # Compiling all of TensorFlow takes minutes; imported modules are compiled anyway.
    words = ["--no-compile", "--constraint", ROOT / "requirements.lock", wheel]
    subprocess.run([*pip, *words], check=True, env=environment)
    return programs


SWEEP = f"""
from emergent_icl.presets import load, override
from emergent_icl.sweeps.claims import Claim, Difference
from emergent_icl.sweeps.spec import Sweep, over

def get_sweep():
    return Sweep(
        name="tiny", title="Tiny", axis="p", base=override(load("glyphs:demo"), {SHORT!r}),
        conditions=over("data.sequences.p_bursty", (0.0, 1.0), "p"), seeds=(0, 1),
        claim=Claim("No claim.", (Difference("icl", high="p=1", low="p=0", more_than=0.2),)),
    )
"""


def try_out(programs: Path, folder: Path) -> None:
    """Trains and evaluates from an empty folder, where only the wheel can be imported."""
    here, workdir = folder / "empty", folder / "run"
    here.mkdir()
    (folder / "mine.py").write_text(SWEEP, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["XDG_CACHE_HOME"] = str(folder / "cache")
    # As in an activated environment.
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"

    def run(*words: str) -> str:
        print(f"$ {' '.join(words) if words[0] != '-c' else 'python -c ...'}", flush=True)
        command = [programs / ("python" if words[0] in ("-c", "-m") else SCRIPT), *words]
        done = subprocess.run(command, cwd=here, env=environment, stdout=subprocess.PIPE, text=True)
        print(done.stdout, end="", flush=True)
        assert done.returncode == 0, f"{words} ended with {done.returncode}"
        return done.stdout

    run("-c", INSTALLED)
    assert "evaluate" in run("--help")
    assert run("--version") == run("-m", PACKAGE, "--version")
    options = [f"--config.{path}={value}" for path, value in SHORT.items()]
    run("train", "--config=glyphs:demo", f"--workdir={workdir}", *options)
    summary = json.loads((workdir / "summary.json").read_text(encoding="utf-8"))
    assert summary["step"] == SHORT["training.num_steps"], summary
    run("evaluate", f"--workdir={workdir}", "--num_sequences=100")
    assert list((workdir / "evaluations").glob("*.json"))
    assert "p_bursty" in run("options", "--filter=p_bursty")
    # Its processes also start without the repository.
    run("sweep", f"--sweep={folder / 'mine.py'}", f"--workdir={folder / 'sweep'}")
    assert (folder / "sweep" / "report.html").exists()
    assert not list(here.iterdir()), "something was written into the current folder"


def main(versions: Sequence[str]) -> None:
    """Tests the wheel on this Python, or on several versions, and then also the sdist."""
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {what}", flush=True)

    pythons = {version: find_python(version) for version in versions}
    wheel = build_wheel(ROOT / "dist")
    check_content(wheel)
    say(f"{wheel.relative_to(ROOT)}: {wheel.stat().st_size // 1024} KB, complete")
    if pythons:
        sdist = build_sdist(ROOT / "dist")
        with tempfile.TemporaryDirectory() as name:
            again = build_wheel(Path(name), source=sdist)
            assert content(again) == content(wheel), "the sdist builds another wheel"
        say(f"{sdist.relative_to(ROOT)}: {sdist.stat().st_size // 1024} KB, builds the same wheel")
    for version, python in (pythons or {"this Python": sys.executable}).items():
        with tempfile.TemporaryDirectory(prefix="wheel-") as name:
            folder = Path(name)
            programs = install(wheel, folder / "environment", python)
            say(f"{version}: installed into a clean environment")
            try_out(programs, folder)
        say(f"{version}: trained, evaluated and swept by the wheel alone")


if __name__ == "__main__":
    main(sys.argv[1:])
