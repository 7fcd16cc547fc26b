import ctypes
import platform
from pathlib import Path

import pytest

from emergent_icl.runs import memory

MB, CHUNK = 1024 * 1024, 64 * 1024  # Smaller chunks than malloc maps on their own.


def resident_megabytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / MB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps free memory")
def test_free_memory_between_used_memory_is_returned():
    chunks = [bytearray(CHUNK) for _ in range(200 * MB // CHUNK)]
    last = chunks[-1]  # As long as it is used, free() cannot return what lies below it.
    del chunks[:]
    kept = resident_megabytes()
    memory.release()
    assert kept - resident_megabytes() > 150
    assert len(last) == CHUNK


@pytest.mark.parametrize("system", ["darwin", "linux"])
def test_other_c_libraries_are_left_alone(system, monkeypatch):
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # Has no malloc_trim.
    memory.release()
