"""A small class space, and draws from every sequence type over it."""

import dataclasses

import numpy as np

from emergent_icl.config.registry import EVALUATION_MODES
from emergent_icl.data.sequences.classes import ClassSpace
from emergent_icl.data.sequences.split import ClassSplit
from emergent_icl.data.sequences.types import FewshotOptions, SequenceOptions

RARE, COMMON, HOLDOUT = 20, 6, 8
TRAIN = RARE + COMMON
# Bank classes in reverse order, so that confusing places with class numbers is detected.
CLASS_IDS = np.arange(100, 100 - TRAIN - HOLDOUT, -1, dtype=np.int32)
SPLIT = ClassSplit(CLASS_IDS, RARE, COMMON, HOLDOUT, HOLDOUT)
SPACE = ClassSpace(SPLIT, num_bank_classes=101, num_exemplars=20)
OPTIONS = SequenceOptions()
ROLES = {role: SPLIT.places(role) for role in ("rare", "common", "zipfian", "holdout")}
FEWSHOT = ("fewshot_rare", "fewshot_common", "fewshot_zipfian", "fewshot_holdout")
# Types that read the few-shot options.
READ_FEWSHOT = (*FEWSHOT, "flip", "mixed")
# Types whose classes keep their labels.
KEEP_LABELS = ("bursty", "no_support_common", "no_support_rare", "no_support_zipfian")


def draw(name, batch_size=2000, seed=1, space=SPACE, **options):
    """Returns the sequence type `name` with the given options, and a batch of it."""
    if name in READ_FEWSHOT:
        known = {field.name for field in dataclasses.fields(FewshotOptions)}
        # Other types read the labeling of training.
        known -= set() if name in FEWSHOT else {"labeling"}
        chosen = {key: options.pop(key) for key in known & options.keys()}
        options["fewshot"] = FewshotOptions(**chosen)
    kind = EVALUATION_MODES[name](space, dataclasses.replace(OPTIONS, **options))
    return kind, kind.sample(np.random.default_rng(seed), batch_size)


def many_classes(count=50_000):
    """A space with so many classes that chance repeats are rare."""
    return ClassSpace(ClassSplit(np.arange(count, dtype=np.int32), count, 0, 0, 0), count, 20)


def places(batch):
    """Places of the classes of a batch."""
    return 100 - batch.class_ids
