"""The architecture: imports in one direction, short files and functions (docs/architecture.md)."""

import ast
import re
from pathlib import Path

import pytest
import syntax

ROOT = Path(__file__).parent.parent
ROOMS = (
    "config", "data", "models", "evaluation", "training", "runs", "sweeps", "plots", "presets",
    "findings", "cli",
)  # fmt: skip
# Named randomness belongs to no package; Python requires the others.
AT_THE_TOP = {"__init__.py", "__main__.py", "randomness.py"}
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
MOST_LINES, MOST_LINES_OF_FUNCTIONS, MOST_LINES_OF_LAUNCHERS = 350, 50, 15


def sources():
    """Every Python file that is not a test."""
    for folder in ("emergent_icl", "experiments", "benchmarks"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def place(module):
    """Position of a module's package in the row; the top of the package comes after all of them."""
    first, *rest = module.split(".")
    if first != "emergent_icl":
        return len(ROOMS) + ("experiments", "benchmarks").index(first)
    if not rest or rest[0] == "__main__":
        return len(ROOMS)
    return -1 if rest[0] == "randomness" else ROOMS.index(rest[0])


def imports(path):
    """Modules of this repository that a file imports anywhere, with line numbers."""
    for node in syntax.nodes(path):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] in ("emergent_icl", "experiments", "benchmarks", "tests"):
                yield name, node.lineno


def test_imports_point_to_the_left():
    back = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources()
        for name, line in imports(path)
        if place(name) > place(module_name(path))
    ]
    assert not back, "\n".join(back)


def test_every_module_is_in_a_package():
    loose = {path.name for path in (ROOT / "emergent_icl").glob("*.py")} - AT_THE_TOP
    rooms = {path.parent.name for path in (ROOT / "emergent_icl").glob("*/__init__.py")}
    assert not loose
    assert rooms == set(ROOMS)


def test_files_are_short():
    long = {module_name(p): n for p in sources() if (n := lines_of(p)) > MOST_LINES}
    assert not long


def test_functions_are_short():
    long = {}
    for path in sources():
        for node in syntax.nodes(path):
            if isinstance(node, ast.FunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MOST_LINES_OF_FUNCTIONS:
                    long[f"{module_name(path)}.{node.name}"] = lines
    assert not long


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.py")), ids=lambda p: p.stem)
def test_launchers_are_thin(path):
    assert lines_of(path) <= MOST_LINES_OF_LAUNCHERS


def test_only_one_file_is_aware_of_devices():
    """All other files receive functions and never name the pmapped axis."""
    words = {"pmap", "shard_map", "axis_name", "axis_index", "pmean", "psum", "all_gather"}
    found = {
        f"{module_name(path)}: {name}" for path in package() for name in words & names_in(path)
    }
    assert {one.split(":")[0] for one in found} == {"emergent_icl.training.devices"}, found


def test_nothing_below_the_commands_prints():
    below = [path for path in package() if place(module_name(path)) < ROOMS.index("cli")]
    assert len(below) > 80
    assert not {module_name(path) for path in below if {"print", "rich"} & names_in(path)}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_pages_name_files_that_exist(page):
    text = page.read_text(encoding="utf-8")
    folders = "|".join(("tests", "docs", "emergent_icl", "experiments", "benchmarks"))
    named = {ROOT / name for name in re.findall(rf"(?:{folders})/[\w/]+\.(?:py|md)\b", text)}
    linked = {page.parent / link for link in re.findall(r"\]\(([\w./-]+)[#)]", text)}
    # Pages may name a test file without its folder.
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert not {str(path) for path in named | linked if not path.exists()}
    assert not set(re.findall(r"\btest_\w+\.py", text)) - tests


def package():
    return (path for path in sources() if path.is_relative_to(ROOT / "emergent_icl"))


def names_in(path):
    """Last components of all names that a file uses, and first components of its imports."""
    names = set()
    for node in syntax.nodes(path):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                names.add(name)
            case ast.keyword(arg=name):
                names.add(name)
            case ast.Import(names=modules):
                names |= {module.name.split(".")[0] for module in modules}
            case ast.ImportFrom(module=module, names=imported):
                names |= {module.split(".")[0], *(one.name for one in imported)}
    return names


def lines_of(path):
    return len(path.read_text(encoding="utf-8").splitlines())
