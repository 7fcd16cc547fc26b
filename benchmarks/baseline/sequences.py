"""Sequences of images made in Python, one at a time, and fed as numbers through tf.data."""

from __future__ import annotations

from collections.abc import Generator

import ml_collections
import numpy as np

from emergent_icl.data.bank import WHITE
from emergent_icl.data.sequences.classes import zipf_weights
from emergent_icl.data.tensorflow import import_tensorflow
from emergent_icl.training.build import Experiment

# (images float32 [S, H, W, 1] in [0, 1], labels int32 [S]); batched: [B, S, ...] and [B, S]
Sequence = tuple[np.ndarray, np.ndarray]


class SequenceMaker:
    """Makes bursty, few-shot and no-support sequences (paper section 2.1)."""

    def __init__(self, experiment: Experiment, seed: int = 0) -> None:
        """Takes bank, split and options from an experiment with images."""
        config, split = experiment.config, experiment.task.space.split
        self._config: ml_collections.ConfigDict = config
        self._images = experiment.bank.examples
        self._class_ids = split.class_ids
        self._holdout = np.asarray(split.places("holdout"))
        self._weights = zipf_weights(split.num_train, config.data.sequences.zipf_exponent)
        self._rng = np.random.default_rng(seed)

    def bursty(self) -> Sequence:
        """One training sequence."""
        options = self._config.data.sequences
        if self._rng.random() >= options.p_bursty:
            places = self._draw(options.seq_len)
        else:
            ways = self._draw(options.ways)
            burst = np.repeat(ways, options.shots)
            rest = self._draw(options.seq_len - 1 - len(burst))
            context = self._rng.permutation(np.concatenate([burst, rest]))
            places = np.append(context, self._rng.choice(ways))
        return self._show(places), places.astype(np.int32)

    def fewshot_holdout(self) -> Sequence:
        """Holdout classes, called 0, 1 ... anew."""
        options = self._config.evaluation
        ways = self._rng.choice(self._holdout, options.ways, replace=not options.distinct_ways)
        context = self._rng.permutation(np.repeat(np.arange(options.ways), options.shots))
        labels = np.append(context, self._rng.integers(options.ways)).astype(np.int32)
        return self._show(ways[labels]), labels

    def no_support_zipfian(self) -> Sequence:
        """A query whose class is absent from the context."""
        length = self._config.data.sequences.seq_len
        query = self._draw(1)
        weights = np.copy(self._weights)
        weights[query] = 0
        context = self._rng.choice(len(weights), length - 1, p=weights / weights.sum())
        places = np.append(context, query)
        return self._show(places), places.astype(np.int32)

    def _draw(self, count: int) -> np.ndarray:
        return self._rng.choice(len(self._weights), count, p=self._weights)

    def _show(self, places: np.ndarray) -> np.ndarray:
        """Looks up an image each; those of a class are different drawings."""
        drawings: dict[int, list[int]] = {}
        images = []
        for place in places:
            left = drawings.setdefault(int(place), [])
            if not left:
                left.extend(self._rng.permutation(self._images.shape[1]))
            images.append(self._images[self._class_ids[place], left.pop()])
        shown = np.stack(images)[..., None]
        if self._config.data.inverted:
            shown = WHITE - shown
        return shown.astype(np.float32) / WHITE


def training_batch(experiment: Experiment) -> Sequence:
    """One of the baseline's training batches, without TensorFlow."""
    maker = SequenceMaker(experiment)
    made = [maker.bursty() for _ in range(experiment.config.training.batch_size)]
    images, labels = zip(*made, strict=True)
    return np.stack(images), np.stack(labels)


def training_feed(experiment: Experiment) -> Generator[Sequence]:
    """The same through `tf.data.Dataset.from_generator`; never ends, to be closed.

    What lies ready in its buffer when it is asked first costs nothing, in its favor.

    Raises:
      ImportError: TensorFlow is not installed.
    """
    tf = import_tensorflow()
    maker = SequenceMaker(experiment)
    shape = (experiment.task.training.seq_len, *experiment.task.shape.example_shape, 1)
    signature = (tf.TensorSpec(shape, tf.float32), tf.TensorSpec(shape[:1], tf.int32))
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(maker.bursty, None), output_signature=signature
    )
    batches = dataset.batch(experiment.config.training.batch_size).prefetch(tf.data.AUTOTUNE)
    iterator = batches.as_numpy_iterator()
    try:
        yield from iterator
    finally:
        # Its threads call back into Python: they must end before the interpreter does.
        del iterator


def why_not(config: ml_collections.ConfigDict) -> str | None:
    """Why the original's way is not written for a config; None where it is."""
    data, sequences, model = config.data, config.data.sequences, config.model
    wanted = {
        "data.source is one of images": data.source in ("omniglot", "glyphs", "stand_in"),
        "data.drawings = 'all'": data.drawings == "all",
        "data.augment = False": not data.augment,
        "data.noise_scale = 0": data.noise_scale == 0,
        "data.random_rare_images = False": not data.random_rare_images,
        "data.sequences.type = 'bursty'": sequences.type == "bursty",
        "data.sequences.p_bursty_zipfian = 1": sequences.p_bursty_zipfian == 1,
        "data.sequences.non_bursty = 'zipfian'": sequences.non_bursty == "zipfian",
        "data.sequences.labeling = 'ordered'": sequences.labeling == "ordered",
        "data.sequences.label_multiplicity = 1": sequences.label_multiplicity == 1,
        "model.encoder is 'resnet' or 'mlp'": model.encoder in ("resnet", "mlp"),
        "model.sequence_model = 'transformer'": model.sequence_model == "transformer",
        "model.tokens = 'interleaved'": model.tokens == "interleaved",
        "model.positions = 'sinusoidal'": model.positions == "sinusoidal",
        "model without dropout": not (
            model.dropout or model.example_dropout or model.positional_dropout
        ),
        "training.interim_weight = 0": config.training.interim_weight == 0,
        "training.optimizer.name = 'adam'": config.training.optimizer.name == "adam",
    }
    missing = [text for text, holds in wanted.items() if not holds]
    return f"the original's way needs {', '.join(missing)}" if missing else None
