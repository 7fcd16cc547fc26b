"""Every option of every experiment, in one row: flags, checks and docs/options.md come from it.

To add an option, add a row (see Option) and call `make docs`.
"""

from __future__ import annotations

from emergent_icl.config import registry, rules
from emergent_icl.config.rules import (
    Option,
    integer,
    integers,
    number,
    one_of,
    optional_integer,
    some_of,
)

# For data that are made up, and have no natural limit.
MOST_CLASSES = 1_000_000
_LABELINGS = ("ordered", "original", "shared", "unfixed")
# Help that several options share.
_ROLES = (
    "Classes of each role, dealt out in the order of that permutation: rare, common, holdout. "
    "Holdout classes are never trained on."
)
_CLASSES = (
    "Classes of this role, `num_*` in all: a text names a class or a group, a number is a class; "
    "() draws them. --split=FILE reads the three lists from a JSON file."
)
_BURSTS = (
    "Bursty and few-shot sequences: `ways` classes drawn, `shots` examples of each in the context."
)
_FEWSHOT = "Few-shot modes: `ways` classes drawn, `shots` examples of each in the context."
_STROKES = "Strokes (cubic Bezier curves) of a character: the fewest and the most."
_PEN_WIDTH = "Pen width of a drawing, in sides of the image: the narrowest and the widest."


def _section(path: str, options: dict[str, Option], **flags: bool) -> dict[str, Option]:
    """The options of a section by their paths, with flags that all of them have."""
    return {f"{path}.{name}": option._replace(**flags) for name, option in options.items()}


# fmt: off
OPTIONS: dict[str, Option] = {
    "name": Option("base", rules.STRING, "Name of the experiment in summaries and figures."),
    **_section("data", {
        "source": Option("omniglot", one_of(registry.DATA_SOURCES),
            "What is shown: 'omniglot', 'glyphs' (procedural characters), 'gaussian' (clouds of "
            "vectors), 'features' (vectors from a file of yours) or 'symbolic' (integers)."),
        "data_dir": Option("", rules.STRING, "Where TFDS keeps its datasets; '' means "
            "TFDS_DATA_DIR, else TFDS's own default.", per_machine=True, reopenable=True),
        "cache_dir": Option("", rules.STRING, "Where decoded and generated images are kept; '' "
            "means the user's cache folder.", per_machine=True, reopenable=True),
        "image_size": Option(105, integer(8, 105), "Height and width in pixels, 8 to 105; below "
            "105 Omniglot is resized with antialiasing."),
        "drawings": Option("all", one_of(("all", "single", "separated")),
            "Which drawings of a class are shown: 'all', 'single' for the first alone, or "
            "'separated': each drawing is a class of its own (those of one character stay on one "
            "side of the split).", per_replica=True),
        "augment": Option(False, rules.BOOLEAN, "Flips and quarter turns as classes of their own, "
            "8 for each: class 8 c + 4 flip + rotation."),
        "random_rare_images": Option(False, rules.BOOLEAN, "Rare classes are shown as random "
            "binary images, drawn anew for each class and sequence."),
        "inverted": Option(False, rules.BOOLEAN,
            "False: background 1 and ink 0, as the dataset and the paper have it. True: background "
            "0 and ink 1, which encoders without normalisation learn from much sooner."),
        "noise_scale": Option(0.0, number(0, 100), "Variation that is drawn afresh each time an "
            "example is shown: standard deviation of Gaussian noise on every pixel in [0, 1] "
            "(unclipped) or number of a vector. For 'gaussian' it is epsilon: an exemplar is (mean "
            "+ epsilon * noise) / sqrt(1 + epsilon^2).", per_replica=True, reopenable=True),
        "feeder": Option("auto", one_of(registry.FEEDERS, ("auto",)),
            "How batches reach the training loop: 'tfdata', 'python', or 'auto' for tf.data "
            "where TensorFlow is installed. All yield the same batches.", per_machine=True),
    }),
    **_section("data.split", {
        "seed": Option(1337, rules.SEED,
            "Which classes are rare, common and held out: the seed of their permutation; 1337 is "
            "the original's."),
        "num_rare": Option(1603, integer(0), _ROLES),
        "num_common": Option(10, integer(0), _ROLES),
        "num_holdout": Option(10, integer(0), _ROLES),
        "num_holdout_exemplars": Option(0, integer(0), "Exemplars of every class that are never "
            "trained on: the last of a permutation by the split's seed, the same ones of each "
            "class. Evaluation shows them if evaluation.exemplars is 'holdout'.", before=0),
        "groups": Option("", rules.STRING, "Groups of classes that stay on one side of the "
            "split between training and holdout. '': the variants of a class; a number n: n "
            "consecutive classes of the source; 'alphabet' or 'character': Omniglot's; for "
            "'features' the name of an array [classes] in the file.", before=""),
        "rare": Option((), rules.CLASSES, _CLASSES, before=()),
        "common": Option((), rules.CLASSES, _CLASSES, before=()),
        "holdout": Option((), rules.CLASSES, _CLASSES, before=()),
    }, per_replica=True),
    **_section("data.sequences", {
        "type": Option("bursty", one_of(registry.SEQUENCE_TYPES),
            "The training sequences: 'bursty' (the paper's), 'relabelled' (new labels in every "
            "sequence), 'mixed' (few-shot and ordinary ones), 'flip' (classes under each other's "
            "labels), 'no_support_*' or 'fewshot_*' (common, rare or zipfian)."),
        # Beyond, sampling would take longer than training.
        "seq_len": Option(9, integer(2, 257), "Examples in a sequence, the query included."),
        "shots": Option(3, integer(1), _BURSTS),
        "ways": Option(2, integer(1), _BURSTS),
        "p_bursty": Option(0.9, rules.PROBABILITY,
            "Fraction of sequences that are bursty, in [0, 1]. ('relabelled' ones all are.)"),
        "p_bursty_zipfian": Option(1.0, rules.PROBABILITY, "Of the bursty ones, the fraction whose "
            "classes come from the joint Zipf distribution."),
        "p_bursty_common": Option(0.0, rules.PROBABILITY,
            "Of the bursty ones, the fraction with common classes bursting among rare ones. What "
            "p_bursty_zipfian and this leave has rare classes bursting among common ones."),
        "non_bursty": Option("zipfian", one_of(("zipfian", "common_uniform", "common_no_support")),
            "Sequences that are not bursty: 'zipfian', 'common_uniform' or 'common_no_support'."),
        "grouped": Option(False, rules.BOOLEAN,
            "Bursting examples come in blocks that hold each of the `ways` classes once."),
        "distinct_ways": Option(True, rules.BOOLEAN,
            "Few-shot training sequences (fewshot_*, mixed): draw the ways without replacement."),
        "p_fewshot": Option(0.1, rules.PROBABILITY,
            "Type 'mixed': fraction of few-shot sequences of rare classes, in [0, 1]."),
        # Beyond 10 every class but the first is drawn less than once in a thousand times.
        "zipf_exponent": Option(0.0, number(0, 10), "p(class of rank r) ~ 1 / r^zipf_exponent over "
            "rare and common classes; 0 is uniform."),
        "zipf_within_roles": Option(False, rules.BOOLEAN, "Draws from the rare or the common "
            "classes alone follow the Zipf weights too; otherwise they are uniform."),
        "labeling": Option("ordered", one_of(_LABELINGS),
            "Class -> label: 'ordered' (place in the split), 'original' (the dataset's own "
            "number), 'shared' (classes are dealt out among fewer labels), or 'unfixed' (a fresh "
            "assignment to 0..ways-1 in each few-shot sequence)."),
        "num_shared_labels": Option(32, integer(1),
            "Number of labels that the 'shared' labeling deals out."),
        "label_multiplicity": Option(1, integer(1, 10_000), "Labels that each training class owns, "
            "one drawn per class and sequence (\"polysemy\")."),
        "draws": Option(2, integer(1, 2), "How sequences are drawn. 2: N sequences of an "
            "evaluation are the first N of any larger number with the same seed, and beyond 64 "
            "exemplars the cost does not grow with their number. 1: as in earlier versions, where "
            "another number meant other sequences; runs of those versions keep it.", before=1),
    }, per_replica=True),
    **_section("data.omniglot", {
        "split": Option("all", one_of(("train", "test", "all")), "Characters of the dataset's own "
            "split: 'train' (964), 'test' (659) or 'all' (1,623)."),
    }),
    **_section("data.glyphs", {
        "num_classes": Option(1700, integer(1, MOST_CLASSES),
            "Characters; each is the same whatever their number."),
        "num_exemplars": Option(20, integer(1), "Drawings of each character."),
        "seed": Option(0, rules.SEED, "Seed of characters and drawings."),
        "min_strokes": Option(2, integer(1), _STROKES),
        "max_strokes": Option(4, integer(1, 16), _STROKES),
        # Many longer ones hardly ever fit into the box.
        "min_stroke_length": Option(0.35, number(0, 0.5),
            "Least arc length of a stroke, in sides of the image."),
        "p_connected": Option(0.7, rules.PROBABILITY,
            "Probability that a stroke starts on an earlier one, as in handwriting."),
        "min_pen_width": Option(0.055, number(0, 0.5, above=True), _PEN_WIDTH),
        "max_pen_width": Option(0.085, number(0, 0.5, above=True), _PEN_WIDTH),
        "rotation": Option(0.12, number(0, 10),
            "Between drawings of a character: standard deviation of rotation, in radians."),
        "scale": Option(0.08, number(0, 1), "Between drawings of a character: standard deviation "
            "of the logarithm of width and height."),
        "shear": Option(0.12, number(0, 1),
            "Between drawings of a character: standard deviation of shear."),
        "shift": Option(0.03, number(0, 1), "Between drawings of a character: standard deviation "
            "of place, across and down, in sides of the image."),
        "control_jitter": Option(0.025, number(0, 1), "Between drawings of a character: standard "
            "deviation of each control point of a stroke, in sides of the image."),
    }),
    **_section("data.gaussian", {
        "num_classes": Option(1100, integer(1, MOST_CLASSES), "Clouds, each of them a class."),
        "dimension": Option(64, integer(1), "Numbers in a vector: D."),
        "seed": Option(0, rules.SEED,
            "Seed of the clouds' means, which are drawn from N(0, I / D)."),
    }),
    **_section("data.features", {
        "path": Option("", rules.STRING, "A .npy, .npz or .h5 file with an array of classes x "
            "exemplars x D.", per_machine=True, reopenable=True),
        "array": Option("", rules.STRING,
            "Name of the array in a .npz or .h5 file; '' where there is only one."),
    }),
    **_section("data.symbolic", {
        "num_classes": Option(1700, integer(1, MOST_CLASSES),
            "Classes: each has one example, its own integer."),
    }),
    **_section("model", {
        "encoder": Option("resnet", one_of(registry.ENCODERS),
            "One example -> one embedding: 'resnet', 'mlp', 'linear' or 'embedding' (integers)."),
        "embedding_size": Option(64, integer(2), "Width of example and label embeddings."),
        "tokens": Option("interleaved", one_of(("interleaved", "concatenated")),
            "'interleaved' (x1 y1 x2 y2 ... query) or 'concatenated' tokens."),
        "positions": Option("sinusoidal", one_of(("sinusoidal", "learned", "rotary", "none")),
            "What is added to tokens: 'sinusoidal', 'learned' or 'none'; or 'rotary', which "
            "turns the transformer's queries and keys instead."),
        "num_positions": Option(None, rules.OPTIONAL_COUNT, "Capacity of learned positions, in "
            "tokens; derived when unset: the longest sequence of training and evaluation."),
        "sequence_model": Option("transformer", one_of(registry.SEQUENCE_MODELS),
            "What reads the tokens: 'transformer', 'lstm', 'gru' or 'rnn'."),
        "num_layers": Option(12, integer(1), "Layers of the sequence model."),
        "num_heads": Option(8, integer(1), "Transformer: attention heads of a layer."),
        "mlp_ratio": Option(4, integer(1),
            "Transformer: hidden width of a layer's MLP, in widths of a token."),
        "attention_only": Option(False, rules.BOOLEAN, "Transformer: blocks without their MLP."),
        "scan_layers": Option(False, rules.BOOLEAN, "Transformer: run the layers as a scan, which "
            "compiles sooner; a small model then runs a little slower."),
        "rnn_size": Option(64, integer(1), "Recurrent models: width of each layer."),
        "head_hidden_sizes": Option((), integers(),
            "Widths of hidden ReLU layers between the sequence model and the logits."),
        "example_dropout": Option(0.0, rules.DROPOUT, "Dropout of numbers of example embeddings, "
            "in evaluation too: it is noise on the input."),
        "positional_dropout": Option(0.0, rules.DROPOUT,
            "Dropout, in training, of what positions add to tokens."),
        "dropout": Option(0.0, rules.DROPOUT, "Dropout, in training, of the residual branches "
            "(transformer) or of the inputs of every layer but the first (recurrent models)."),
        "precision": Option("float32", one_of(("float32", "bfloat16")),
            "Arithmetic: 'float32', or 'bfloat16' on float32 parameters and normalisation."),
        "num_labels": Option(None, rules.OPTIONAL_COUNT, "Capacity of label table and head; "
            "derived when unset, larger to share shapes between runs."),
        "own_labels": Option(True, rules.BOOLEAN, "A run chooses among the labels of its own data, "
            "in loss and predictions. False: among all that the head has room for, as in earlier "
            "versions, where num_labels was larger or another replica had more.", before=False),
        "num_symbols": Option(1700, integer(1),
            "Capacity of the 'embedding' encoder; must cover the data's integers."),
    }),
    **_section("model.resnet", {
        "channels": Option((16, 32, 32, 64), integers(at_least=1),
            "Width of each group of blocks, any number of them; the last is the embedding's."),
        "blocks_per_group": Option((2, 2, 2, 2), integers(at_least=1), "Blocks in each group."),
        "flatten_superpixels": Option(False, rules.BOOLEAN,
            "Lay the last group's superpixels side by side, each narrower, instead of their mean."),
    }),
    **_section("model.mlp", {
        "hidden_sizes": Option((256,), integers(), "Widths of the hidden ReLU layers."),
    }),
    **_section("training", {
        "num_steps": Option(500_000, integer(1), "Optimizer updates.", resumable=True),
        "batch_size": Option(32, integer(1), "Sequences in a batch, over all devices."),
        "seed": Option(0, rules.SEED, "Initial parameters, training sequences, and what is random "
            "in training (noise, dropout). Not which classes are held out (data.split.seed), which "
            "sequences are evaluated (evaluation.seed), or generated characters and clouds (seeds "
            "of their sources).", per_replica=True),
        "steps_per_call": Option(None, rules.OPTIONAL_COUNT,
            "Updates in one call of the device; divides every interval. Derived when unset: 1 "
            "for a convolutional encoder on CPU, where convolutions in a loop run on one thread; "
            "else up to 10 on CPU and 25 on an accelerator."),
        "replicas": Option(1, integer(1, rules.MOST_REPLICAS), "Runs that are trained together, by "
            "one program; alone, this option means as many seeds."),
        "replica_overrides": Option((), rules.OVERRIDES, "What each replica has for itself: "
            "({'name': 'even', 'data.sequences.p_bursty': 0.0}, ...), among seeds, learning rate, "
            "warm-up, weight decay, noise, drawings, split, sequences."),
        "spread_replicas": Option(False, rules.BOOLEAN,
            "Put different replicas on different devices, instead of a share of each on all."),
        "deterministic": Option(True, rules.BOOLEAN,
            "experiments.train: the same bits at every repetition on a GPU, too, where some "
            "operations otherwise add up in any order; a CPU always repeats."),
        "log_every": Option(50, integer(1),
            "Steps between two lines of metrics, each the mean of the steps since the last."),
        "interim_weight": Option(0.0, rules.PROBABILITY, "Share of the loss that is on predictions "
            "of the context's labels; the rest is on the query."),
    }),
    **_section("training.optimizer", {
        "name": Option("adam", rules.STRING, "Any optimizer of optax that takes a learning rate."),
        "options": Option({}, rules.KEYWORDS,
            "Further keyword arguments of that optimizer; set them in a config file."),
        "learning_rate": Option(3e-4, number(0, above=True),
            "Learning rate at the schedule's peak.", per_replica=True),
        "schedule": Option("paper", one_of(registry.SCHEDULES),
            "'paper' (inverse square root), 'constant' or 'cosine', each after a linear warm-up."),
        "warmup_steps": Option(4000, integer(0), "Updates until the peak.", per_replica=True),
        "weight_decay": Option(0.0, number(0), "Decoupled weight decay on weights and tables (not "
            "on biases and norms).", per_replica=True),
        "max_grad_norm": Option(0.0, number(0),
            "Gradients are scaled down to this global norm; 0 leaves them alone."),
    }),
    **_section("evaluation", {
        "modes": Option(
            ("fewshot_holdout", "no_support_zipfian"), some_of(registry.EVALUATION_MODES),
            "What to evaluate on, any sequence type among it: the default's two are the paper's "
            "ICL and IWL. Whatever is few-shot has the options of this section, the rest those of "
            "training."),
        "every": Option(1000, integer(1),
            "Steps between evaluations; the last step is always evaluated."),
        # An interval needs two.
        "num_sequences": Option(2000, integer(2),
            "Sequences a mode, the same at every evaluation."),
        "batch_size": Option(256, integer(1), "Sequences, and images, that are evaluated at once."),
        "seed": Option(0, rules.SEED, "Which sequences are evaluated, and what noise they carry.",
            per_replica=True),
        "shots": Option(None, optional_integer(1), f"{_FEWSHOT} Derived when unset: "
            "(data.sequences.seq_len - 1) / ways, the length that training has."),
        "ways": Option(None, optional_integer(2), f"{_FEWSHOT} Derived when unset: "
            "data.sequences.ways, at least 2."),
        "distinct_ways": Option(True, rules.BOOLEAN, "Few-shot modes: draw the ways without "
            "replacement. The original drew them with replacement (docs/fidelity.md)."),
        "grouped": Option(False, rules.BOOLEAN,
            "Few-shot modes: the context comes in blocks that hold each class once."),
        "fewshot_labeling": Option("unfixed", one_of(_LABELINGS),
            "Labels of few-shot modes: 'unfixed' (0..ways-1, assigned afresh in each sequence), "
            "or 'ordered', 'original' or 'shared' to keep fixed ones."),
        "exemplars": Option("trained", one_of(("trained", "holdout")), "Exemplars of trained "
            "classes that modes show: those that were trained on, or the "
            "data.split.num_holdout_exemplars that never were.", before="trained"),
    }, reopenable=True),
    **_section("checkpoints", {
        "every": Option(1000, integer(1),
            "Steps between checkpoints; the last step is always saved.", resumable=True),
        "keep": Option(2, integer(1), "Newest checkpoints to keep.", resumable=True),
    }),
}
# fmt: on
# What the options of a section are for, if that is not obvious.
SECTIONS = {
    "data.omniglot": "For data.source 'omniglot'.",
    "data.glyphs": "For data.source 'glyphs': procedural characters.",
    "data.gaussian": "For data.source 'gaussian'.",
    "data.features": "For data.source 'features'.",
    "data.symbolic": "For data.source 'symbolic': no images at all.",
    "model.resnet": "For the 'resnet' encoder.",
    "model.mlp": "For the 'mlp' encoder.",
}
# Options of extensions: a config has them only if it uses the extension.
EXTENSIONS: dict[str, Option] = {}


def declare(path: str, option: Option) -> None:
    """Adds an option of an extension (docs/extending.md), to be checked like all others.

    One of a data source, 'data.SOURCE.NAME', must be given where that source is used.

    Raises:
      ValueError: there is such an option already.
    """
    if path in known():
        raise ValueError(f"option '{path}' is declared already")
    EXTENSIONS[path] = option


def known() -> dict[str, Option]:
    """Every option by its path, those of extensions last."""
    return OPTIONS | EXTENSIONS
