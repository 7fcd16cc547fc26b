import os
import subprocess
import sys
from pathlib import Path

import pytest

from emergent_icl.cli import start
from emergent_icl.cli.start import restart_with_huge_pages, wanted_tunables

GLIBC = ("glibc", "2.36")
ASKED = "always [madvise] never"
ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("mode", "libc", "environment", "expected"),
    [
        (ASKED, GLIBC, {}, "glibc.malloc.hugetlb=1"),
        (ASKED, GLIBC, {"GLIBC_TUNABLES": "glibc.a=2"}, "glibc.a=2:glibc.malloc.hugetlb=1"),
        (ASKED, ("glibc", "2.35"), {}, "glibc.malloc.hugetlb=1"),
        # Nothing to gain, not possible, or already decided.
        ("[always] madvise never", GLIBC, {}, None),
        ("always madvise [never]", GLIBC, {}, None),
        ("", GLIBC, {}, None),
        (ASKED, ("glibc", "2.31"), {}, None),
        (ASKED, ("", ""), {}, None),
        (ASKED, GLIBC, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, None),
        (ASKED, GLIBC, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, None),
    ],
)
def test_asked_for_only_where_it_helps(mode, libc, environment, expected):
    assert wanted_tunables(mode, libc, environment) == expected


def test_a_launcher_begins_again_as_the_same_process_with_the_same_words(tmp_path):
    code = (
        "import os, platform, sys\n"
        "from emergent_icl.cli import start\n"
        # Where this machine gives huge pages anyway, it is told that it does not.
        "wanted = start.wanted_tunables\n"
        f"start.wanted_tunables = lambda mode, libc, env: wanted({ASKED!r}, {GLIBC!r}, env)\n"
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
def begun(monkeypatch, tmp_path):
    """Programs that this process was replaced by, where there is something to gain."""
    mode = tmp_path / "enabled"
    mode.write_text(ASKED)
    monkeypatch.setattr(start, "_MODE", mode)
    monkeypatch.setattr("platform.libc_ver", lambda: GLIBC)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr("sys.gettrace", lambda: None)
    # Not those of these tests.
    monkeypatch.setattr(start, "_callers", lambda: {"__main__", "runpy", "emergent_icl"})
    # Another test of this process may have imported it.
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    begun = []
    monkeypatch.setattr("os.execve", lambda *arguments: begun.append(arguments))
    return begun


def test_only_a_program_begins_again(begun, monkeypatch):
    restart_with_huge_pages()
    assert len(begun) == 1
    for target, name, value in (
        (sys, "ps1", ">>> "),
        (sys, "gettrace", lambda: print),
        # A debugger that was told to continue.
        (start, "_callers", lambda: {"__main__", "runpy", "pdb", "bdb", "emergent_icl"}),
        (sys, "executable", "/usr/bin/embeds"),
        (sys, "executable", None),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(target, name, value, raising=False)
            restart_with_huge_pages()
    monkeypatch.setitem(sys.modules, "IPython", sys)
    restart_with_huge_pages()
    assert len(begun) == 1


def test_it_begins_once_whatever_becomes_of_its_environment(begun, monkeypatch):
    restart_with_huge_pages()
    ((_, _, environment),) = begun
    monkeypatch.setattr("os.environ", {**environment, "GLIBC_TUNABLES": ""})
    restart_with_huge_pages()
    assert len(begun) == 1


def test_what_cannot_begin_again_goes_on(begun, monkeypatch):
    def refuse(*arguments):
        raise PermissionError

    monkeypatch.setattr("os.execve", refuse)
    restart_with_huge_pages()


def test_a_debugger_keeps_its_process(tmp_path):
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
