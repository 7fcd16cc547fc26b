"""Syntax of the project's files."""

import ast
import gc


def nodes(path):
    """All nodes of a file's syntax tree.

    Before Python 3.11.8, parsing fails with a SystemError if a garbage collection meanwhile lets
    another thread parse (python/cpython#106905).
    """
    gc.disable()
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    finally:
        gc.enable()
    return ast.walk(tree)
