"""Split of classes into rare, common, and held-out ones, drawn by a seed or named.

No group of classes has members in both training and holdout.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_collections
import numpy as np

from emergent_icl.config.check import ConfigError
from emergent_icl.config.registry import nearest_name
from emergent_icl.config.rules import CLASSES

ROLES = ("rare", "common", "holdout")


def read_split(path: Path) -> dict[str, tuple[str | int, ...]]:
    """Reads {role: (name or number of a class, or name of a group, ...)} from a JSON file.

    Raises ConfigError if the file cannot be read or is invalid.
    """
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError([f"--split={path} cannot be read as JSON: {error}"]) from error
    if not isinstance(lists, dict) or not lists or not set(lists) <= {*ROLES}:
        expected = f"an object with lists under one or more of {', '.join(ROLES)}"
        raise ConfigError([f"--split={path} must hold {expected}"])
    for role, entries in lists.items():
        if not isinstance(entries, list) or not CLASSES.allows(tuple(entries)):
            raise ConfigError([f"--split={path}: '{role}' must be {CLASSES.text}"])
    return {role: tuple(entries) for role, entries in lists.items()}


class SourceClasses(NamedTuple):
    """The classes of a data source, before drawings are separated and images are augmented.

    Attributes:
      num_classes: their number; each is shown as one or more consecutive classes.
      names: returns their names; called only if a split names classes.
      groups: name of each class's group; None if every class is its own group.
    """

    num_classes: int
    names: Callable[[], Sequence[str]]
    groups: Sequence[str] | None = None


class ClassSplit(NamedTuple):
    """Rare, common, and held-out classes.

    `class_ids`, int32 [num_rare + num_common + num_holdout], maps places to classes of the bank.
    `num_holdout_groups` counts the groups of the held-out classes.
    """

    class_ids: np.ndarray
    num_rare: int
    num_common: int
    num_holdout: int
    num_holdout_groups: int

    @property
    def num_train(self) -> int:
        """Number of rare and common classes."""
        return self.num_rare + self.num_common

    def places(self, role: str) -> range:
        """Places of the 'zipfian' (rare and common), 'rare', 'common', or 'holdout' classes."""
        return {
            "zipfian": range(self.num_train),
            "rare": range(self.num_rare),
            "common": range(self.num_rare, self.num_train),
            "holdout": range(self.num_train, self.num_train + self.num_holdout),
        }[role]


def split_classes(
    split: ml_collections.ConfigDict,
    num_classes: int,
    group_size: int = 1,
    source: SourceClasses | None = None,
) -> ClassSplit:
    """Splits classes by a seeded permutation, as in the reference implementation, or by name.

    Units of the permutation are `group_size` consecutive classes, variants of one another. Rare
    classes come first, then common ones; held-out ones come last. Named classes keep the order of
    the permutation. With groups, classes are held out from the last groups of a second permutation,
    and the rest of these groups is not used.

    Raises ValueError if there are too few classes, named classes do not exist or do not match their
    number, or a group would be divided.
    """
    source = source or SourceClasses(num_classes, lambda: [str(i) for i in range(num_classes)])
    _check_counts(split, num_classes, group_size)
    rng, num_units = np.random.default_rng(split.seed), num_classes // group_size
    ranked = rng.choice(num_units, num_units, replace=False)
    order = (ranked[:, None] * group_size + np.arange(group_size)).ravel()
    group_of = np.arange(num_classes) // group_size
    if source.groups is not None:
        group_of = _number_groups(split, source, num_classes, group_size)
        ranked = rng.permutation(group_of.max() + 1)
    named = _named_classes(split, source, num_classes)
    held_out = _held_out_groups(split, source, named, group_of, ranked)
    is_left = ~np.isin(group_of, held_out)
    is_left[np.concatenate([*named.values()])] = False
    left, drawable = order[is_left[order]], order[np.isin(group_of[order], held_out)]
    num_rare = 0 if len(named["rare"]) else split.num_rare
    drawn = {
        "rare": left[:num_rare],
        "common": left[num_rare:][: split.num_common],
        "holdout": drawable[max(len(drawable) - split.num_holdout, 0) :],
    }
    drawn |= {role: order[np.isin(order, ids)] for role, ids in named.items() if len(ids)}
    found = {role: len(ids) for role, ids in drawn.items()}
    if any(count != split[f"num_{role}"] for role, count in found.items()):
        counts = [f"{count} for num_{one} = {split[f'num_{one}']}" for one, count in found.items()]
        raise ValueError(
            f"data.split: with seed = {split.seed} and groups = '{split.groups}' classes are held "
            f"out from {len(held_out)} groups, none of which is trained on. There are "
            f"{', '.join(counts)}: lower them"
        )
    class_ids = np.concatenate([drawn[role] for role in ROLES]).astype(np.int32)
    rare, common, holdout = found.values()
    return ClassSplit(class_ids, rare, common, holdout, len(np.unique(group_of[drawn["holdout"]])))


def _check_counts(split: ml_collections.ConfigDict, num_classes: int, group_size: int) -> None:
    """Raises ValueError for numbers that no permutation can satisfy."""
    num_train, num_holdout = split.num_rare + split.num_common, split.num_holdout
    if (wanted := num_train + num_holdout) > num_classes:
        raise ValueError(
            f"data.split: num_rare + num_common + num_holdout = {wanted}, "
            f"but the data has {num_classes} classes"
        )
    if num_classes % group_size:
        raise ValueError(
            f"the data source has {num_classes} classes, which is not a multiple of its groups "
            f"of {group_size} variants"
        )
    num_groups = num_classes // group_size
    needed = math.ceil(num_train / group_size) + math.ceil(num_holdout / group_size)
    if needed > num_groups:
        raise ValueError(
            f"data.split: num_rare + num_common = {num_train} and num_holdout = {num_holdout} "
            f"need {needed} groups of {group_size} variants, which stay on one side of the "
            f"split, but the data has {num_groups}"
        )


def _number_groups(
    split: ml_collections.ConfigDict, source: SourceClasses, num_classes: int, group_size: int
) -> np.ndarray:
    """Number of each class's group, int [num_classes]."""
    _, group_of = np.unique(np.asarray(source.groups), return_inverse=True)
    group_of = group_of.repeat(num_classes // source.num_classes)
    units = group_of.reshape(-1, group_size)
    if (units != units[:, :1]).any():
        raise ValueError(
            f"data.split.groups = '{split.groups}' would divide the source's own groups of "
            f"{group_size} variants"
        )
    return group_of


def _named_classes(
    split: ml_collections.ConfigDict, source: SourceClasses, num_classes: int
) -> dict[str, np.ndarray]:
    """Named classes of each role, as shown, int [n]; none if they are drawn."""
    shown, named = num_classes // source.num_classes, {}
    for role in ROLES:
        classes = _find(f"data.split.{role}", split[role], source)
        count, number = len(classes) * shown, split[f"num_{role}"]
        if count not in (0, number):
            variants = f" x {shown} variants = {count}" if shown > 1 else ""
            raise ValueError(
                f"data.split.{role} names {len(classes)} classes{variants}: data.split.num_{role} "
                f"= {number} must be {count}"
            )
        named[role] = (classes[:, None] * shown + np.arange(shown)).ravel()
    for role, other in itertools.combinations(ROLES, 2):
        if len(both := np.intersect1d(named[role], named[other])):
            number = both[0] // shown
            raise ValueError(
                f"data.split.{role} and data.split.{other} both name '{source.names()[number]}' "
                f"(class {number})"
            )
    return named


def _find(path: str, entries: Sequence[str | int], source: SourceClasses) -> np.ndarray:
    """The source's classes in a list of names and numbers, each once; int [n].

    Names of groups take precedence over names of classes.
    """
    known = _members(source.groups or ())
    # Only if necessary: some sources have to load their data to know names.
    if any(isinstance(entry, str) and entry not in known for entry in entries):
        known = _members(source.names()) | known
    found: list[int] = []
    for entry in entries:
        if entry in known:
            found += known[entry]
        elif isinstance(entry, int) and entry < source.num_classes:
            found.append(entry)
        else:
            example = f" (such as '{next(iter(known))}')" if known else ""
            raise ValueError(
                f"{path}: {entry!r} must be the name of a class or group{example}, or the number "
                f"of a class from 0 to {source.num_classes - 1}{nearest_name(entry, known)}"
            )
    return np.unique(np.array(found, np.int64))


def _members(names: Iterable[str]) -> dict[str, list[int]]:
    """Maps names to the numbers of all classes that have them."""
    members: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        members.setdefault(str(name), []).append(number)
    return members


def _held_out_groups(
    split: ml_collections.ConfigDict,
    source: SourceClasses,
    named: dict[str, np.ndarray],
    group_of: np.ndarray,
    ranked: np.ndarray,
) -> np.ndarray:
    """Groups not trained on: those of named classes, or the last ones with enough classes."""
    trained = group_of[np.concatenate([named["rare"], named["common"]])]
    if not len(named["holdout"]):
        usable = ranked[~np.isin(ranked, trained)][::-1]
        missing = split.num_holdout - np.bincount(group_of)[usable].cumsum()
        return usable[: np.count_nonzero(missing > 0) + (split.num_holdout > 0)]
    held_out = np.unique(group_of[named["holdout"]])
    if len(divided := np.intersect1d(held_out, trained)):
        first = int(np.argmax(group_of == divided[0])) * source.num_classes // len(group_of)
        raise ValueError(
            f"data.split.holdout and data.split.rare or common name classes of the group "
            f"'{(source.groups or source.names())[first]}', which stays on one side of the split "
            f"(data.split.groups = '{split.groups}')"
        )
    return held_out
