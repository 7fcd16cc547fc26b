"""Every option of every experiment: its type, its default and what it means.

Not a run of its own: the other files in this folder start from here.
Types: a tuple stays a tuple, an integer an integer; `placeholder` marks an option
that is derived when left unset.

docs/options.md is made from this file (`make docs`): a comment is the meaning of the
options right below it, up to the next comment, section or blank line.
"""

from __future__ import annotations

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """The paper's setting, as far as a single file can have one; locked."""
    config = ConfigDict()
    # Name of the experiment in summaries and figures.
    config.name = "base"
    config.data = _data()
    config.model = _model()
    config.training = _training()
    config.evaluation = _evaluation()
    config.checkpoints = _checkpoints()
    return config.lock()


def check_preset(preset: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError for a preset that a config file does not have."""
    if preset not in allowed:
        raise ValueError(f"preset '{preset}' is unknown (allowed: {', '.join(allowed)})")


def train_briefly(config: ConfigDict, num_steps: int, evaluate_every: int) -> None:
    """Settings of training that small models share: a higher, constant rate, soon reached."""
    config.training.num_steps = num_steps
    config.training.optimizer.learning_rate = 1e-3
    config.training.optimizer.schedule = "constant"
    config.training.optimizer.warmup_steps = 500
    config.evaluation.every = evaluate_every


def _data() -> ConfigDict:
    data = ConfigDict()
    # What is shown: 'omniglot', 'glyphs' (procedural characters), 'gaussian' (clouds of
    # vectors), 'features' (vectors from a file of yours) or 'symbolic' (integers).
    data.source = "omniglot"
    # Where TFDS keeps its datasets; '' means TFDS_DATA_DIR, else TFDS's own default.
    data.data_dir = ""
    # Where decoded and generated images are kept; '' means the user's cache folder.
    data.cache_dir = ""
    # Height and width in pixels, 8 to 105; below 105 Omniglot is resized with antialiasing.
    data.image_size = 105
    # Which drawings of a class are shown: 'all', 'single' for the first alone, or 'separated':
    # each drawing is a class of its own (those of one character stay on one side of the split).
    data.drawings = "all"
    # Flips and quarter turns as classes of their own, 8 for each: class 8 c + 4 flip + rotation.
    data.augment = False
    # Rare classes are shown as random binary images, drawn anew for each class and sequence.
    data.random_rare_images = False
    # False: background 1 and ink 0, as the dataset and the paper have it. True: background 0
    # and ink 1, which encoders without normalisation learn from much sooner.
    data.inverted = False
    # Variation that is drawn afresh each time an example is shown: standard deviation of
    # Gaussian noise on every pixel in [0, 1] (unclipped) or number of a vector. For 'gaussian'
    # it is epsilon: an exemplar is (mean + epsilon * noise) / sqrt(1 + epsilon^2).
    data.noise_scale = 0.0
    # How batches reach the training loop: 'tfdata', 'python', or 'auto' for tf.data
    # where TensorFlow is installed. All yield the same batches.
    data.feeder = "auto"

    data.split = ConfigDict()
    # Seed of the permutation of classes; 1337 is the original's.
    data.split.seed = 1337
    # Classes of each role, dealt out in the order of that permutation: rare, common, holdout.
    # Holdout classes are never trained on.
    data.split.num_rare = 1603
    data.split.num_common = 10
    data.split.num_holdout = 10

    data.sequences = _sequences()

    # For data.source 'omniglot'.
    data.omniglot = ConfigDict()
    # Characters of the dataset's own split: 'train' (964), 'test' (659) or 'all' (1,623).
    data.omniglot.split = "all"

    data.glyphs = _glyphs()
    # For data.source 'gaussian'.
    data.gaussian = ConfigDict()
    # Clouds, each of them a class.
    data.gaussian.num_classes = 1100
    # Numbers in a vector: D.
    data.gaussian.dimension = 64
    # Seed of the clouds' means, which are drawn from N(0, I / D).
    data.gaussian.seed = 0

    # For data.source 'features'.
    data.features = ConfigDict()
    # A .npy, .npz or .h5 file with an array of classes x exemplars x D.
    data.features.path = ""
    # Name of the array in a .npz or .h5 file; '' where there is only one.
    data.features.array = ""

    # For data.source 'symbolic': no images at all.
    data.symbolic = ConfigDict()
    # Classes: each has one example, its own integer.
    data.symbolic.num_classes = 1700
    return data


def _sequences() -> ConfigDict:
    sequences = ConfigDict()
    # The training sequences: 'bursty' (the paper's), 'relabelled' (new labels in every
    # sequence), 'mixed' (few-shot and ordinary ones), 'flip' (classes under each other's
    # labels), 'no_support_*' or 'fewshot_*' (common, rare or zipfian).
    sequences.type = "bursty"
    # Examples in a sequence, the query included.
    sequences.seq_len = 9
    # Bursty and few-shot sequences: `ways` classes drawn, `shots` examples of each in the context.
    sequences.shots = 3
    sequences.ways = 2
    # Fraction of sequences that are bursty, in [0, 1]. ('relabelled' ones all are.)
    sequences.p_bursty = 0.9
    # Of the bursty ones, the fraction whose classes come from the joint Zipf distribution.
    sequences.p_bursty_zipfian = 1.0
    # Of the bursty ones, the fraction with common classes bursting among rare ones. What
    # p_bursty_zipfian and this leave has rare classes bursting among common ones.
    sequences.p_bursty_common = 0.0
    # Sequences that are not bursty: 'zipfian', 'common_uniform' or 'common_no_support'.
    sequences.non_bursty = "zipfian"
    # Bursting examples come in blocks that hold each of the `ways` classes once.
    sequences.grouped = False
    # Few-shot training sequences (fewshot_*, mixed): draw the ways without replacement.
    sequences.distinct_ways = True
    # Type 'mixed': fraction of few-shot sequences of rare classes, in [0, 1].
    sequences.p_fewshot = 0.1
    # p(class of rank r) ~ 1 / r^zipf_exponent over rare and common classes; 0 is uniform.
    sequences.zipf_exponent = 0.0
    # Draws from the rare or the common classes alone follow the Zipf weights too;
    # otherwise they are uniform.
    sequences.zipf_within_roles = False
    # Class -> label: 'ordered' (place in the split), 'original' (the dataset's own number),
    # 'shared' (classes are dealt out among fewer labels), or 'unfixed' (a fresh assignment
    # to 0..ways-1 in each few-shot sequence).
    sequences.labeling = "ordered"
    # Number of labels that the 'shared' labeling deals out.
    sequences.num_shared_labels = 32
    # Labels that each training class owns, one drawn per class and sequence ("polysemy").
    sequences.label_multiplicity = 1
    return sequences


def _glyphs() -> ConfigDict:
    """For data.source 'glyphs': procedural characters."""
    glyphs = ConfigDict()
    # Characters; each is the same whatever their number.
    glyphs.num_classes = 1700
    # Drawings of each character.
    glyphs.num_exemplars = 20
    # Seed of characters and drawings.
    glyphs.seed = 0
    # Strokes (cubic Bezier curves) of a character: the fewest and the most.
    glyphs.min_strokes = 2
    glyphs.max_strokes = 4
    # Least arc length of a stroke, in sides of the image.
    glyphs.min_stroke_length = 0.35
    # Probability that a stroke starts on an earlier one, as in handwriting.
    glyphs.p_connected = 0.7
    # Pen width of a drawing, in sides of the image: the narrowest and the widest.
    glyphs.min_pen_width = 0.055
    glyphs.max_pen_width = 0.085
    # Between drawings of a character: standard deviation of rotation, in radians.
    glyphs.rotation = 0.12
    # Between drawings of a character: standard deviation of the logarithm of width and height.
    glyphs.scale = 0.08
    # Between drawings of a character: standard deviation of shear.
    glyphs.shear = 0.12
    # Between drawings of a character: standard deviation of place, across and down, in sides of
    # the image.
    glyphs.shift = 0.03
    # Between drawings of a character: standard deviation of each control point of a stroke, in
    # sides of the image.
    glyphs.control_jitter = 0.025
    return glyphs


def _model() -> ConfigDict:
    model = ConfigDict()
    # One example -> one embedding: 'resnet', 'mlp', 'linear' or 'embedding' (integers).
    model.encoder = "resnet"
    # Width of example and label embeddings.
    model.embedding_size = 64
    # 'interleaved' (x1 y1 x2 y2 ... query) or 'concatenated' tokens.
    model.tokens = "interleaved"
    # What is added to tokens: 'sinusoidal', 'learned' or 'none'; or 'rotary', which turns the
    # transformer's queries and keys instead.
    model.positions = "sinusoidal"
    # Capacity of learned positions, in tokens; derived when unset: the longest sequence of
    # training and evaluation.
    model.num_positions = placeholder(int)
    # What reads the tokens: 'transformer', 'lstm', 'gru' or 'rnn'.
    model.sequence_model = "transformer"
    # Layers of the sequence model.
    model.num_layers = 12
    # Transformer: attention heads of a layer.
    model.num_heads = 8
    # Transformer: hidden width of a layer's MLP, in widths of a token.
    model.mlp_ratio = 4
    # Transformer: blocks without their MLP.
    model.attention_only = False
    # Transformer: run the layers as a scan, which compiles sooner; a small model then runs a
    # little slower.
    model.scan_layers = False
    # Recurrent models: width of each layer.
    model.rnn_size = 64
    # Widths of hidden ReLU layers between the sequence model and the logits.
    model.head_hidden_sizes = ()
    # Dropout of numbers of example embeddings, in evaluation too: it is noise on the input.
    model.example_dropout = 0.0
    # Dropout, in training, of what positions add to tokens.
    model.positional_dropout = 0.0
    # Dropout, in training, of the residual branches (transformer) or of the inputs of every
    # layer but the first (recurrent models).
    model.dropout = 0.0
    # Arithmetic: 'float32', or 'bfloat16' on float32 parameters and normalisation.
    model.precision = "float32"
    # Capacity of label table and head; derived when unset, larger to share shapes between runs.
    model.num_labels = placeholder(int)
    # Capacity of the 'embedding' encoder; must cover the data's integers.
    model.num_symbols = 1700

    # For the 'resnet' encoder.
    model.resnet = ConfigDict()
    # Width of each group of blocks, any number of them; the last is the embedding's.
    model.resnet.channels = (16, 32, 32, 64)
    # Blocks in each group.
    model.resnet.blocks_per_group = (2, 2, 2, 2)
    # Lay the last group's superpixels side by side, each narrower, instead of their mean.
    model.resnet.flatten_superpixels = False

    # For the 'mlp' encoder.
    model.mlp = ConfigDict()
    # Widths of the hidden ReLU layers.
    model.mlp.hidden_sizes = (256,)
    return model


def _training() -> ConfigDict:
    training = ConfigDict()
    # Optimizer updates.
    training.num_steps = 500_000
    # Sequences in a batch, over all devices.
    training.batch_size = 32
    # Every random draw of the run derives from this: data, initial parameters, noise.
    training.seed = 0
    # Updates in one call of the device; divides every interval. Derived when unset: 1 for a
    # convolutional encoder on CPU, where convolutions in a loop run on one thread; else up to 10
    # on CPU and 25 on an accelerator.
    training.steps_per_call = placeholder(int)
    # Runs that are trained together, by one program; alone, this option means as many seeds.
    training.replicas = 1
    # What each replica has for itself: ({'name': 'even', 'data.sequences.p_bursty': 0.0}, ...),
    # among seed, learning rate, warm-up, weight decay, noise, drawings, split, sequences.
    training.replica_overrides = ()
    # Put different replicas on different devices, instead of a share of each on all.
    training.spread_replicas = False
    # experiments.train: the same bits at every repetition on a GPU, too, where some operations
    # otherwise add up in any order; a CPU always repeats.
    training.deterministic = True
    # Steps between two lines of metrics, each the mean of the steps since the last.
    training.log_every = 50
    # Share of the loss that is on predictions of the context's labels; the rest is on the query.
    training.interim_weight = 0.0

    training.optimizer = ConfigDict()
    # Any optimizer of optax that takes a learning rate.
    training.optimizer.name = "adam"
    # Further keyword arguments of that optimizer; set them in a config file.
    training.optimizer.options = ConfigDict()
    # Learning rate at the schedule's peak.
    training.optimizer.learning_rate = 3e-4
    # 'paper' (inverse square root), 'constant' or 'cosine', each after a linear warm-up.
    training.optimizer.schedule = "paper"
    # Updates until the peak.
    training.optimizer.warmup_steps = 4000
    # Decoupled weight decay on weights and tables (not on biases and norms).
    training.optimizer.weight_decay = 0.0
    # Gradients are scaled down to this global norm; 0 leaves them alone.
    training.optimizer.max_grad_norm = 0.0
    return training


def _evaluation() -> ConfigDict:
    evaluation = ConfigDict()
    # What to evaluate on, any sequence type among it: the default's two are the paper's ICL and
    # IWL. Whatever is few-shot has the options of this section, the rest those of training.
    evaluation.modes = ("fewshot_holdout", "no_support_zipfian")
    # Steps between evaluations; the last step is always evaluated.
    evaluation.every = 1000
    # Sequences a mode, the same at every evaluation.
    evaluation.num_sequences = 2000
    # Sequences, and images, that are evaluated at once.
    evaluation.batch_size = 256
    # Every random draw of the evaluation derives from this.
    evaluation.seed = 0
    # Few-shot modes: `ways` classes drawn, `shots` examples of each in the context.
    evaluation.shots = 4
    evaluation.ways = 2
    # Few-shot modes: draw the ways without replacement. The original drew them with
    # replacement (docs/fidelity.md).
    evaluation.distinct_ways = True
    # Few-shot modes: the context comes in blocks that hold each class once.
    evaluation.grouped = False
    # Labels of few-shot modes: 'unfixed' (0..ways-1, assigned afresh in each sequence), or
    # 'ordered', 'original' or 'shared' to keep fixed ones.
    evaluation.fewshot_labeling = "unfixed"
    return evaluation


def _checkpoints() -> ConfigDict:
    checkpoints = ConfigDict()
    # Steps between checkpoints; the last step is always saved.
    checkpoints.every = 1000
    # Newest checkpoints to keep.
    checkpoints.keep = 2
    return checkpoints
