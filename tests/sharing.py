"""Compiled programs that runs of this process share: compiling one takes longer than its steps."""

import json

from emergent_icl.config.configs import flatten
from emergent_icl.evaluation import evaluate as evaluation
from emergent_icl.runs import train as loop
from emergent_icl.training import build as experiment

# Nothing of these is compiled in.
APART = (
    "name", "training.seed", "training.num_steps", "training.log_every", "evaluation.every",
    "evaluation.seed", "evaluation.num_sequences", "checkpoints.every", "checkpoints.keep",
    "data.cache_dir", "data.sequences.p_bursty", "data.sequences.zipf_exponent",
    "training.optimizer.learning_rate", "training.optimizer.warmup_steps",
    "training.optimizer.weight_decay", "evaluation.at", "checkpoints.at", "logging.loggers",
    "logging.wandb_project", "training.initial.run", "training.initial.step",
    "training.initial.replica", "training.initial.modules", "training.initial.checksum",
)  # fmt: skip
_programs = {}


def _shared(what, of, make):
    """What an experiment with an equal config compiled, where there was one."""
    options = flatten(of.config.to_dict())
    # A schedule may end with the run.
    ends = options["training.optimizer.schedule"] not in ("paper", "constant")
    apart = set(APART) - ({"training.num_steps"} if ends else set())
    config = {path: value for path, value in options.items() if path not in apart}
    key = (what, json.dumps(config, sort_keys=True))
    if key not in _programs:
        _programs[key] = make()
    return _programs[key]


def share(monkeypatch):
    """Until the monkeypatch is undone, runs share initialization, training step and evaluation."""
    own_step = loop.make_step
    own_initializer = experiment.Experiment.initializer

    def make_step(of, *arguments):
        step = own_step(of, *arguments)
        what = ("step", step.steps_per_call)
        return step._replace(train_call=_shared(what, of, lambda: step.train_call))

    def initializer(self):
        return _shared("init", self, lambda: own_initializer(self))

    def evaluators(self):
        parts = (self.network, self.materialize)
        compiled = _shared("evaluation", self, lambda: evaluation.compile_evaluation(*parts))
        return [evaluation.Evaluator(one.config, one.task, compiled) for one in self.replicas]

    monkeypatch.setattr(loop, "make_step", make_step)
    monkeypatch.setattr(experiment.Experiment, "initializer", initializer)
    monkeypatch.setattr(experiment.Experiment, "evaluators", evaluators)
