"""For tools that ask for this file; pyproject.toml declares everything."""

from setuptools import setup

setup()
