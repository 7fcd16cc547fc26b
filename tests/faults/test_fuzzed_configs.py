"""With random overrides, a config is rejected by option, or it samples, traces, and steps."""

import jax
import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emergent_icl import randomness
from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import flatten, with_options
from emergent_icl.config.options import OPTIONS
from emergent_icl.runs.check import check
from emergent_icl.training.build import build
from emergent_icl.training.optimizers import hyper_from_config
from emergent_icl.training.step import initial_state, make_step
from emergent_icl.training.update import make_update

pytestmark = pytest.mark.faults

NUMBER, STEPPED = 500, 25
PRESETS = ("symbols", "images", "resnet", "vectors")
RULES = {path: option.rule for path, option in OPTIONS.items()}
# Not read in these tests, or paths.
EXCLUDED = ("name", "data.data_dir", "data.cache_dir", "data.features.path")
INTEGERS = (-1, 0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 40)
FLOATS = (-1.0, 0.0, 1e-3, 0.1, 0.5, 1.0, 1.5, 2.0, float("nan"), float("inf"))
WRONG = st.sampled_from([None, "nonsense", -1, 0.5, True, ()])


def near(path, value):
    """Plausible values."""
    names = RULES[path].names
    if isinstance(value, bool):
        return st.booleans()
    if names and isinstance(value, tuple):
        return st.lists(st.sampled_from(names), max_size=3).map(tuple)
    if names:
        return st.sampled_from(names)
    if isinstance(value, tuple):
        return st.permutations(value).map(tuple) | st.just(value[:-1])
    if isinstance(value, float):
        return st.sampled_from([value, value / 2, value * 2, 0.1, 0.0])
    if isinstance(value, int):
        return st.sampled_from([value, value + 1, value * 2, value * 4, max(value // 2, 1)])
    return st.just(value)


def anything(path, value):
    """Values of the right type."""
    if isinstance(value, tuple):
        return st.lists(st.sampled_from(INTEGERS), max_size=3).map(tuple)
    if isinstance(value, float):
        return st.sampled_from(FLOATS)
    if RULES[path].names:
        return st.sampled_from([name[:-1] for name in RULES[path].names])
    return st.sampled_from(INTEGERS)


@st.composite
def overridden(draw):
    """(preset, {option: value})."""
    preset = draw(st.sampled_from(PRESETS))
    options = flatten(tiny.get_config(preset).to_dict())
    paths = sorted(path for path in options if path in RULES and path not in EXCLUDED)
    chosen = draw(st.lists(st.sampled_from(paths), min_size=1, max_size=4, unique=True))
    changes = {}
    for path in chosen:
        kind = draw(st.sampled_from([near] * 8 + [anything] * 2 + [None]))
        changes[path] = draw(kind(path, options[path]) if kind else WRONG)
    return preset, changes


class Tally:
    def __init__(self):
        self.refused, self.valid, self.stepped = 0, 0, 0


def configure(preset, changes):
    """(config, ''), or (None, why it is rejected)."""
    try:
        config = with_options(tiny.get_config(preset), changes)
        check(config)
    except (TypeError, ConfigError) as error:
        return None, str(error)
    return config, ""


def attempt(tally, preset, changes):
    config, refusal = configure(preset, changes)
    if config is None:
        tally.refused += 1
        # The error names an option that was changed or that no longer fits.
        by_path = any(f"{path} = " in refusal for path in RULES)
        by_name = any(path.rpartition(".")[2] in refusal for path in changes)
        assert by_path or by_name, refusal
        return
    tally.valid += 1
    experiment = build(config)
    training, rows = experiment.task.training, config.training.batch_size
    batch = training.sample(randomness.generator(0, "fuzz", 0), rows)
    assert all(leaf.shape == (rows, training.seq_len) for leaf in batch)
    assert batch.labels.min() >= 0
    assert batch.labels.max() < experiment.task.num_labels
    update = make_update(
        experiment.network,
        experiment.optimizer,
        experiment.materialize,
        config.training.interim_weight,
    )
    state = jax.eval_shape(lambda: experiment.init(0))
    after, metrics = jax.eval_shape(
        update, state, hyper_from_config(config), experiment.arrays(), batch
    )
    assert jax.tree.map(lambda leaf: leaf.shape, after) == jax.tree.map(
        lambda leaf: leaf.shape, state
    )
    assert all(leaf.shape == () for leaf in jax.tree.leaves(metrics))
    # Some of them also take a step.
    if tally.stepped < STEPPED and tally.valid % 4 == 1:
        step(experiment)
        tally.stepped += 1


def step(experiment):
    own = make_step(experiment)
    state = own.layout.place(initial_state(experiment))
    feed = own.feed(0)
    batch = next(feed)
    feed.close()
    state, metrics = own.call(state, batch)
    loss = np.asarray(metrics["loss"])
    assert np.isfinite(loss[0, 0]).all()


def test_random_overrides():
    tally = Tally()

    @settings(
        max_examples=NUMBER,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(overridden())
    def attempt_all(one):
        attempt(tally, *one)

    attempt_all()
    assert tally.refused + tally.valid >= NUMBER
    assert tally.valid >= NUMBER // 5
    assert tally.refused >= NUMBER // 5
    assert tally.stepped == STEPPED
