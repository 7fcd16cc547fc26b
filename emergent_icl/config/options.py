"""Every option, one row each: flags, checks, and docs/options.md are derived from this table.

To add an option, add a row (see Option) and run `make docs`.
"""

from emergent_icl.config import registry, rules
from emergent_icl.config.rules import LABELINGS, Option, integer, integers, number, one_of, section
from emergent_icl.config.run_options import RUN_OPTIONS

# Limit of generated data.
MOST_CLASSES = 1_000_000
# Of tables: 4 GiB at width 64.
MOST_ROWS = 2**24
# Help that several options share.
_ROLES = (
    "Number of classes in this role. Roles are assigned in the order of the split's permutation: "
    "rare, common, holdout. Holdout classes are never trained on."
)
_CLASSES = (
    "Classes of this role, `num_*` in total: names of classes or groups, or class numbers; () "
    "draws them at random. --split=FILE reads the three lists from a JSON file."
)
_BURSTS = (
    "Bursty and few-shot sequences: draw `ways` classes, with `shots` examples each in the context."
)
_ARRAY = "Name of the array in a .npz or .h5 file; '' if there is only one."
_OWN = {
    "labels": Option("", rules.STRING, "Labels (integers or strings) that assign the examples of "
        "an array [N, ...] to classes: the name of an array [N] in the same file, or a .npy file, "
        "relative to that file's folder. Classes are numbered in sorted order of their labels.",
        before=""),
    "num_exemplars": Option(None, rules.OPTIONAL_COUNT, "Exemplars per class: the first ones in "
        "sorted or stored order. none: all; every class must have the same number.", before=None),
}  # fmt: skip
_STROKES = "Minimum and maximum number of strokes (cubic Bezier curves) per character."
_PEN_WIDTH = "Minimum and maximum pen width, as a fraction of the image side."

# fmt: off
OPTIONS: dict[str, Option] = {
    "name": Option("base", rules.STRING, "Name of the experiment in summaries and figures."),
    **section("data", {
        "source": Option("omniglot", one_of(registry.DATA_SOURCES),
            "Data source: 'omniglot', 'glyphs' (procedural characters), 'gaussian' (clusters of "
            "vectors), 'images' (your own images), 'features' (your own vectors), or 'symbolic' "
            "(integers)."),
        "data_dir": Option("", rules.STRING, "Folder of TFDS datasets, or a file that "
            "prepare-data wrote; '' means TFDS_DATA_DIR or, if unset, TFDS's own default. Images "
            "already in data.cache_dir are taken from there.",
            per_machine=True, reopenable=True),
        "cache_dir": Option("", rules.STRING, "Cache folder for decoded and generated images; "
            "'' means the user's cache folder.", per_machine=True, reopenable=True),
        "image_size": Option(105, integer(8, 105), "Height and width in pixels, 8 to 105. Below "
            "105, Omniglot is resized with antialiasing."),
        "drawings": Option("all", one_of(("all", "single", "separated")),
            "Drawings of each class to show: 'all', 'single' (only the first), or 'separated' "
            "(each drawing is its own class; drawings of one character stay on one side of the "
            "split). No effect on 'gaussian' and 'symbolic', which store one example per class.",
            per_replica=True),
        "augment": Option(False, rules.BOOLEAN, "Treat flips and 90-degree rotations as separate "
            "classes, 8 per class: class 8 c + 4 flip + rotation."),
        "random_rare_images": Option(False, rules.BOOLEAN, "Show rare classes as random binary "
            "images, drawn independently for each class and sequence."),
        "inverted": Option(False, rules.BOOLEAN,
            "False: background 1 and ink 0, as in the dataset and the paper. True: background 0 "
            "and ink 1, from which encoders without normalization learn much faster."),
        "noise_scale": Option(0.0, number(0, 100), "Variation drawn each time an example is "
            "shown: standard deviation of Gaussian noise on every pixel in [0, 1] (unclipped) or "
            "vector component. For 'gaussian' it is epsilon: an exemplar is (mean + epsilon * "
            "noise) / sqrt(1 + epsilon^2).", per_replica=True, reopenable=True),
        "feeder": Option("auto", one_of(registry.FEEDERS, ("auto",)),
            "How batches reach the training loop: 'tfdata', 'python', or 'auto' (tf.data for "
            "images or several hosts, if TensorFlow is installed). All yield the same batches.",
            per_machine=True),
    }),
    **section("data.split", {
        "seed": Option(1337, rules.SEED,
            "Seed of the permutation that decides which classes are rare, common, and held out; "
            "1337 in the reference implementation."),
        "num_rare": Option(1603, integer(0), _ROLES),
        "num_common": Option(10, integer(0), _ROLES),
        "num_holdout": Option(10, integer(0), _ROLES),
        "num_holdout_exemplars": Option(0, integer(0), "Exemplars per class that are never "
            "trained on: the last ones of a permutation by the split's seed, the same for every "
            "class. Shown in evaluation if evaluation.exemplars is 'holdout'.", before=0),
        "groups": Option("", rules.STRING, "Groups of classes that stay on one side of the "
            "split between training and holdout. '': the variants of a class; a number n: n "
            "consecutive classes of the source; for Omniglot, 'alphabet' or 'character'; for a "
            "folder of images, 'parent'; for your own file, the name of an array [classes] in it.",
            before=""),
        "rare": Option((), rules.CLASSES, _CLASSES, before=()),
        "common": Option((), rules.CLASSES, _CLASSES, before=()),
        "holdout": Option((), rules.CLASSES, _CLASSES, before=()),
    }, per_replica=True),
    **section("data.sequences", {
        "type": Option("bursty", one_of(registry.SEQUENCE_TYPES),
            "Type of training sequences: 'bursty' (the paper's), 'relabelled' (new labels in every "
            "sequence), 'mixed' (few-shot and ordinary sequences), 'flip' (two classes exchange "
            "their labels), 'no_support_*', or 'fewshot_*' (common, rare, or zipfian)."),
        # For longer sequences, sampling would take longer than training.
        "seq_len": Option(9, integer(2, 257), "Examples per sequence, including the query."),
        "shots": Option(3, integer(1), _BURSTS),
        "ways": Option(2, integer(1), _BURSTS),
        "p_bursty": Option(0.9, rules.PROBABILITY,
            "Fraction of bursty sequences, in [0, 1]. (All 'relabelled' sequences are bursty.)"),
        "p_bursty_zipfian": Option(1.0, rules.PROBABILITY, "Fraction of bursty sequences whose "
            "classes are drawn from the joint Zipf distribution."),
        "p_bursty_common": Option(0.0, rules.PROBABILITY,
            "Fraction of bursty sequences in which common classes are bursty among rare ones. In "
            "the remaining bursty sequences rare classes are bursty among common ones."),
        "non_bursty": Option("zipfian", one_of(("zipfian", "common_uniform", "common_no_support")),
            "Type of non-bursty sequences: 'zipfian', 'common_uniform', or 'common_no_support'."),
        "grouped": Option(False, rules.BOOLEAN,
            "Bursty examples come in blocks that contain each of the `ways` classes once."),
        "distinct_ways": Option(True, rules.BOOLEAN,
            "Few-shot training sequences (fewshot_*, mixed): draw the ways without replacement."),
        "p_fewshot": Option(0.1, rules.PROBABILITY,
            "Type 'mixed': fraction of few-shot sequences of rare classes, in [0, 1]."),
        # Above 10, all classes but the first have a total probability below 0.001.
        "zipf_exponent": Option(0.0, number(0, 10), "p(class of rank r) is proportional to 1 / "
            "r^zipf_exponent over rare and common classes; 0 is uniform."),
        "zipf_within_roles": Option(False, rules.BOOLEAN, "Draws from only rare or only "
            "common classes also follow the Zipf weights; otherwise they are uniform."),
        "labeling": Option("ordered", one_of(LABELINGS),
            "Class -> label: 'ordered' (place in the split), 'original' (the dataset's own "
            "number), 'shared' (classes share a smaller number of labels), or 'unfixed' (a new "
            "assignment to 0..ways-1 in each few-shot sequence)."),
        "num_shared_labels": Option(32, integer(1, MOST_ROWS),
            "Number of labels of the 'shared' labeling."),
        "label_multiplicity": Option(1, integer(1, 10_000), "Labels per training class, one of "
            "which is drawn per class and sequence (\"polysemy\")."),
        "draws": Option(2, integer(1, 2), "How sequences are drawn. 2: N evaluation "
            "sequences are the first N of any larger number with the same seed, and beyond 64 "
            "exemplars the cost does not grow with their number. 1: as in version 0.1.0, where a "
            "different number gave different sequences; runs of that version keep it.", before=1),
    }, per_replica=True),
    **section("data.omniglot", {
        "split": Option("all", one_of(("train", "test", "all")), "Characters of the dataset's own "
            "split: 'train' (964), 'test' (659), or 'all' (1,623)."),
    }),
    **section("data.glyphs", {
        "num_classes": Option(1700, integer(1, MOST_CLASSES),
            "Characters; each is independent of their number."),
        "num_exemplars": Option(20, integer(1), "Drawings per character."),
        "seed": Option(0, rules.SEED, "Seed of characters and drawings."),
        "min_strokes": Option(2, integer(1), _STROKES),
        "max_strokes": Option(4, integer(1, 16), _STROKES),
        # Many longer strokes hardly ever fit into the box.
        "min_stroke_length": Option(0.35, number(0, 0.5),
            "Minimum arc length of a stroke, as a fraction of the image side."),
        "p_connected": Option(0.7, rules.PROBABILITY,
            "Probability that a stroke starts on an earlier one, as in handwriting."),
        "min_pen_width": Option(0.055, number(0, 0.5, above=True), _PEN_WIDTH),
        "max_pen_width": Option(0.085, number(0, 0.5, above=True), _PEN_WIDTH),
        "rotation": Option(0.12, number(0, 10),
            "Standard deviation of rotation between drawings of a character, in radians."),
        "scale": Option(0.08, number(0, 1), "Standard deviation of log width and log height "
            "between drawings of a character."),
        "shear": Option(0.12, number(0, 1),
            "Standard deviation of shear between drawings of a character."),
        "shift": Option(0.03, number(0, 1), "Standard deviation of horizontal and vertical "
            "position between drawings of a character, as a fraction of the image side."),
        "control_jitter": Option(0.025, number(0, 1), "Standard deviation of each control "
            "point of a stroke between drawings, as a fraction of the image side."),
    }),
    **section("data.gaussian", {
        "num_classes": Option(1100, integer(1, MOST_CLASSES), "Clusters; each is a class."),
        "dimension": Option(64, integer(1), "Dimension of the vectors, D."),
        "seed": Option(0, rules.SEED,
            "Seed of the cluster means, which are drawn from N(0, I / D)."),
    }),
    **section("data.images", {
        "path": Option("", rules.STRING, "A folder CLASS/*.png or .jpg, or a .npy, .npz, or .h5 "
            "file with an array of classes x exemplars x H x W (x channels), uint8 or in [0, 1].",
            per_machine=True, reopenable=True, before=""),
        "array": Option("", rules.STRING, _ARRAY, before=""),
        **_OWN,
    }),
    **section("data.features", {
        "path": Option("", rules.STRING, "A .npy, .npz, or .h5 file with an array of classes x "
            "exemplars x D.", per_machine=True, reopenable=True),
        "array": Option("", rules.STRING, _ARRAY),
        **_OWN,
    }),
    **section("data.symbolic", {
        "num_classes": Option(1700, integer(1, MOST_CLASSES),
            "Classes; each has one example, its own integer."),
    }),
    **section("model", {
        "encoder": Option("resnet", one_of(registry.ENCODERS),
            "Encoder of single examples: 'resnet', 'mlp', 'linear', or 'embedding' (integers)."),
        "embedding_size": Option(64, integer(2), "Width of example and label embeddings."),
        "tokens": Option("interleaved", one_of(("interleaved", "concatenated")),
            "'interleaved' (x1 y1 x2 y2 ... query) or 'concatenated' tokens."),
        "positions": Option("sinusoidal", one_of(("sinusoidal", "learned", "rotary", "none")),
            "Positional encoding: 'sinusoidal' or 'learned' (added to tokens), 'rotary' (rotates "
            "the transformer's queries and keys), or 'none'."),
        "num_positions": Option(None, rules.OPTIONAL_COUNT, "Capacity of learned positions, in "
            "tokens. Derived when unset: the longest sequence of training and evaluation."),
        "sequence_model": Option("transformer", one_of(registry.SEQUENCE_MODELS),
            "Model of the token sequence: 'transformer', 'lstm', 'gru', or 'rnn'."),
        "num_layers": Option(12, integer(1), "Number of layers in the sequence model."),
        "num_heads": Option(8, integer(1), "Transformer: attention heads per layer."),
        "mlp_ratio": Option(4, integer(1),
            "Transformer: hidden width of each MLP as a multiple of the token width."),
        "attention_only": Option(False, rules.BOOLEAN, "Transformer: omit the MLPs."),
        "scan_layers": Option(False, rules.BOOLEAN, "Transformer: run the layers as a scan. This "
            "compiles faster, but small models run slightly slower."),
        "rnn_size": Option(64, integer(1), "Recurrent models: width of each layer."),
        "head_hidden_sizes": Option((), integers(),
            "Widths of hidden ReLU layers between the sequence model and the logits."),
        "example_dropout": Option(0.0, rules.DROPOUT, "Dropout of components of example "
            "embeddings, also in evaluation: it is input noise."),
        "positional_dropout": Option(0.0, rules.DROPOUT,
            "Dropout of positional encodings, in training only."),
        "dropout": Option(0.0, rules.DROPOUT, "Dropout, in training only, of residual branches "
            "(transformer) or of the inputs of every layer but the first (recurrent models)."),
        "precision": Option("float32", one_of(("float32", "bfloat16")),
            "Arithmetic: 'float32', or 'bfloat16' with float32 parameters and normalization. With "
            "'float32', JAX still multiplies matrices with fewer bits on recent NVIDIA GPUs (TF32) "
            "and on TPUs (bfloat16)."),
        "num_labels": Option(None, integer(1, MOST_ROWS, optional=True),
            "Capacity of the label table and the "
            "head. Derived when unset; set a larger one to share shapes between runs."),
        "own_labels": Option(True, rules.BOOLEAN, "Restrict loss and predictions to the labels of "
            "the run's own data. False, as in version 0.1.0: use the head's full capacity, which "
            "differs if num_labels is larger or another replica has more labels.", before=False),
        "num_symbols": Option(1700, integer(1, MOST_ROWS),
            "Capacity of the 'embedding' encoder; must cover the data's integers."),
    }),
    **section("model.resnet", {
        "channels": Option((16, 32, 32, 64), integers(at_least=1),
            "Width of each group of blocks (any number of groups); the last is the embedding's."),
        "blocks_per_group": Option((2, 2, 2, 2), integers(at_least=1), "Blocks in each group."),
        "flatten_superpixels": Option(False, rules.BOOLEAN,
            "Concatenate the last group's superpixels, each narrower, instead of averaging them."),
        "stem": Option("parts", one_of(("parts", "whole")), "How a CPU computes the first "
            "convolution and its max-pool; results agree up to rounding. 'parts': a few images at "
            "a time, which is faster. 'whole': the whole batch, as in version 0.1.0; runs of that "
            "version keep it.", before="whole"),
    }),
    **section("model.mlp", {
        "hidden_sizes": Option((256,), integers(), "Widths of the hidden ReLU layers."),
    }),
    **RUN_OPTIONS,
}
# fmt: on
# Purpose of sections.
SECTIONS = {
    **{
        f"data.{source}": f"For data.source '{source}'."
        for source in ("omniglot", "glyphs", "gaussian", "images", "features", "symbolic")
    },
    "model.resnet": "For the 'resnet' encoder.",
    "model.mlp": "For the 'mlp' encoder.",
}
# Options of extensions, which a config has only if it uses the extension.
EXTENSIONS: dict[str, Option] = {}


def declare(path: str, option: Option) -> None:
    """Adds an option of an extension, which is checked like all others; see docs/extending.md.

    Options of a data source or sequence type, 'data.ENTRY.NAME', and of an encoder or sequence
    model, 'model.ENTRY.NAME', are required if it is used. Raises ValueError if the option exists.
    """
    if path in known():
        raise ValueError(f"option '{path}' is already declared")
    EXTENSIONS[path] = option


def known() -> dict[str, Option]:
    """All options by their paths, those of extensions last."""
    return OPTIONS | EXTENSIONS
