"""Options are declared once, and everything about them is read from the declaration."""

import pytest

from emergent_icl.config import options
from emergent_icl.config.check import option_problems
from emergent_icl.config.configs import default_config, in_words, is_resumable, prefixes
from emergent_icl.config.options import OPTIONS, declare
from emergent_icl.config.rules import Option, integer, number


@pytest.fixture
def mosaics(monkeypatch):
    """An extension's options."""
    monkeypatch.setattr(options, "EXTENSIONS", {})
    monkeypatch.setattr("emergent_icl.config.configs.EXTENSIONS", options.EXTENSIONS)
    monkeypatch.setattr("emergent_icl.config.check.EXTENSIONS", options.EXTENSIONS)
    declare("data.mosaics.size", Option(8, integer(1), "Side of a mosaic."))
    declare("data.mosaics.p", Option(0.1, number(0, 1), "Turned over.", per_replica=True))


def test_prefixes_are_shortened_to_sections():
    may = prefixes("per_replica")
    assert {"data.split.", "data.sequences.", "data.noise_scale", "training.seed"} <= set(may)
    assert not any(path.startswith("data.split.s") for path in may)
    assert in_words(prefixes("reopenable")).endswith(
        "data.images.path, data.features.path, evaluation.*"
    )
    assert prefixes("resumable") == ("training.num_steps", "checkpoints.")
    resumable = {path for path in OPTIONS if is_resumable(path)}
    assert "data.cache_dir" in resumable
    assert not resumable & {"training.seed", "data.source", "evaluation.every"}


def test_extension_options_are_included_on_request(mosaics):
    assert "mosaics" not in default_config().data
    config = default_config("data.mosaics")
    assert config.is_locked
    assert config.data.mosaics.to_dict() == {"size": 8, "p": 0.1}
    assert "data.mosaics.p" in prefixes("per_replica")
    with pytest.raises(KeyError, match="is its extension imported"):
        default_config("data.tiles")


def test_extension_options_are_required_if_their_source_is_used(mosaics):
    config = default_config("data.mosaics").unlock()
    config.data.mosaics.p = 2.0
    assert list(option_problems(config)) == ["data.mosaics.p = 2.0 must be a number >= 0 and <= 1"]
    del config.data.mosaics.p
    assert list(option_problems(config)) == []
    config.data.source = "mosaics"
    assert "data.mosaics.p is missing" in list(option_problems(config))


@pytest.mark.parametrize(
    ("section", "selector"),
    [("data", "sequences.type"), ("model", "encoder"), ("model", "sequence_model"), ("", "")],
)
def test_options_of_other_entries_are_required_where_they_are_used(mosaics, section, selector):
    path = f"{section or 'data'}.entry.size"
    declare(path, Option(8, integer(1), "Of an entry."))
    config = default_config().unlock()
    assert not list(option_problems(config))
    if section:
        config.update_from_flattened_dict({f"{section}.{selector}": "entry"})
    else:
        config.evaluation.modes = (*config.evaluation.modes, "entry")
    assert f"{path} is missing" in list(option_problems(config))


def test_an_option_cannot_be_declared_twice(mosaics):
    for path in ("data.source", "data.mosaics.size"):
        with pytest.raises(ValueError, match="already declared"):
            declare(path, Option(1, integer(1), "Again."))
