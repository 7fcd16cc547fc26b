"""Sphinx configuration of the documentation site: `make site`. Needs no network."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

import emergent_icl

DOCS = Path(__file__).parent
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]*)(?:#[^)]*)?\)")
_LOGGER = logging.getLogger(__name__)

project = "emergent-icl"
author = "The emergent-icl authors"
version = release = emergent_icl.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4
# Docstrings quote code in single backticks.
default_role = "code"
highlight_language = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}
napoleon_attr_annotations = False
python_use_unqualified_type_names = True
napoleon_use_ivar = True
html_theme = "furo"
html_title = f"emergent-icl {version}"
html_show_copyright = False
html_copy_source = False


def setup(app: Sphinx) -> None:
    """Connects the functions below."""
    app.connect("source-read", _name_files_outside)
    app.connect("autodoc-skip-member", _is_plain_field)


def _is_plain_field(app: Any, what: str, name: str, member: Any, *_: Any) -> bool | None:
    """Skips fields of named tuples that have no docstring; the signature lists them."""
    is_field = str(getattr(member, "__doc__", "")).startswith("Alias for field number")
    return True if is_field else None


def _name_files_outside(app: Any, page: str, source: list[str]) -> None:
    """Replaces links to files outside the site by their paths; warns of missing files."""

    def replaced(match: re.Match[str]) -> str:
        text, link = match[1].strip("`"), match[2]
        target = (DOCS / page).parent.joinpath(link).resolve()
        if target.is_relative_to(DOCS):
            return match[0]
        if not target.exists():
            _LOGGER.warning("%s does not exist", link, location=page)
        path = target.relative_to(DOCS.parent).as_posix()
        return f"`{path}`" if path.endswith(text) else f"{text} (`{path}`)"

    source[0] = _LINK.sub(replaced, source[0])
