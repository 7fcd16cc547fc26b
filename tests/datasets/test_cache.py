import numpy as np
import pytest

from emergent_icl.data.sources.cache import cache_folder, load_or_build

CONTENT = {"what": "numbers", "count": 5}


class Builder:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"numbers": np.arange(5), "names": np.array(["a", "b"])}


@pytest.fixture
def build():
    return Builder()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "cache.npz"


def load(path, build, content=CONTENT):
    arrays = load_or_build(path, content, build)
    np.testing.assert_array_equal(arrays["numbers"], np.arange(5))
    assert arrays["names"].tolist() == ["a", "b"]


def test_builds_once(path, build):
    load(path, build)
    load(path, build)
    assert build.calls == 1
    assert [file.name for file in path.parent.iterdir()] == ["cache.npz"]


@pytest.mark.parametrize("pattern", [0x01, 0x80, 0xFF])
def test_arrays_are_correct_whichever_byte_is_damaged(path, build, pattern):
    load(path, build)
    whole = path.read_bytes()
    rebuilt = 0
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= pattern
        path.write_bytes(damaged)
        build.calls = 0
        load(path, build)
        rebuilt += build.calls
    # Some bytes of an archive carry no information.
    assert rebuilt > len(whole) / 3 / 3


def test_damaged_numbers_are_detected(path, build, caplog):
    load(path, build)
    content = path.read_bytes()
    numbers = np.arange(5).tobytes()
    assert content.count(numbers) == 1
    path.write_bytes(content.replace(numbers, np.arange(1, 6).tobytes()))
    load(path, build)
    assert build.calls == 2
    assert "Rebuilding" in caplog.text


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 half a zip"])
def test_a_foreign_file_is_replaced(path, build, content):
    path.parent.mkdir()
    path.write_bytes(content)
    load(path, build)
    load(path, build)
    assert build.calls == 1


def test_an_archive_from_another_program_is_replaced(path, build):
    path.parent.mkdir()
    np.savez(path, numbers=np.zeros(5), names=np.zeros(2))
    load(path, build)
    assert build.calls == 1


def test_pickles_are_not_loaded(path, build):
    path.parent.mkdir()
    np.savez(path, numbers=np.array([{"a": 1}], dtype=object), header=np.array("{}"))
    load(path, build)
    assert build.calls == 1


def test_a_truncated_file_is_rebuilt(path, build):
    load(path, build)
    path.write_bytes(path.read_bytes()[:-200])
    load(path, build)
    assert build.calls == 2


def test_a_cache_of_other_content_is_rebuilt(path, build):
    load(path, build)
    load(path, build, {**CONTENT, "count": 6})
    assert build.calls == 2


def test_an_unwritable_folder_only_disables_the_cache(tmp_path, build, caplog):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    load(blocker / "cache.npz", build)
    assert "continuing without it" in caplog.text


def test_the_configured_folder_takes_precedence_over_the_users(monkeypatch, tmp_path):
    assert cache_folder(str(tmp_path)) == tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("") == tmp_path / "xdg" / "emergent_icl"


def test_without_a_home_folder_nothing_is_cached(monkeypatch, caplog, build):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    # As Python does for a user unknown to the system.
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    path = cache_folder("") / "cache.npz"
    load(path, build)
    (line,) = caplog.messages
    assert line.startswith(f"Cannot write the cache {path} (")
