#!/usr/bin/env bash
# Tests on the newest JAX and its companions, without pinned versions and without TensorFlow.
#
#   tests/newest.sh VENV 3.13
#
# Runs the faster half of the tests, the demo, and five steps of the paper preset. Omniglot comes from
# a file that VENV, the environment with TensorFlow, prepares; without Omniglot, glyphs stand in.
set -euo pipefail
venv=$(realpath "$1") version=$2
python=$(PYTHONPATH=tests "$venv/bin/python" -c "import wheel_smoke; print(wheel_smoke.find_python('$version'))")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
started=$SECONDS

"$python" -m venv "$folder/venv"
new=$folder/venv/bin/python
"$new" - > "$folder/requirements.txt" << 'PYTHON'
import pathlib, tomllib
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
print(*(one for one in project["dependencies"] if not one.startswith("tensorflow")), sep="\n")
extras = project["optional-dependencies"]
tests = ("chex", "hypothesis", "pytest", "PyYAML", "submitit")
print(*(one for one in extras["dev"] + extras["slurm"] if one.startswith(tests)), sep="\n")
PYTHON
"$new" -m pip --disable-pip-version-check install --quiet --requirement "$folder/requirements.txt"
"$new" -m pip --disable-pip-version-check install --quiet --no-deps --editable .
echo "installed in $((SECONDS - started)) s: $("$new" -m pip list 2> /dev/null |
  awk '/^(jax|jaxlib|dm-haiku|optax|orbax-checkpoint|numpy) / {printf "%s %s, ", $1, $2}') $("$new" --version)"
! "$new" -c "import tensorflow" 2> /dev/null || { echo "TensorFlow is installed"; exit 1; }

prepared=$folder/omniglot.npz
stand_in=(--config.data.source=glyphs --config.data.glyphs.num_classes=1623 --config.data.glyphs.num_exemplars=1)
if [ -n "${TFDS_DATA_DIR:-}" ]; then
  "$venv/bin/python" -m emergent_icl prepare-data --out="$prepared"
  stand_in=("--config.data.data_dir=$prepared")
fi
unset TFDS_DATA_DIR

"$new" -m pytest tests/config tests/datasets tests/models tests/evaluation tests/training
"$new" -m experiments.train --config=experiments/configs/glyphs.py:demo --workdir="$folder/demo"
"$new" -m experiments.train --config=omniglot:paper --workdir="$folder/paper" "${stand_in[@]}" \
  --config.training.num_steps=5 --config.evaluation.num_sequences=32
