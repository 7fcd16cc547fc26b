"""Classes of sequences: roles, frequencies, labels, and exemplars.

Classes are identified by their *place* in the split: rare classes first, then common, then held-out
ones. `ClassSplit.class_ids` maps places to classes of the bank; `ClassSpace.places_of` inverts it.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np

from emergent_icl import randomness
from emergent_icl.data.sequences import sampling
from emergent_icl.data.sequences.split import ClassSplit


def zipf_weights(num_classes: int, exponent: float) -> np.ndarray:
    """Probabilities ~ 1 / rank^exponent by place, float64 [num_classes].

    The last place has rank 1, so common classes are the most frequent (paper section 3.2).
    """
    ranks = np.arange(num_classes, 0, -1, dtype=np.float64)
    # In logarithms, large exponents underflow to 0 instead of NaN.
    weights = np.exp(-exponent * np.log(ranks))
    return weights / weights.sum()


class SequenceBatch(NamedTuple):
    """Classes of the bank, their exemplars, and labels, int32 [..., B, S]; the query is last."""

    class_ids: np.ndarray
    exemplar_ids: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class ClassSpace:
    """The classes that sequences are drawn from.

    Attributes:
      split: roles of classes.
      num_bank_classes: classes in the bank, and number of 'original' labels.
      num_exemplars: exemplars shown per class.
      zipf_exponent: of the joint distribution over rare and common classes.
      zipf_within_roles: whether draws of only rare or only common classes follow it too, or are
        uniform (reference implementation: use_zipf_for_common_rare).
      label_multiplicity: labels per training class.
      num_shared_labels: number of 'shared' labels.
      draws: `data.sequences.draws`, how exemplars are drawn.
      exemplars: those shown, the same for each class, int [num_exemplars]; None for all.
      holdout_exemplars: those never trained on, int [n].
    """

    split: ClassSplit
    num_bank_classes: int
    num_exemplars: int
    zipf_exponent: float = 0.0
    zipf_within_roles: bool = False
    label_multiplicity: int = 1
    num_shared_labels: int = 32
    draws: int = 2
    exemplars: np.ndarray | None = None
    holdout_exemplars: np.ndarray | tuple[()] = ()

    def with_exemplars_held_out(self, seed: int, count: int) -> Self:
        """A copy that holds out `count` exemplars, chosen by the seed of the split."""
        rng, left = randomness.generator(seed, "holdout exemplars"), self.num_exemplars - count
        shown, held_out = np.split(rng.permutation(self.num_exemplars), [left])
        changes = {"exemplars": shown, "holdout_exemplars": held_out}
        return dataclasses.replace(self, num_exemplars=left, **changes)

    def of_holdout_exemplars(self) -> Self:
        """A copy that shows only held-out exemplars; raises ValueError if there are none."""
        held_out = self.holdout_exemplars
        if not len(held_out):
            raise ValueError(
                "evaluation.exemplars = 'holdout' needs data.split.num_holdout_exemplars above 0"
            )
        return dataclasses.replace(self, num_exemplars=len(held_out), exemplars=held_out)

    def distribution(self, role: str, uniform: bool = False) -> sampling.ClassDistribution:
        """The distribution of a role's classes; raises ValueError if there are none.

        `uniform` overrides the Zipf exponent.
        """
        places = self.split.places(role)
        if not places:
            needed = {"zipfian": "num_rare + num_common"}.get(role, f"num_{role}")
            raise ValueError(f"needs {role} classes, but data.split.{needed} is 0")
        weights = np.ones(len(places))
        if not uniform and (role == "zipfian" or (self.zipf_within_roles and role != "holdout")):
            joint = zipf_weights(self.split.num_train, self.zipf_exponent)
            weights = joint[places.start : places.stop]
        return sampling.ClassDistribution.from_weights(places.start, weights)

    def num_labels(self, labeling: str) -> int:
        """Number of labels under a fixed labeling ('ordered', 'original' or 'shared')."""
        if labeling == "original":
            return self.num_bank_classes
        if labeling == "shared":
            return self.num_shared_labels
        return self.label_multiplicity * self.split.num_train + self.split.num_holdout

    def first_labels(self, places: np.ndarray, labeling: str) -> np.ndarray:
        """First label of the class at each place, under a fixed labeling; int [...]."""
        if labeling == "original":
            return self.split.class_ids[places]
        if labeling == "shared":
            return places % self.num_shared_labels
        beyond = np.maximum(places - self.split.num_train, 0)
        return self.label_multiplicity * np.minimum(places, self.split.num_train) + beyond

    def labels_of(self, role: str, labeling: str) -> np.ndarray:
        """All labels of a role's classes under a fixed labeling; int64 [n]."""
        places = self.split.places(role)
        if labeling == "ordered":
            return np.arange(*self.first_labels(np.array([places.start, places.stop]), labeling))
        labels = self.first_labels(np.asarray(places, np.int64), labeling)
        return np.unique(labels) if labeling == "shared" else labels.astype(np.int64)

    def draw_labels(
        self,
        rng: np.random.Generator,
        places_BS: np.ndarray,
        occurrences: sampling.Occurrences,
        labeling: str,
    ) -> np.ndarray:
        """Draws labels under a fixed labeling, int [B, S].

        With label multiplicity X, the training class at place i owns labels X*i .. X*i + X-1; one
        is drawn per class and sequence.
        """
        labels = self.first_labels(places_BS, labeling)
        if labeling == "ordered" and self.label_multiplicity > 1:
            drawn = sampling.draw_per_class(rng, occurrences, self.label_multiplicity)
            labels = labels + np.where(places_BS < self.split.num_train, drawn, 0)
        return labels

    def places_of(self, class_ids: np.ndarray) -> np.ndarray:
        """Places of classes of the bank, the inverse of `split.class_ids`; int [...]."""
        place_of = np.zeros(self.num_bank_classes, np.int64)
        place_of[self.split.class_ids] = np.arange(len(self.split.class_ids))
        return place_of[class_ids]

    def roles_of(self, class_ids: np.ndarray) -> np.ndarray:
        """'rare', 'common', or 'holdout' for each class of the bank; str [...]."""
        places = self.places_of(class_ids)
        is_role = [places < self.split.num_rare, places < self.split.num_train]
        return np.select(is_role, ["rare", "common"], "holdout")

    def answers(self, labeling: str) -> np.ndarray:
        """Equal numbers for labels of the same class, under a fixed labeling; int [num_labels]."""
        labels = np.arange(self.num_labels(labeling))
        if labeling != "ordered":
            return labels
        owned = self.label_multiplicity * self.split.num_train
        return np.where(labels < owned, labels // self.label_multiplicity, labels)

    def batch(
        self,
        rng: np.random.Generator,
        places_BS: np.ndarray,
        make_labels: Callable[[sampling.Occurrences], np.ndarray],
    ) -> SequenceBatch:
        """Completes sequences of places: draws exemplars, makes labels, and looks up classes."""
        occurrences = sampling.find_occurrences(places_BS)
        exemplars = sampling.draw_exemplars(rng, occurrences, self.num_exemplars, self.draws)
        if self.exemplars is not None:
            exemplars = self.exemplars[exemplars]
        return SequenceBatch(
            self.split.class_ids[places_BS],
            exemplars.astype(np.int32),
            make_labels(occurrences).astype(np.int32),
        )
