# `make` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PACKAGING := pyproject.toml requirements.lock

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test test-bare test-faults test-services test-newest accelerator-check record lint docs site wheel release lock

help:
	@echo "make install   create $(VENV) with the pinned dependencies"
	@echo "make install-dev    the same, with the development tools"
	@echo "make demo      train on procedural glyphs (about a minute on 2 cores)"
	@echo "make test      run the tests (about 5 minutes on 2 cores)"
	@echo "make test-bare      run the tests in a minimal environment"
	@echo "make test-faults    run the fault-injection tests (about 11 minutes)"
	@echo "make test-newest    run the faster half of the tests on the newest JAX, without TensorFlow (Python 3.13)"
	@echo "make accelerator-check MINUTES=8   measure a machine with one GPU, then train"
	@echo "make test-services  run the tests that need Chromium or SLURM (as root, they install SLURM)"
	@echo "make record    update the recorded numbers and print the changes"
	@echo "make lint      check style, formatting, and types"
	@echo "make docs      update the generated parts of the documentation"
	@echo "make site      build the documentation site in docs/_build"
	@echo "make wheel     build dist/*.whl and test it in a clean environment"
	@echo "make release   build sdist and wheel, and test the wheel on Python 3.11, 3.12, and 3.13"
	@echo "make lock      update requirements.lock from the ranges in pyproject.toml"

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is required, but $(PYTHON) is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# The lock file constrains both installations, so exact versions are stated only once.
$(VENV)/.installed: $(PACKAGING) | $(BIN)/python
	$(PIP) install --quiet --constraint requirements.lock --editable .
	@touch $@

$(VENV)/.installed-dev: $(PACKAGING) | $(BIN)/python
	$(PIP) install --quiet --constraint requirements.lock --editable '.[dev]'
	@touch $@ $(VENV)/.installed

demo: install
	$(BIN)/python -m experiments.train --config=experiments/configs/glyphs.py:demo --workdir=runs/demo

test: install-dev
	$(BIN)/python -m pytest

test-bare: install-dev
	tests/bare.sh $(VENV) $(BIN)/python -m pytest -rs

test-faults: install-dev
	$(BIN)/python -m pytest -m faults -rs --no-loadscope-reorder

test-services: install-dev
	$(BIN)/python -m pytest -m 'slurm or browser' -rs

test-newest: install
	tests/newest.sh $(VENV) 3.13

# Not installed here: the pinned JAX would not use an accelerator.
accelerator-check:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m experiments.accelerator_check --minutes=$(or $(MINUTES),8)

record: install-dev
	env -u XLA_FLAGS PYTHONPATH=.:tests $(BIN)/python -m net.record $(ONLY)

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

docs: install
	$(BIN)/python -m experiments.options > docs/options.md
	$(BIN)/python -m experiments.pages --results=docs/reproduction/results.json README.md docs/reproduction.md
	$(BIN)/python -m experiments.pages --results=docs/reproduction/one_split/results.json docs/one_split.md

site: install-dev
	$(BIN)/python -m sphinx --fresh-env --fail-on-warning --keep-going --quiet --builder html docs docs/_build

wheel: $(BIN)/python
	$(BIN)/python tests/wheel_smoke.py

release: install-dev
	$(BIN)/python tests/wheel_smoke.py 3.11 3.12 3.13

lock: $(BIN)/python
	$(PIP) install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --fork-strategy fewest \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet --upgrade --output-file requirements.lock
