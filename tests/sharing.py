"""Compiled programs shared by the runs of this process; compilation takes longer than steps."""

import functools
import json

from emergent_icl.config.configs import flatten
from emergent_icl.evaluation import evaluate as evaluation
from emergent_icl.models.tokens import position_capacity
from emergent_icl.runs import train as loop
from emergent_icl.training import build as experiment
from emergent_icl.training.replicas import shared_config

# Options that are not compiled into a program. Neither are shapes: new shapes are compiled again.
APART = (
    "name", "checkpoints.", "data.cache_dir", "data.data_dir", "data.features.", "data.feeder",
    "data.gaussian.", "data.glyphs.", "data.image_size", "data.images.", "data.noise_scale",
    "data.omniglot.", "data.sequences.", "data.split.", "data.symbolic.", "evaluation.", "logging.",
    "training.batch_size", "training.initial.", "training.log_every", "training.num_steps",
    "training.optimizer.learning_rate", "training.optimizer.warmup_steps",
    "training.optimizer.weight_decay", "training.replica_overrides", "training.replicas",
    "training.seed", "training.steps_per_call",
)  # fmt: skip
_programs = {}


def _shared(what, of, make, *facts, apart=APART):
    """The program of an earlier experiment with the same options and facts, or a new one."""
    config, task = shared_config(of.config, of.replicas), of.task
    options = flatten(config.to_dict())
    kept = {path: value for path, value in options.items() if not path.startswith(apart)}
    # Other schedules may depend on the number of steps.
    if config.training.optimizer.schedule not in ("paper", "constant"):
        facts += (config.training.num_steps,)
    capacity = position_capacity(config.model, task.longest_seq_len)
    facts += (task.shape.kind, task.num_labels, capacity, config.data.noise_scale > 0)
    key = (what, json.dumps([facts, kept], sort_keys=True))
    if key not in _programs:
        _programs[key] = make()
    return _programs[key]


def share(monkeypatch):
    """Makes runs share initialization, training step, and evaluation, until undone."""
    own_step = loop.make_step
    own_initializer = experiment.Experiment.initializer

    def make_step(of, *arguments):
        step = own_step(of, *arguments)
        facts = (step.steps_per_call, len(of.replicas))
        return step._replace(train_call=_shared("step", of, lambda: step.train_call, *facts))

    def initializer(self):
        facts = self.task.training.seq_len, self.task.shape.example_shape
        return _shared("init", self, lambda: own_initializer(self), *facts)

    def evaluators(self):
        parts = (self.network, self.materialize)
        make = functools.partial(evaluation.compile_evaluation, *parts)
        compiled = _shared("evaluation", self, make, apart=(*APART, "training."))
        return [evaluation.Evaluator(one.config, one.task, compiled) for one in self.replicas]

    monkeypatch.setattr(loop, "make_step", make_step)
    monkeypatch.setattr(experiment.Experiment, "initializer", initializer)
    monkeypatch.setattr(experiment.Experiment, "evaluators", evaluators)
