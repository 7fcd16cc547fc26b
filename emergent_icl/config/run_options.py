"""Options of training, evaluation, checkpoints, and logging; see options.py."""

from emergent_icl.config import registry, rules
from emergent_icl.config.rules import LABELINGS, Option, integer, number, one_of, section, some_of

_FEWSHOT = "Few-shot modes: draw `ways` classes, with `shots` examples each in the context."
_STEPS = (
    "also at these steps: integers (0 is the initial state), or 'log:N' for N steps per decade, "
    "rounded to multiples of training.steps_per_call. Steps beyond training.num_steps take effect "
    "when the run is extended."
)

# fmt: off
RUN_OPTIONS: dict[str, Option] = {
    **section("training", {
        "num_steps": Option(500_000, integer(1), "Optimizer updates.", resumable=True),
        "batch_size": Option(32, integer(1), "Sequences per batch, over all devices."),
        "seed": Option(0, rules.SEED, "Seed of initial parameters, training sequences, and "
            "randomness in training (noise, dropout), but not of the class split "
            "(data.split.seed), the evaluation sequences (evaluation.seed), or generated data "
            "(seeds of their sources).", per_replica=True),
        "steps_per_call": Option(None, rules.OPTIONAL_COUNT,
            "Updates per device call; must divide every interval. Derived when unset: 1 for a "
            "convolutional encoder on CPU, where convolutions in a loop use one thread; otherwise "
            "up to 10 on CPU and 25 on an accelerator."),
        "replicas": Option(1, integer(1, rules.MOST_REPLICAS), "Number of runs trained together by "
            "one program; without replica_overrides they differ in their seeds."),
        "replica_overrides": Option((), rules.OVERRIDES, "Options of each replica: "
            "({'name': 'even', 'data.sequences.p_bursty': 0.0}, ...). Allowed: seeds, initial "
            "weights, learning rate, warm-up, weight decay, noise, drawings, split, sequences."),
        "spread_replicas": Option(False, rules.BOOLEAN,
            "Place different replicas on different devices instead of a share of each on all. On "
            "CPU, this is always done if the number of replicas is a multiple of the number of "
            "devices, and the command train makes a device per core."),
        "arithmetic": Option(2, integer(1, 2), "How updates are computed; losses agree up to "
            "rounding. 2: faster for small models on CPU, and the logged gradient norm is that of "
            "the line's last step. 1: as in version 0.1.0, where it was the mean over the line's "
            "steps; runs of that version keep it.", before=1),
        "deterministic": Option(True, rules.BOOLEAN,
            "Bit-exact repetition on GPUs too (command train), where some operations otherwise sum "
            "in varying order. CPUs always repeat exactly."),
        "log_every": Option(50, integer(1),
            "Steps between lines of metrics; each line averages the steps since the last."),
        "interim_weight": Option(0.0, rules.PROBABILITY, "Weight of the loss on predictions of the "
            "context's labels; the remaining weight is on the query."),
    }),
    **section("training.initial", {
        "run": Option("", rules.STRING, "Work directory of the run to take initial weights from; "
            "'' for random weights. It is read only before the first step and may be deleted "
            "afterwards.", before=""),
        "step": Option(None, integer(0, optional=True), "Checkpoint of that run; none: the newest.",
            before=None),
        "replica": Option("", rules.STRING, "Name of the replica of that run, if it has several.",
            before=""),
        "modules": Option((), rules.NAMES, "Modules to take, by Haiku path or its first parts: "
            "'transformer' or 'transformer/layers'; () for all. BatchNorm's averages come with "
            "them; other modules keep their random weights.", before=()),
    }, per_replica=True),
    "training.initial.checksum": Option(None, integer(0, optional=True), "CRC-32 of the weights "
        "taken, recorded at the start. If given, other weights are refused.", before=None),
    **section("training.optimizer", {
        "name": Option("adam", rules.STRING, "Any optax optimizer that takes a learning rate."),
        "options": Option({}, rules.KEYWORDS,
            "Further keyword arguments of that optimizer, each an option of its own: "
            "--config.training.optimizer.options.b1=0.8."),
        "learning_rate": Option(3e-4, number(0, above=True),
            "Peak learning rate of the schedule.", per_replica=True),
        "schedule": Option("paper", one_of(registry.SCHEDULES),
            "'paper' (inverse square root), 'constant', or 'cosine', each after a linear warm-up."),
        "warmup_steps": Option(4000, integer(0), "Updates until the peak.", per_replica=True),
        "weight_decay": Option(0.0, number(0), "Decoupled weight decay of weights and embeddings "
            "(not of biases and normalization parameters).", per_replica=True),
        "max_grad_norm": Option(0.0, number(0),
            "Clip gradients to this global norm; 0 disables clipping."),
    }),
    **section("evaluation", {
        "modes": Option(
            ("fewshot_holdout", "no_support_zipfian"), some_of(registry.EVALUATION_MODES),
            "Evaluation modes; any sequence type is one. The two defaults are the paper's ICL and "
            "IWL. Few-shot modes use the options of this section, all others those of training."),
        "every": Option(1000, integer(1),
            "Steps between evaluations; the last step is always evaluated."),
        "at": Option((), rules.STEPS, f"Evaluate {_STEPS}", before=()),
        # An interval needs two.
        "num_sequences": Option(2000, integer(2),
            "Sequences per mode, the same at every evaluation."),
        "batch_size": Option(256, integer(1), "Sequences, and images, evaluated at a time."),
        "seed": Option(0, rules.SEED, "Seed of the evaluation sequences and their noise.",
            per_replica=True),
        "shots": Option(None, rules.OPTIONAL_COUNT, f"{_FEWSHOT} Derived when unset: "
            "(data.sequences.seq_len - 1) / ways, the length of training sequences."),
        "ways": Option(None, integer(2, optional=True), f"{_FEWSHOT} Derived when unset: "
            "data.sequences.ways, at least 2."),
        "distinct_ways": Option(True, rules.BOOLEAN, "Few-shot modes, except 'flip': draw the "
            "ways without replacement, unlike the reference implementation (docs/fidelity.md)."),
        "grouped": Option(False, rules.BOOLEAN,
            "Few-shot modes: the context comes in blocks that contain each class once."),
        "fewshot_labeling": Option("unfixed", one_of(LABELINGS),
            "Labels of few-shot modes, except 'flip' and 'mixed': 'unfixed' (0..ways-1, reassigned "
            "in each sequence), or 'ordered', 'original', or 'shared' for fixed labels."),
        "exemplars": Option("trained", one_of(("trained", "holdout")), "Exemplars of trained "
            "classes to show: those trained on, or the data.split.num_holdout_exemplars that never "
            "were.", before="trained"),
    }, reopenable=True),
    **section("checkpoints", {
        "every": Option(1000, integer(1),
            "Steps between checkpoints; the last step is always saved."),
        "keep": Option(2, integer(1), "Number of newest checkpoints to keep, besides those "
            "listed in `at`."),
        "at": Option((), rules.STEPS, f"Save {_STEPS} These checkpoints are never deleted.",
            before=()),
    }, resumable=True),
    **section("logging", {
        "loggers": Option(("tensorboard",), some_of(registry.LOGGERS, at_least=0), "Where metrics "
            "go besides metrics.jsonl, which is always written: 'tensorboard' (event files in the "
            "work directory), 'wandb' (Weights & Biases: pip install 'emergent-icl[wandb]').",
            before=("tensorboard",)),
        "wandb_project": Option("emergent-icl", rules.STRING, "Project in Weights & Biases; its "
            "own variables set the rest (WANDB_MODE=offline, WANDB_ENTITY).",
            before="emergent-icl"),
    }, per_machine=True),
}
