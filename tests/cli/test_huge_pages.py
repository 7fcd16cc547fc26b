import os
import subprocess
import sys
from pathlib import Path

import pytest

from emergent_icl.cli import start
from emergent_icl.cli.start import restart_with_huge_pages, wanted_tunables

GLIBC = ("glibc", "2.36")
MADVISE = "always [madvise] never"
ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("mode", "libc", "environment", "expected"),
    [
        (MADVISE, GLIBC, {}, "glibc.malloc.hugetlb=1"),
        (MADVISE, GLIBC, {"GLIBC_TUNABLES": "glibc.a=2"}, "glibc.a=2:glibc.malloc.hugetlb=1"),
        (MADVISE, ("glibc", "2.35"), {}, "glibc.malloc.hugetlb=1"),
        # Nothing to gain, not possible, or already decided.
        ("[always] madvise never", GLIBC, {}, None),
        ("always madvise [never]", GLIBC, {}, None),
        ("", GLIBC, {}, None),
        (MADVISE, ("glibc", "2.31"), {}, None),
        (MADVISE, ("", ""), {}, None),
        (MADVISE, GLIBC, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, None),
        (MADVISE, GLIBC, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, None),
    ],
)
def test_huge_pages_are_requested_only_if_they_help(mode, libc, environment, expected):
    assert wanted_tunables(mode, libc, environment) == expected


def test_a_launcher_restarts_in_the_same_process_with_the_same_arguments(tmp_path):
    code = (
        "import os, platform, sys\n"
        "from emergent_icl.cli import start\n"
        # This machine may provide huge pages already.
        "wanted = start.wanted_tunables\n"
        f"start.wanted_tunables = lambda mode, libc, env: wanted({MADVISE!r}, {GLIBC!r}, env)\n"
        "print(os.getpid(), flush=True)\n"
        "start.restart_with_huge_pages()\n"
        "print(sys.argv[1:], os.environ['GLIBC_TUNABLES'])\n"
    )
    script = tmp_path / "launcher.py"
    script.write_text(code)
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    command = [sys.executable, "-W", "error", str(script), "--a=b c", ""]
    out = subprocess.run(
        command, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert out.returncode == 0, out.stderr
    first, second, last = out.stdout.splitlines()
    assert first == second
    assert last == "['--a=b c', ''] glibc.malloc.hugetlb=1"


@pytest.fixture
def restarts(monkeypatch, tmp_path):
    """Recorded calls of execve, on a machine where huge pages help."""
    mode = tmp_path / "enabled"
    mode.write_text(MADVISE)
    monkeypatch.setattr(start, "_MODE", mode)
    monkeypatch.setattr("platform.libc_ver", lambda: GLIBC)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr("sys.gettrace", lambda: None)
    # Hide pytest.
    monkeypatch.setattr(start, "_callers", lambda: {"__main__", "runpy", "emergent_icl"})
    # Another test may have imported it.
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    restarts = []
    monkeypatch.setattr("os.execve", lambda *arguments: restarts.append(arguments))
    return restarts


def test_only_a_program_restarts(restarts, monkeypatch):
    restart_with_huge_pages()
    assert len(restarts) == 1
    for target, name, value in (
        (sys, "ps1", ">>> "),
        (sys, "gettrace", lambda: print),
        # A debugger that continued the program.
        (start, "_callers", lambda: {"__main__", "runpy", "pdb", "bdb", "emergent_icl"}),
        (sys, "executable", "/usr/bin/embeds"),
        (sys, "executable", None),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(target, name, value, raising=False)
            restart_with_huge_pages()
    monkeypatch.setitem(sys.modules, "IPython", sys)
    restart_with_huge_pages()
    assert len(restarts) == 1


def test_it_restarts_only_once_even_if_the_environment_changes(restarts, monkeypatch):
    restart_with_huge_pages()
    ((_, _, environment),) = restarts
    monkeypatch.setattr("os.environ", {**environment, "GLIBC_TUNABLES": ""})
    restart_with_huge_pages()
    assert len(restarts) == 1


def test_a_failed_restart_is_ignored(restarts, monkeypatch):
    def refuse(*arguments):
        raise PermissionError

    monkeypatch.setattr("os.execve", refuse)
    restart_with_huge_pages()


def test_a_debugged_program_does_not_restart(tmp_path):
    script = tmp_path / "launcher.py"
    script.write_text(
        "import os\n"
        "from emergent_icl.cli import start\n"
        "start.wanted_tunables = lambda *_: 'glibc.malloc.hugetlb=1'\n"
        "print('began', flush=True)\n"
        "start.restart_with_huge_pages()\n"
        "print(start.is_program(), flush=True)\n"
    )
    command = [sys.executable, "-m", "pdb", "-c", "continue", str(script)]
    out = subprocess.run(
        command, input="q\n", env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert out.stdout.count("began") == 1, out.stdout
    assert "False" in out.stdout
