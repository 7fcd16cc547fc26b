"""Packaging: version ranges live here, exact versions in requirements.lock."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$',
    (ROOT / "emergent_icl" / "__init__.py").read_text(encoding="utf-8"),
    re.MULTILINE,
).group(1)

# TensorFlow only reads TFDS and runs tf.data; everything else works without it.
# The CPU build is enough for that, and exists for x86-64 Linux and Windows.
_TF_CPU = (
    '(sys_platform == "linux" and platform_machine == "x86_64") '
    'or (sys_platform == "win32" and platform_machine == "AMD64")'
)
_TF_FULL = (
    '(sys_platform == "linux" and platform_machine == "aarch64") '
    'or (sys_platform == "darwin" and platform_machine == "arm64")'
)
TENSORFLOW = [
    f'tensorflow-cpu>=2.18,<3; ({_TF_CPU}) and python_version < "3.14"',
    f'tensorflow>=2.18,<3; ({_TF_FULL}) and python_version < "3.14"',
    "tensorflow-datasets>=4.9.8,<5",
    # Imported by tensorflow-datasets, which does not declare it.
    "importlib_resources>=6",
]

# What runs and tests the notebooks.
NOTEBOOK = ["ipykernel>=6.29", "nbclient>=0.10", "nbformat>=5.10"]

# Submits sweeps.
SLURM = ["submitit>=1.5"]

setup(
    name="emergent-icl",
    version=VERSION,
    description="Where in-context learning comes from: data-distributional experiments in JAX",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["emergent_icl", "emergent_icl.*"]),
    package_data={"emergent_icl": ["py.typed", "plots/*.css", "plots/*.js", "plots/*.jinja"]},
    install_requires=[
        "absl-py>=2.1",
        "dm-haiku>=0.0.17",
        # Two ranges, so that two versions are pinned: TensorFlow needs an older one than has
        # wheels for Python 3.14.
        'h5py>=3.11; python_version < "3.14"',
        'h5py>=3.15; python_version >= "3.14"',
        "jax>=0.10",
        "Jinja2>=3.1",
        "jmp>=0.0.4",
        "matplotlib>=3.9",
        "ml-collections>=1.0",
        "numpy>=2.0",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12",
        "Pillow>=11",
        "plotly>=6",
        "rich>=13",
        "scipy>=1.11",
        "tensorboardX>=2.6",
        *TENSORFLOW,
    ],
    extras_require={
        "cuda": ["jax[cuda12]>=0.10"],
        "notebook": NOTEBOOK,
        "slurm": SLURM,
        "dev": [
            "chex>=0.1.89",
            "hypothesis>=6.100",
            "pytest>=8",
            "pytest-xdist>=3.6",
            # The tests read CITATION.cff and build a wheel.
            "PyYAML>=6",
            "ruff>=0.9",
            "setuptools>=77",
            *NOTEBOOK,
            *SLURM,
        ],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
