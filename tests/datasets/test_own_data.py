"""Users' own images and arrays: accepted layouts, and errors for all others."""

import fcntl
import os
import shutil

import h5py
import numpy as np
import pytest
import tiny
from launching import launch, train_flags
from PIL import Image

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import with_options
from emergent_icl.data.bank import NUM_VARIANTS
from emergent_icl.data.sources import images as images_source
from emergent_icl.data.sources.source import (
    DataUnavailableError,
    load_bank,
    source_classes,
    source_shape,
)
from emergent_icl.data.ticks import listening
from emergent_icl.runs.check import check
from emergent_icl.runs.open import load_run
from emergent_icl.runs.recorded_data import OtherDataError, record_data
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.training.replicas import make_replicas

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(40, 3, 4)).astype(np.float32)
PIXELS = RNG.integers(0, 256, size=(40, 3, 12, 12), dtype=np.uint8)
# As many exemplars as the longest sequence needs.
MANY = RNG.integers(0, 256, size=(40, 5, 12, 12), dtype=np.uint8)
EXAMPLES = {"features": VECTORS, "images": PIXELS}
SOURCES = pytest.mark.parametrize("source", EXAMPLES)


def config(source, path, **options):
    """A tiny config for 40 classes in a file or folder."""
    values = {f"data.{source}.{name}": value for name, value in options.items()}
    values |= {"data.source": source, f"data.{source}.path": str(path)}
    values["data.cache_dir"] = str(path.parent / "cache")
    return with_options(tiny.get_config("images" if source == "images" else "vectors"), values)


def assert_refused(source, path, message, **options):
    """Asserts that `check` refuses the config with a message that names option and file."""
    with pytest.raises(ConfigError, match=message) as raised:
        check(config(source, path, **options))
    assert f"data.{source}." in str(raised.value)
    assert path.name in str(raised.value)


def loaded(source, path, **options):
    """Loads the bank, and asserts that its shape and names were known in advance."""
    data = config(source, path, **options).data
    shape, bank = source_shape(data), load_bank(data)
    assert bank.examples.shape == (shape.num_classes, shape.num_exemplars, *shape.example_shape)
    assert tuple(source_classes(data).names()) == bank.class_names
    return bank


# ------------------------------------------------------------------ arrays


@SOURCES
@pytest.mark.parametrize("suffix", [".NPY", ".Npz", ".H5", ".HDF5"])
def test_extensions_may_be_in_capitals(source, suffix, tmp_path):
    path = tmp_path / f"own{suffix}"
    with open(path, "wb") as file:
        if "H" in suffix:
            with h5py.File(file, "w") as h5:
                h5["g/feat"] = EXAMPLES[source]
        else:
            (np.savez if suffix == ".Npz" else np.save)(file, EXAMPLES[source])
    bank = loaded(source, path)
    np.testing.assert_array_equal(bank.examples, EXAMPLES[source])
    assert bank.class_names[7] == "class 7"


@SOURCES
@pytest.mark.parametrize("name", ["", "g/feat", "/g/feat", "soft", "/hard", "away"])
def test_hdf5_links_and_paths_are_followed(source, name, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["deep/x"] = EXAMPLES[source]
    with h5py.File(tmp_path / "own.h5", "w") as file:
        if name == "away":
            file["away"] = h5py.ExternalLink("other.h5", "/deep/x")
        file["g/feat"] = EXAMPLES[source]
        file["soft"] = h5py.SoftLink("/g/feat")
        file["hard"] = file["g/feat"]
        file["back"] = h5py.SoftLink("/")
    bank = loaded(source, tmp_path / "own.h5", array=name)
    np.testing.assert_array_equal(bank.examples, EXAMPLES[source])


@SOURCES
def test_a_broken_link_is_refused(source, tmp_path):
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file["here"], file["there"] = EXAMPLES[source], h5py.ExternalLink("gone.h5", "/x")
    assert_refused(
        source, tmp_path / "own.h5", "there' is a link .* whose target is missing", array="there"
    )
    assert_refused(source, tmp_path / "own.h5", "array = '' must be one of here, there")


@SOURCES
def test_a_locked_file_is_refused_with_advice(source, tmp_path):
    path = tmp_path / "own.h5"
    with h5py.File(path, "w") as file:
        file["x"] = EXAMPLES[source]
    with open(path, "rb+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert_refused(
            source, path, "another program has locked it.*Close that program, or copy the file"
        )


def test_uint8_vectors_are_refused_with_advice_on_conversion(tmp_path):
    np.save(tmp_path / "own.npy", PIXELS[:, :, 0])
    assert_refused(
        "features", tmp_path / "own.npy", r"holds uint8.*x\.astype\('float32'\) keeps 0 to 255"
    )


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (PIXELS[0], r"shape \(3, 12, 12\); it must be classes x exemplars x H x W"),
        (PIXELS[:, :0], "none of them 0"),
        (PIXELS.astype(np.uint16), "holds uint16.*must be uint8, or floating-point numbers in"),
        (np.zeros((40, 3, 8, 8, 2)), "must be of 1 or 3 channels"),
    ],
)
def test_invalid_image_arrays_are_refused(array, message, tmp_path):
    np.save(tmp_path / "own.npy", array)
    assert_refused("images", tmp_path / "own.npy", message)


def test_masks_of_0_and_1_are_refused_with_advice(tmp_path):
    """As levels of gray, they would be nearly equal."""
    masks = (PIXELS > 127).astype(np.uint8)
    np.save(tmp_path / "own.npy", masks)
    with pytest.raises(DataUnavailableError, match=r"own\.npy' holds no level above 1, .*by 255"):
        loaded("images", tmp_path / "own.npy")
    np.save(tmp_path / "own.npy", masks * 255)
    assert {*np.unique(loaded("images", tmp_path / "own.npy").examples)} == {0, 255}


@pytest.mark.parametrize("wrong", [255.0, -0.1, np.nan])
def test_floating_point_images_must_lie_between_0_and_1(wrong, tmp_path):
    np.save(tmp_path / "own.npy", PIXELS / np.float32(255))
    np.testing.assert_array_equal(loaded("images", tmp_path / "own.npy").examples, PIXELS)
    array = np.ones((40, 3, 12, 12))
    array[5, 1, 2, 3] = wrong
    np.save(tmp_path / "own.npy", array)
    with pytest.raises(DataUnavailableError, match="example 1 of class 'class 5' has values from"):
        loaded("images", tmp_path / "own.npy")


@SOURCES
@pytest.mark.parametrize("place", ["same.npz", "same.h5", "second.npy"])
def test_labels_group_examples_into_classes(source, place, tmp_path):
    """Examples of a class keep their order; classes are sorted."""
    labels = np.array([f"kind {i:02}" for i in range(40)]).repeat(3)
    order = RNG.permutation(120)
    examples, expected = EXAMPLES[source].reshape(120, *EXAMPLES[source].shape[2:]), []
    for name in np.unique(labels):
        expected.append(examples[order][labels[order] == name])
    path, name = tmp_path / place, "y"
    if place == "same.npz":
        np.savez(path, x=examples[order], y=labels[order])
    elif place == "same.h5":
        with h5py.File(path, "w") as file:
            file["x"], file["y"] = examples[order], [str(label) for label in labels[order]]
    else:
        np.save(path, examples[order])
        name = "labels.npy"
        np.save(tmp_path / name, labels[order])
    bank = loaded(source, path, labels=name)
    np.testing.assert_array_equal(bank.examples, expected)
    assert bank.class_names[0] == "kind 00"


@SOURCES
def test_unequal_numbers_of_exemplars_need_an_option(source, tmp_path):
    path, flat = tmp_path / "own.npz", np.concatenate(EXAMPLES[source])
    np.savez(path, x=flat[:-1], y=np.repeat(np.arange(40), 3)[:-1])
    assert_refused(
        source, path, "class '39' has 2 exemplars, but class '0' has 3.*num_exemplars", labels="y"
    )
    assert_refused(source, path, "fewer than .*num_exemplars = 3", labels="y", num_exemplars=3)
    bank = loaded(source, path, labels="y", num_exemplars=2)
    np.testing.assert_array_equal(bank.examples, EXAMPLES[source][:, :2])
    np.save(tmp_path / "own.npy", EXAMPLES[source])
    assert loaded(source, tmp_path / "own.npy", num_exemplars=1).examples.shape[:2] == (40, 1)


@SOURCES
def test_invalid_labels_are_refused(source, tmp_path):
    path, flat = tmp_path / "own.npz", np.concatenate(EXAMPLES[source])
    np.savez(path, x=flat, short=np.zeros(5, int), real=np.zeros(120))
    for name, message in {
        "short": r"holds int64 of shape \(5,\); it must be integers or strings of shape \(120,\)",
        "real": "holds float64",
        "z": "labels = 'z' must be one of real, short, x",
        "own.npz.npy": r"labels = 'own\.npz\.npy'.*cannot be read: .*No such file",
    }.items():
        assert_refused(source, path, message, array="x", labels=name)


def test_color_images_without_labels_are_not_read_as_classes_of_pixel_rows(tmp_path):
    path = tmp_path / "own.npz"
    images = RNG.integers(0, 256, (40, 28, 28, 3), dtype=np.uint8)
    np.savez(path, x=images, y=np.arange(40) // 2)
    assert_refused("images", path, r"\[N, H, W, channels\] needs data\.images\.labels", array="x")
    assert loaded("images", path, array="x", labels="y").examples.shape[:2] == (20, 2)


# ------------------------------------------------------------------ folders of images


def folder(root, pixels=PIXELS, suffix=".png", name="class {:02}"):
    """A folder of images, one folder per class."""
    for index, exemplars in enumerate(pixels):
        place = root / name.format(index)
        place.mkdir(parents=True)
        for number, image in enumerate(exemplars):
            Image.fromarray(image).save(place / f"{number}{suffix}")
    return root


def test_a_folder_and_an_array_of_its_images_give_the_same_bank(tmp_path):
    for ignored in ("Thumbs.db", ".DS_Store", "class 00/desktop.ini", "__MACOSX/x.txt"):
        (tmp_path / "own" / ignored).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / ignored).touch()
    shutil.rmtree(tmp_path / "own" / "class 00")
    bank = loaded("images", folder(tmp_path / "own", suffix=".PNG"))
    np.testing.assert_array_equal(bank.examples, PIXELS)
    assert bank.class_names[3] == "class 03"
    np.save(tmp_path / "own.npy", PIXELS)
    assert load_bank(config("images", tmp_path / "own.npy").data).source == bank.source


def test_parent_folders_are_groups(tmp_path):
    path = folder(tmp_path / "own", MANY, name="alphabet {0}/character {0:02}")
    for index in range(1, 40):
        if index % 4:
            place = path / f"alphabet {index}" / f"character {index:02}"
            place.rename(path / f"alphabet {index - index % 4}" / place.name)
            place.parent.rmdir()
    grouped = with_options(
        config("images", path),
        {"data.split.groups": "parent", "data.split.holdout": ("alphabet 8", "alphabet 12")},
    )
    split = check(grouped)[0].task.space.split
    names = np.array(source_classes(grouped.data).names())
    held_out = names[split.class_ids[split.places("holdout")]]
    expected = [f"alphabet {n - n % 4}/character {n:02}" for n in range(8, 16)]
    assert sorted(held_out) == sorted(expected)
    wrong = with_options(grouped, {"data.split.groups": "alphabet"})
    with pytest.raises(ConfigError, match="must be '', 'parent'"):
        check(wrong)


def palette(image):
    return Image.merge("RGB", [image] * 3).quantize(256)


def transparent(image):
    """Dark pixels that become white because they are transparent."""
    alpha = image.point(lambda value: 255 - value)
    return Image.merge("LA", [Image.new("L", image.size, 0), alpha])


def rotated(image):
    return image.transpose(Image.Transpose.ROTATE_90)


ORIENTATION = Image.Exif()
ORIENTATION[0x0112] = 6  # Viewers rotate it by 270 degrees.
MODES = {
    "gray": (lambda image: image, {}),
    "color": (lambda image: Image.merge("RGB", [image] * 3), {}),
    "palette": (palette, {}),
    "alpha": (transparent, {}),
    "16 bits": (lambda image: Image.fromarray(np.asarray(image).astype(np.uint16) * 257), {}),
    "rotated": (rotated, {"exif": ORIENTATION}),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_png_is_decoded(mode, tmp_path):
    image = Image.fromarray(np.arange(0, 240, 10, np.uint8).reshape(4, 6))
    change, saved = MODES[mode]
    change(image).save(tmp_path / "x.png", **saved)
    decoded = images_source._decoded(str(tmp_path / "x.png"))
    assert decoded.mode == "L"
    np.testing.assert_allclose(np.asarray(decoded, int), np.asarray(image, int), atol=1)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg_is_decoded(mode, tmp_path):
    Image.new("L", (9, 5), 100).convert(mode).save(tmp_path / "x.JPEG")
    decoded = np.asarray(images_source._decoded(str(tmp_path / "x.JPEG")), int)
    assert decoded.shape == (5, 9)
    np.testing.assert_allclose(decoded, 100, atol=3)


def test_images_keep_their_proportions_and_are_padded_with_white(tmp_path):
    wide = np.zeros((40, 1, 20, 40), np.uint8)
    examples = loaded("images", folder(tmp_path / "own", wide, ".jpg")).examples
    assert examples.shape == (40, 1, 12, 12)
    assert examples[:, :, 3:9].max() < 5
    assert examples[:, :, :3].min() == examples[:, :, 9:].min() == 255


def test_invalid_folders_are_refused(tmp_path):
    path = folder(tmp_path / "own", PIXELS[:3])
    (path / "class 01" / "notes.txt").touch()
    assert_refused("images", path, r"class 01/notes\.txt is not a \.png, \.jpg, or \.jpeg image")
    (path / "class 01" / "notes.txt").rename(path / "class 01" / "3.png")
    assert_refused("images", path, "class 'class 00' has 3 exemplars, but class 'class 01' has 4")
    (path / "class 01" / "3.png").rename(path / "3.png")
    assert_refused("images", path, r"3\.png is not in a class folder; expected CLASS")
    (path / "3.png").unlink()
    assert_refused("images", path, "must be '', not 'x'", array="x")
    for place in path.iterdir():
        shutil.rmtree(place)
    assert_refused("images", path, "holds no images; expected CLASS")
    assert_refused("images", tmp_path / "gone", "must be an existing folder CLASS")


def test_a_damaged_image_is_named(tmp_path):
    path = folder(tmp_path / "own")
    for content in (b"not an image", (path / "class 00" / "0.png").read_bytes()[:-30]):
        (path / "class 07" / "1.png").write_bytes(content)
        with pytest.raises(DataUnavailableError, match=r"class 07/1\.png is not a readable image"):
            loaded("images", path)


def test_images_are_decoded_once_until_a_file_changes(tmp_path):
    path, ticks = folder(tmp_path / "own"), []
    with listening(lambda *tick: ticks.append(tick)):
        first = loaded("images", path)
        assert ticks[0] == ("reading images", 0, 40)
        assert ticks[-1] == ("reading images", 40, 40)
        ticks.clear()
        np.testing.assert_array_equal(loaded("images", path).examples, first.examples)
        assert not ticks
        Image.new("L", (12, 12), 7).save(path / "class 02" / "1.png")
        os.utime(path / "class 02" / "1.png", ns=(1, 1))
        changed = loaded("images", path)
    assert ticks
    assert (changed.examples[2, 1] == 7).all()
    assert changed.checksum != first.checksum
    assert changed.source != first.source


@pytest.mark.parametrize(
    ("option", "value", "classes"),
    [("drawings", "separated", 120), ("drawings", "single", 40), ("augment", True, 320)],
)
def test_drawings_and_augment_apply_to_users_images(option, value, classes, tmp_path):
    np.save(tmp_path / "own.npy", PIXELS)
    shown = with_options(config("images", tmp_path / "own.npy"), {f"data.{option}": value})
    assert source_shape(shown.data).num_classes == classes
    factor = NUM_VARIANTS if option == "augment" else 1
    assert len(load_bank(shown.data).examples) * factor == classes


@pytest.mark.faults
def test_a_run_on_a_folder_of_images_end_to_end(tmp_path):
    """Train, inspect and, after moving the folder, evaluate."""
    path, run = folder(tmp_path / "own", MANY), tmp_path / "run"
    options = {"source": "images", "images.path": path, "cache_dir": tmp_path / "cache",
               "inverted": True}  # fmt: skip
    flags = train_flags(run, "images", **{f"data.{name}": value for name, value in options.items()})
    assert launch("train", *flags, "--config.training.num_steps=20").returncode == 0
    assert launch("inspect_data", f"--workdir={run}", "--sample=100").returncode == 0
    assert [*run.glob("figures/sequences_*.png")]
    path.rename(tmp_path / "moved")
    evaluate = ("evaluate", f"--workdir={run}", "--num_sequences=200")
    assert "must be an existing folder" in launch(*evaluate).stderr
    done = launch(*evaluate, f"--images_path={tmp_path / 'moved'}")
    assert done.returncode == 0, done.stderr


def test_a_run_opens_only_with_the_images_it_was_trained_on(tmp_path):
    """They may have moved, or be stored in an array instead of a folder."""
    own, workdir = config("images", folder(tmp_path / "own", MANY)), Workdir(tmp_path / "run")
    workdir.make()
    record_data(workdir, load_bank(own.data), make_replicas(own), 0)
    workdir.claim(own)
    (workdir.checkpoints / "40").mkdir(parents=True)
    (tmp_path / "own").rename(tmp_path / "moved")
    np.save(tmp_path / "array.npy", MANY)
    np.save(tmp_path / "other.npy", MANY[::-1])
    for name in ("moved", "array.npy"):
        with pytest.raises(WorkdirError, match="the checkpoint of step 40"):
            load_run(workdir.path, overrides={"data.images.path": str(tmp_path / name)})
    with pytest.raises(OtherDataError, match="source: 'images, pixels"):
        load_run(workdir.path, overrides={"data.images.path": str(tmp_path / "other.npy")})
