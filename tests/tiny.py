"""A config that trains in seconds, for tests in this process and in other processes.

Presets: symbols (integers, one transformer layer), images (glyphs, MLP, pixel noise),
resnet (the same with a narrow ResNet, for its BatchNorm), vectors (Gaussian classes).
"""

from emergent_icl.presets import base


def get_config(preset="symbols"):
    config = base.get_config().unlock()
    config.name = f"tiny {preset}"
    config.data.source = "symbolic"
    config.data.feeder = "python"
    config.data.symbolic.num_classes = 40
    config.data.split.num_rare = 28
    config.data.split.num_common = 4
    config.data.split.num_holdout = 8
    config.model.encoder = "embedding"
    config.model.num_symbols = 40
    config.model.embedding_size = 16
    config.model.num_layers = 1
    config.model.num_heads = 2
    config.model.rnn_size = 16
    config.training.num_steps = 40
    config.training.batch_size = 8
    config.training.log_every = 10
    config.training.steps_per_call = 1
    config.training.optimizer.warmup_steps = 10
    config.training.optimizer.learning_rate = 1e-2
    config.evaluation.every = 20
    config.evaluation.num_sequences = 50
    config.evaluation.batch_size = 16
    config.checkpoints.every = 20
    if preset == "vectors":
        config.data.source = "gaussian"
        config.data.noise_scale = 0.1
        config.data.gaussian.num_classes = 40
        config.data.gaussian.dimension = 16
        config.model.encoder = "linear"
    if preset in ("images", "resnet"):
        config.data.source = "glyphs"
        config.data.image_size = 12
        config.data.noise_scale = 0.1
        config.data.glyphs.num_classes = 40
        config.data.glyphs.num_exemplars = 5
        config.model.encoder = "mlp"
        config.model.mlp.hidden_sizes = (16,)
    if preset == "resnet":
        config.model.encoder = "resnet"
        config.model.resnet.channels = (16,)
        config.model.resnet.blocks_per_group = (1,)
    return config.lock()
