import os
import subprocess
import sys
from pathlib import Path

import pytest

from emergent_icl.cli.huge_pages import wanted

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
    assert wanted(mode, libc, environment) == expected


def test_a_launcher_begins_again_as_the_same_process_with_the_same_words(tmp_path):
    code = (
        "import os, platform, sys\n"
        "from emergent_icl.cli import huge_pages\n"
        # Where this machine gives huge pages anyway, it is told that it does not.
        "wanted = huge_pages.wanted\n"
        f"huge_pages.wanted = lambda mode, libc, env: wanted({ASKED!r}, {GLIBC!r}, env)\n"
        "print(os.getpid(), flush=True)\n"
        "huge_pages.restart()\n"
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
