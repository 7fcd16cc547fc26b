"""Splits by lists, groups, and files: no group is both trained on and held out."""

import json

import numpy as np
import pytest
from conftest import needs_omniglot
from hypothesis import given, settings
from hypothesis import strategies as st
from launching import launch
from ml_collections import ConfigDict
from tiny import get_config

from emergent_icl.config.check import ConfigError
from emergent_icl.config.identity import identity
from emergent_icl.data.sequences.split import (
    ROLES,
    SourceClasses,
    read_split,
    split_classes,
)
from emergent_icl.presets import omniglot
from emergent_icl.runs.check import check
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.training.warnings import warnings

LISTS = dict.fromkeys(ROLES, ())


def options(num_rare, num_common, num_holdout, seed=1337, **names):
    numbers = {"num_rare": num_rare, "num_common": num_common, "num_holdout": num_holdout}
    return ConfigDict({"seed": seed, "groups": "given", **numbers, **LISTS, **names})


def source(groups=None, count=None):
    count = len(groups) if count is None else count
    return SourceClasses(count, lambda: [f"name {i}" for i in range(count)], groups)


def split_of(preset="symbols", **split):
    config = get_config(preset).unlock()
    config.data.split.update(split)
    return check(config)[0].task.space.split


# ------------------------------------------------------------------------------ groups


@settings(max_examples=150)
@given(
    groups=st.lists(st.integers(0, 8), min_size=1, max_size=40),
    shown=st.sampled_from((1, 2)),
    counts=st.tuples(st.integers(0, 20), st.integers(0, 5), st.integers(0, 20)),
    seed=st.integers(0, 3),
)
def test_no_group_is_on_both_sides_of_the_split(groups, shown, counts, seed):
    given_to, of_shown = source([f"g{group}" for group in groups]), np.repeat(groups, shown)
    try:
        split = split_classes(options(*counts, seed), len(of_shown), shown, given_to)
    except ValueError:
        # A refused split would have left over less than the largest group.
        assert sum(counts) + max(np.bincount(of_shown)) > len(of_shown)
        return
    assert (split.num_rare, split.num_common, split.num_holdout) == counts
    assert len(set(split.class_ids.tolist())) == sum(counts)
    sides = of_shown[split.class_ids]
    train, holdout = set(sides[: split.num_train]), set(sides[split.num_train :])
    assert not train & holdout
    assert split.num_holdout_groups == len(holdout)


def test_groups_are_held_out_at_random_and_mixed_in_training():
    groups = [f"alphabet {i // 20}" for i in range(400)]
    held_out, first_twenty = set(), []
    for seed in range(40):
        split = split_classes(options(300, 0, 40, seed), 400, 1, source(groups))
        of_place = split.class_ids // 20
        held_out |= set(of_place[300:])
        first_twenty.append(len(set(of_place[:20])))
    assert len(held_out) == 20
    # Frequencies follow places, so alphabets must not have frequencies of their own.
    assert np.mean(first_twenty) > 8


def test_without_groups_and_lists_the_split_is_that_of_earlier_versions():
    plain = split_classes(options(1603, 10, 10), 1623)
    assert plain.class_ids[:5].tolist() == [318, 1589, 543, 304, 851]
    by_character = split_classes(options(1603, 10, 10), 1623, 1, source(count=1623))
    np.testing.assert_array_equal(plain.class_ids, by_character.class_ids)
    config = get_config("symbols")
    older = ConfigDict({**config.to_dict()})
    for name in ("groups", *ROLES):
        del older.data.split[name]
    assert identity(older) == identity(config)


def rotations(folder, suffix=".npz"):
    """A config of 30 characters in 4 rotations each, which are separate classes in random order."""
    characters = np.repeat(np.arange(30), 4)[np.random.default_rng(0).permutation(120)]
    vectors = np.random.default_rng(1).normal(size=(120, 5, 8))
    path = folder / f"rotated{suffix}"
    np.savez(path, vectors=vectors, character=characters, short=characters[:-1])
    config = get_config("vectors").unlock()
    config.data.source = "features"
    config.data.features.update(path=str(path), array="vectors")
    config.data.split.update(num_rare=80, num_common=4, num_holdout=20)
    return config, characters


def test_groups_prevent_leakage_between_rotations(tmp_path):
    config, characters = rotations(tmp_path)

    def shared():
        split = check(config)[0].task.space.split
        train, holdout = np.split(characters[split.class_ids], [split.num_train])
        return split, set(train) & set(holdout)

    assert len(shared()[1]) > 10  # Nothing states which classes belong together.
    config.data.split.groups = "character"
    split, both = shared()
    assert not both
    assert split.num_holdout_groups == 5
    (warning,) = (w for w in warnings(config, check(config)[0].task) if "holdout" in w)
    assert "20 holdout classes, of 5 groups ('character')" in warning


def test_a_run_refuses_other_groups(tmp_path):
    config, _ = rotations(tmp_path)
    config.data.split.groups = "character"
    workdir = Workdir(tmp_path / "run")
    workdir.claim(config)
    assert Workdir(tmp_path / "run").read_config().data.split.groups == "character"
    workdir.check(config)
    config.data.split.groups = ""
    with pytest.raises(WorkdirError, match=r"data\.split\.groups: 'character' there, '' here"):
        workdir.check(config)


def test_a_number_groups_consecutive_classes_of_the_source():
    split = split_of(groups="4", num_rare=26, num_common=2, num_holdout=8)
    assert split.num_holdout_groups == 2
    assert not set(split.class_ids[28:] // 4) & set(split.class_ids[:28] // 4)
    # Each class of the source has 8 variants: flips and rotations.
    config = get_config("images").unlock()
    config.data.augment = True
    config.data.split.update(groups="4", num_rare=200, num_holdout=60)
    split = check(config)[0].task.space.split
    assert split.num_holdout_groups == 2
    assert not set(split.class_ids[204:] // 32) & set(split.class_ids[:204] // 32)


# ------------------------------------------------------------------------------- lists


@settings(max_examples=60)
@given(
    rare=st.sets(st.integers(0, 19), max_size=6),
    holdout=st.sets(st.integers(20, 39), max_size=6),
    seed=st.integers(0, 3),
)
def test_named_classes_have_their_role_and_the_others_are_drawn(rare, holdout, seed):
    lists = {"rare": tuple(rare), "holdout": tuple(f"name {i}" for i in holdout)}
    counts = len(rare) or 10, 4, len(holdout) or 8
    split = split_classes(options(*counts, seed, **lists), 40, 1, source(count=40))
    found = [set(split.class_ids[list(split.places(role))].tolist()) for role in ROLES]
    assert [len(classes) for classes in found] == list(counts)
    assert len(set(split.class_ids.tolist())) == sum(counts)
    assert not rare or found[0] == rare
    assert not holdout or found[2] == holdout


def test_the_seed_orders_named_classes_and_draws_the_others():
    splits = [split_of(seed=seed, holdout=(*range(8),)) for seed in (0, 1)]
    first, second = (split.class_ids for split in splits)
    assert set(first[32:]) == set(second[32:]) == set(range(8))
    assert (first[32:] != second[32:]).any()
    assert (first[:32] != second[:32]).any()


def test_a_class_name_covers_all_variants_and_a_group_name_all_classes(tmp_path):
    config = get_config("images").unlock()
    config.data.augment = True
    config.data.split.update(holdout=("glyph 3", 7), num_holdout=16)
    split = check(config)[0].task.space.split
    assert set(split.class_ids[32:]) == {*range(24, 32), *range(56, 64)}
    config, characters = rotations(tmp_path)
    config.data.split.update(groups="character", holdout=("17", "4"), num_holdout=8)
    split = check(config)[0].task.space.split
    assert characters[split.class_ids[84:]].tolist().count(17) == 4
    assert set(characters[split.class_ids[84:]]) == {17, 4}
    # Even if group names are numeric, an integer is the number of a class.
    config.data.split.update(holdout=(17, 4), num_holdout=2)
    assert set(check(config)[0].task.space.split.class_ids[84:]) == {17, 4}


WRONG = [
    ({"holdout": ("cloud 3", "clod 4")}, r"data\.split\.holdout: 'clod 4' must be the name of a "
     r"class or group \(such as 'cloud 0'\), or the number of a class from 0 to 39; did you mean"),
    ({"rare": (40,)}, r"data\.split\.rare: 40 must be the name of a class or group, or the number"),
    ({"rare": (-1,)}, r"data\.split\.rare = \(-1,\) must be a tuple of names of classes"),
    ({"holdout": (1, 2)}, r"names 2 classes: data\.split\.num_holdout = 8 must be 2"),
    ({"rare": (1, 2), "num_rare": 2, "holdout": (2, 3), "num_holdout": 2},
     r"data\.split\.rare and data\.split\.holdout both name 'cloud 2' \(class 2\)"),
    ({"groups": "4", "common": (0,), "num_common": 1, "holdout": (1, 2), "num_holdout": 2},
     r"rare or common name classes of the group 'group 0', which stays on one side"),
    ({"groups": "7"}, r"data\.split\.groups = '7' must be '' or a number n that divides 40"),
    ({"groups": "alphabet"}, r"data\.split\.groups = 'alphabet' must be '' or a number n"),
    ({"groups": "20"}, r"held out from 1 groups, none .* There are 20 for num_rare = 28, 0 for"),
]  # fmt: skip


@pytest.mark.parametrize(("split", "message"), WRONG)
def test_an_invalid_split_is_refused_with_field_value_and_allowed_values(split, message):
    with pytest.raises(ConfigError, match=message):
        split_of("vectors", **split)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("charakter", "'charakter'.* must be one of character"),
        ("short", r"shape \(119,\); it must"),
    ],
)
def test_an_invalid_array_of_groups_is_refused(groups, message, tmp_path):
    config, _ = rotations(tmp_path)
    config.data.split.groups = groups
    with pytest.raises(ConfigError, match=message):
        check(config)


def test_groups_must_not_divide_variants():
    with pytest.raises(ValueError, match="would divide the source's own groups of 2 variants"):
        split_classes(options(2, 0, 2), 6, 2, source(["a", "a", "a", "b", "b", "b"]))


# -------------------------------------------------------------------------------- file


def test_a_file_of_lists_becomes_part_of_the_config(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"holdout": [3, "5", 7], "common": [1]}))
    assert read_split(path) == {"holdout": (3, "5", 7), "common": (1,)}
    numbers = ["--config.data.split.num_common=1", "--config.data.split.num_holdout=3"]
    arguments = ["--config=tests/tiny.py", f"--split={path}", *numbers, "--nomeasure"]
    done = launch("describe", *arguments)
    assert done.returncode == 0, done.stderr
    assert "28 rare, 1 common, 3 held out" in done.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read as JSON"),
        ("[1, 2]", "must hold an object with lists under one or more of rare, common, holdout"),
        ('{"held_out": [1]}', "under one or more of rare"),
        ('{"holdout": [1.5]}', "'holdout' must be a tuple of names"),
        ('{"holdout": "all"}', "'holdout' must be a tuple of names"),
    ],
)
def test_an_invalid_split_file_is_refused(content, message, tmp_path):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_split(tmp_path / "split.json")


# ---------------------------------------------------------------------------- Omniglot


@needs_omniglot
def test_omniglot_by_alphabet():
    config = omniglot.get_config("small").unlock()
    config.data.split.update(groups="alphabet", num_rare=1400)
    split = check(config)[0].task.space.split
    assert split.num_holdout_groups == 4
    by_character = config.copy_and_resolve_references()
    by_character.data.split.groups = ""
    plain = check(by_character)[0].task.space.split
    by_character.data.split.groups = "character"
    assert check(by_character)[0].task.space.split.num_holdout_groups == 100
    assert plain.num_holdout_groups == 100
    config.data.split.update(holdout=("Angelic", "ULOG"), num_holdout=46)
    split = check(config)[0].task.space.split
    assert set(split.class_ids[1400:]) == {*range(964, 984), *range(1597, 1623)}
    config.data.split.groups = "alphabets"
    with pytest.raises(ConfigError, match="must be '', 'alphabet', 'character', or a number n"):
        check(config)
