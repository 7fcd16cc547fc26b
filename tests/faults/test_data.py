"""Damaged or missing data: errors come before any change, and their advice works."""

import os
import shutil
from pathlib import Path

import pytest
from conftest import needs_omniglot
from launching import Processes, end, only_message, records, train_flags

pytestmark = pytest.mark.faults

VERSION = Path("omniglot") / "3.0.0"
# Nothing listens on this port.
NO_NETWORK = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


def omniglot_flags(tmp_path, data):
    overrides = {
        "data.source": "omniglot",
        "data.image_size": 20,
        "data.split.num_rare": 1596,
        "data.split.num_holdout": 23,
        "data.data_dir": data,
        "data.cache_dir": tmp_path / "cache",
    }
    return train_flags(preset="images", **overrides)


def glyph_flags(cache):
    return train_flags(preset="images", **{"data.source": "glyphs", "data.cache_dir": cache})


def truncate(shard):
    os.truncate(shard, shard.stat().st_size // 2)


def flip_a_bit(shard):
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def empty(shard):
    os.truncate(shard, 0)


def remove(shard):
    shard.unlink()


@pytest.fixture
def dataset(tmp_path):
    """A copy of the real dataset."""
    source = Path(os.environ["TFDS_DATA_DIR"]) / VERSION
    return shutil.copytree(source, tmp_path / "data" / VERSION)


@needs_omniglot
@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, remove])
def test_a_damaged_shard_is_named_and_not_used(damage, dataset, tmp_path):
    folder, flags = tmp_path / "run", omniglot_flags(tmp_path, tmp_path / "data")
    shard = next(dataset.glob("omniglot-test.tfrecord*"))
    whole = shard.read_bytes()
    damage(shard)
    status, _, err = end(folder, flags)
    assert status == 1
    message = only_message(err)
    assert message.startswith(f"error: Omniglot in {dataset} is damaged (")
    assert "Copy that folder again, or remove it" in message
    assert not folder.exists()
    # Follow the advice.
    shard.write_bytes(whole)
    status, _, err = end(folder, flags)
    assert status == 0, err


def test_a_missing_dataset_is_reported_within_seconds(tmp_path):
    folder = tmp_path / "run"
    flags = omniglot_flags(tmp_path, tmp_path / "nowhere")
    with Processes(folder, flags, environment=NO_NETWORK) as process:
        status, _, err = process.wait(patience=60)
    assert status == 1
    message = only_message(err)
    assert message.startswith("error: Omniglot is not in ")
    assert "TFDS_DATA_DIR" in message
    assert not folder.exists()


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty])
def test_a_damaged_cache_is_rebuilt(damage, tmp_path):
    cache = tmp_path / "cache"
    status, _, err = end(tmp_path / "reference", glyph_flags(cache))
    assert (status, err) == (0, "")
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    damage(file)
    status, _, err = end(tmp_path / "run", glyph_flags(cache))
    assert status == 0, err
    assert err.startswith(f"Rebuilding the cache {file}: ")
    assert len(err.splitlines()) == 1
    assert len(file.read_bytes()) == len(whole)
    assert records(tmp_path / "run") == records(tmp_path / "reference")
