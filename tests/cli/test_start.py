"""How commands start, and their --help."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib

import launching
import pytest

from emergent_icl import __version__, presets
from emergent_icl.cli.start import COMMANDS

MODULES = {
    **{command: f"emergent_icl.cli.{command}" for command in COMMANDS},
    "benchmark": "benchmarks.run",
}
DEFINED = """
import importlib, sys
from absl import app, flags
others = set(flags.FLAGS)
for name in ("emergent_icl.cli.flags", sys.argv[1]):
    importlib.import_module(name)
print(*(set(flags.FLAGS) - others))
"""


def output(*words, status=0, **how):
    """The output of a process; if it fails as expected, its errors."""
    process = launching.start(*words, **how)
    out, err = process.communicate(timeout=launching.PATIENCE)
    assert process.returncode == status, err
    assert "Traceback" not in err
    return err if status else out


def test_all_commands_can_be_imported_in_one_process():
    """As documentation tools do; commands define no flag twice."""
    modules = ", ".join(MODULES[command] for command in COMMANDS)
    output("-c", f"import {modules}")


@pytest.mark.parametrize("launcher", MODULES)
def test_help_lists_every_flag(launcher):
    defined = set(output("-c", DEFINED, MODULES[launcher]).split())
    text = launching.launch(launcher, "--help").stdout
    assert set(re.findall(r"^  --(?:\[no\])?(\w+):", text, re.MULTILINE)) == defined
    assert "extensions" in defined
    assert f"python -m experiments.{launcher}" in text


def test_start_imports_nothing_slow():
    code = "import sys, emergent_icl.cli.start; print({'jax', 'numpy', 'absl'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_train_imports_libraries_of_figures_and_statistics_only_when_it_draws():
    slow = {"matplotlib", "scipy.stats", "plotly", "tensorflow"}
    code = f"import sys, emergent_icl.cli.train; print({slow} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_the_package_runs_and_lists_every_command():
    assert "p_bursty" in output("-m", "emergent_icl", "options", "--filter=p_bursty")
    allowed = sorted(command.replace("_", "-") for command in COMMANDS)
    overview = output("-m", "emergent_icl", "--help")
    for command in allowed:
        assert re.search(rf"^  {command} +[A-Z].*\.$", overview, re.MULTILINE), command
    assert output("-m", "emergent_icl", "--version") == f"emergent-icl {__version__}\n"
    for word in ("inspect-data", "inspect_data"):
        usage = f"python -m emergent_icl {word} --config="
        assert usage in output("-m", "emergent_icl", word, "--help")
    for words, said, hint in (
        ([], "a command is missing", ""),
        (["trai"], "command 'trai' is unknown", "; did you mean 'train'?"),
    ):
        error = output("-m", "emergent_icl", *words, status=2)
        assert error == f"error: {said} (allowed: {', '.join(allowed)}){hint}\n"


@pytest.fixture
def script(tmp_path):
    """The script that pip creates for the entry point in pyproject.toml."""
    project = tomllib.loads((launching.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ((name, target),) = project["project"]["scripts"].items()
    module, function = target.split(":")
    path = tmp_path / "bin" / name
    path.parent.mkdir()
    code = f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n"
    path.write_text(f"#!{sys.executable}\n{code}")
    path.chmod(0o755)
    return path


def test_the_installed_command_works_from_any_folder(script, tmp_path):
    (tmp_path / "mine.py").write_text("raise OSError('was imported')\n")
    env = {"PYTHONPATH": str(launching.ROOT), "PATH": f"{script.parent}:{os.environ['PATH']}"}
    how = {"cwd": tmp_path, "env": env}
    assert "  emergent-icl options [--filter" not in output(script, "options", "--help", **how)
    assert "\nemergent-icl options [--filter" in output(script, "options", "--help", **how)
    error = output(script, "options", "--extensions=mine", status=2, **how)
    assert "mine cannot be imported (OSError: was imported)" in error
    # The command to resume, however the script was found.
    code = "import sys; from emergent_icl.cli.console import command_line; "
    for typed, shown in (
        ([str(script), "train", "--workdir=a b"], "emergent-icl train '--workdir=a b'"),
        (["-sP", str(script), "train"], "emergent-icl train"),
        (["-m", "experiments.train", "--x"], f"{sys.executable} -m experiments.train --x"),
    ):
        said = output("-c", f"{code}sys.orig_argv[1:] = {typed!r}; print(command_line())", **how)
        assert said.rstrip("\n").endswith(shown), said


def test_presets_are_found_by_name_from_any_folder(tmp_path):
    how = {"cwd": tmp_path, "env": {"PYTHONPATH": str(launching.ROOT)}}
    words = ("-m", "emergent_icl", "describe", "--nomeasure")
    file = f"{presets.__path__[0]}/gaussian.py"
    expected = output(*words, f"--config={file}:reddy", "--config.model.num_layers=3", **how)
    assert "gaussian" in expected
    for config in (["--config=gaussian:reddy"], ["--config", "gaussian:reddy"]):
        assert output(*words, *config, "--config.model.num_layers=3", **how) == expected
    error = output(*words, "--config=gausian:reddy", status=2, **how)
    assert "error: config 'gausian:reddy': there is no file gausian" in error
    assert "did you mean 'gaussian:reddy'?" in error
    wrong = output(
        *words, "--config=gaussian:reddy", "--config.model.nun_layers=1", status=2, **how
    )
    assert "did you mean 'model.num_layers'" in wrong


@pytest.mark.faults
def test_the_value_of_another_flag_is_not_a_preset(tmp_path):
    how = {"cwd": tmp_path, "env": {"PYTHONPATH": str(launching.ROOT)}}
    words = ("-m", "emergent_icl", "inspect_data", "--config=gaussian:reddy", "--sample=20")
    output(*words, "--rows=1", "--workdir", "config=glyphs", **how)
    assert (tmp_path / "config=glyphs" / "inspection.json").exists()


def test_standard_output_may_be_closed():
    code = "import sys; sys.stdout = None; from emergent_icl.cli import start; "
    output("-c", f"{code}sys.argv = ['options', '--filter=burst']; start.launch('options')")


@pytest.mark.faults
@pytest.mark.parametrize("option", ["-O", "-OO"])
def test_python_without_assertions_is_rejected(option):
    """Haiku would misname all parameters, and the run could not be opened."""
    error = output(option, "-m", "emergent_icl", "options", status=1, fresh=True)
    assert error.startswith("error: Haiku misnames parameters when assertions are off")


def test_a_flag_of_another_command_and_a_missing_flag_are_errors():
    error = output("-m", "experiments.train", "--step=5", status=2)
    assert "Unknown command line flag 'step'" in error
    assert output("-m", "experiments.train", status=2) == "error: --workdir is required\n"


# Each in its own process, since flags are global.
PARSED = """
import importlib, json, os, sys
from emergent_icl.cli.flags import parse_flags
for module, words in json.loads(sys.argv[1]):
    if os.fork() == 0:
        try:
            sys.argv[1:] = words
            importlib.import_module(module)
            parse_flags(sys.argv)
        except SystemExit:
            os._exit(1)
        os._exit(0)
    if os.wait()[1]:
        sys.exit(f"refused: {module} {words}")
"""
PAGES = [
    launching.ROOT / "README.md",
    *(launching.ROOT / "docs" / "howto").glob("*.md"),
    *(launching.ROOT / "docs").glob("tutorial.md"),
]


def command_lines(page):
    """(command, flags) of a page, except with users' own files or omitted flags."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    pattern = (
        r"^(?:emergent-icl |python -m (?:experiments\.|emergent_icl ))((?:\"[^\"]*\"|[^\"\n])+)"
    )
    for line in re.findall(pattern, text, re.MULTILINE):
        if "my_" not in line and "..." not in line:
            command, *words = shlex.split(line, comments=True)
            if not command.startswith("-"):
                yield command.replace("-", "_"), words


def test_every_command_in_the_docs_is_valid():
    lines = [(MODULES[command], words) for page in PAGES for command, words in command_lines(page)]
    output("-c", PARSED, json.dumps(lines))
    assert len(lines) >= 10
