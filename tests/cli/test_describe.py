import re

import pytest
from launching import launch


def test_describe_explains_a_config():
    skewed = "--config.data.sequences.zipf_exponent=3"
    done = launch("describe", "--config=tests/tiny.py:images", skewed)
    assert done.returncode == 0, done.stderr
    words = " ".join(re.split(r"[\s│]+", done.stdout))
    assert "always predicting the most common label gives 0.832" in words
    for text in ("28 rare, 4 common, 8 held out", "transformer", "GFLOP per step", "ms per step"):
        assert text in done.stdout
    assert re.search(r"all +│ +[\d,]+", done.stdout)
    assert "warning: 8 holdout classes" in done.stdout


def test_chance_counts_classes_not_their_labels():
    several = "--config.data.sequences.label_multiplicity=5"
    done = launch("describe", "--config=tests/tiny.py:images", several, "--nomeasure")
    words = " ".join(re.split(r"[\s│]+", done.stdout))
    assert "5 per class" in words
    assert "no_support_zipfian 8 pairs and a query, closed chance 1 / 32" in words


@pytest.mark.faults
def test_describe_without_measuring_reports_no_time():
    done = launch("describe", "--config=experiments/configs/omniglot.py:paper", "--nomeasure")
    assert done.returncode == 0, done.stderr
    assert "831,479" in done.stdout
    assert "ms per step" not in done.stdout


def test_describe_rejects_an_invalid_config():
    done = launch("describe", "--config=tests/tiny.py:images", "--config.training.batch_size=0")
    assert done.returncode == 1
    assert "training.batch_size = 0 must be an integer >= 1" in done.stderr
    done = launch("describe")
    assert done.returncode == 2
    assert "error:" in done.stderr
