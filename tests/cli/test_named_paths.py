"""Paths that users give: every function and command accepts and rejects the same ones."""

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import launching
import numpy as np
import pytest
import tiny

from emergent_icl import findings, presets
from emergent_icl.cli.flags import config_of
from emergent_icl.config.check import ConfigError
from emergent_icl.data.sources import omniglot as omniglot_source
from emergent_icl.data.sources.cache import cache_folder
from emergent_icl.data.sources.source import source_shape
from emergent_icl.plots.comparison import compare
from emergent_icl.presets import omniglot
from emergent_icl.runs.open import load_run, replica_names
from emergent_icl.runs.session import train
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.sweeps.spec import SweepError, load_sweep


def refusal(where):
    with pytest.raises(ConfigError) as error:
        presets.load(str(where))
    return str(error.value)


@pytest.mark.parametrize(
    "folder", ["a:b", "C:\\x", "with space", "deep/a:b:c", "x.py.d", "ünï", "name=a"]
)
def test_a_colon_in_a_path_does_not_start_a_preset(tmp_path, folder):
    path = tmp_path / folder / "conf.py"
    path.parent.mkdir(parents=True)
    shutil.copy(tiny.__file__, path)
    assert presets.load(str(path)).name == "tiny symbols"
    assert presets.load(f"{path}:vectors").name == "tiny vectors"
    sweep = Path(tmp_path, folder, "sweep.py")
    sweep.write_text("from tiny_sweep import get_sweep")
    assert load_sweep(f"{sweep}:searched").search is not None


def test_a_windows_drive_letter_is_part_of_the_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny.__file__, "C:\\x\\y.py")
    assert presets.load("C:\\x\\y.py:images").name == "tiny images"
    assert "there is no file C:\\x\\z.py;" in refusal("C:\\x\\z.py:small")


def test_presets_and_findings_are_found_by_name_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("omniglot", "burstiness"):
        Path(name).mkdir()
    assert presets.load("omniglot:paper").to_dict() == omniglot.get_config("paper").to_dict()
    named = (findings.__name__, findings.FINDINGS)
    assert load_sweep("burstiness:paper", *named).name == "burstiness"
    with pytest.raises(SweepError, match="did you mean 'burstiness:paper'"):
        load_sweep("experiments/configs/sweeps/burstines.py:paper", *named)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("omniglot.py:small", "no file omniglot.py; .* did you mean 'omniglot:small'"),
        ("experiments/configs/omniglot.py:small", "no file exp.* did you mean 'omniglot:small'"),
        ("omniglt:small", "no file omniglt; .* did you mean 'omniglot:small'"),
        ("omniglot:smal", "'smal' is unknown .*paper, paper28, small"),
        ("", "no file ''; it must be FILE.py"),
        ("nothing.json", "No such file or directory: nothing.json"),
        ("broken.json", "broken.json is not a config"),
        ("list.json", "list.json is not a config, but list"),
        ("~nobody-has-this-name/x.py", "no file ~nobody-has-this-name/x.py"),
        ("~nobody-has-this-name/x.json", "No such file"),
        (".", "is a folder"),
        ("run", "is a folder; for the config of the run in it: run/config.json"),
        ("dict.py", "get_config must return a ConfigDict, not dict"),
        ("empty.py", "empty.py: it has no function get_config"),
        ("raises.py", "raises.py: line 2: ZeroDivisionError: division by zero"),
        ("misspelled.py", 'misspelled.py: line 4: .*Did you mean "data"'),
    ],
)
def test_an_invalid_config_is_one_message(tmp_path, monkeypatch, where, said):
    monkeypatch.chdir(tmp_path)
    files = {
        "broken.json": "{",
        "list.json": "[]",
        "run/config.json": "{}",
        "dict.py": "def get_config(): return {}",
        "empty.py": "",
        "raises.py": "def get_config():\n    1 / 0",
        "misspelled.py": "from emergent_icl.presets import base\n"
        "def get_config():\n    config = base.get_config()\n    config.dat.source = 'glyphs'",
    }
    for name, content in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    message = refusal(where)
    assert message.startswith(f"config '{where}': ")
    assert "\n" not in message
    assert re.search(said, message)


def test_a_stored_config_can_be_used_like_any_config(tmp_path):
    config = tiny.get_config("vectors")
    stored = config.to_dict()
    # As written by an earlier version.
    del stored["data"]["sequences"]["draws"]
    path = tmp_path / "any name.json"
    path.write_text(json.dumps(stored))
    read = presets.load(str(path))
    assert read.is_locked
    assert read.data.sequences.draws == 1
    varied = config_of(["_", f"--config={path}", "--config.training.seed=3"])
    assert varied.training.seed == 3
    assert varied.data.to_dict() == read.data.to_dict()


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(tiny.__file__, tmp_path / "mine.py")
    assert presets.load("~/mine.py:images").name == "tiny images"
    (tmp_path / "c.json").write_text(json.dumps(tiny.get_config().to_dict()))
    assert presets.load("~/c.json").name == "tiny symbols"
    assert Workdir("~/x").path == tmp_path / "x"
    assert Workdir(Path("~/x")).path == tmp_path / "x"
    # A folder with that name is still possible.
    assert Workdir("./~/x").path == Path.cwd() / "~" / "x"


@pytest.mark.parametrize("option", ["data_dir", "cache_dir", "features.path", "split"])
def test_a_tilde_is_expanded_in_every_path_option(option, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    if option == "data_dir":
        asked = []
        fake = SimpleNamespace(builder=lambda name, data_dir: asked.append(data_dir) or 1 / 0)
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake)
        monkeypatch.setattr(omniglot_source, "import_tensorflow", lambda: None)
        with pytest.raises(ZeroDivisionError):
            omniglot_source._prepared_builder("~/x")
        assert asked == [str(tmp_path / "x")]
    elif option == "cache_dir":
        assert cache_folder("~/x") == tmp_path / "x"
    elif option == "features.path":
        np.save(tmp_path / "x.npy", np.ones((40, 2, 3), np.float32))
        words = ["--config.data.source=features", "--config.data.features.path=~/x.npy"]
        config = config_of(["_", "--config=tests/tiny.py:vectors", *words])
        assert source_shape(config.data).num_classes == 40
    else:
        (tmp_path / "x.json").write_text('{"holdout": [3]}')
        code = "from emergent_icl.cli import flags as ours; from absl import flags\n"
        code += "ours.config_flag(); ours.parse_flags(['_', *__import__('sys').argv[1:]])\n"
        code += "print(flags.FLAGS.config.data.split.holdout)"
        words = ("--config=tests/tiny.py", "--split=~/x.json")
        process = launching.start("-c", code, *words, env={"HOME": str(tmp_path)})
        assert process.communicate(timeout=launching.PATIENCE)[0] == "(3,)\n"


WRONG_FOLDERS = {
    "": "is empty",
    " ": "is empty",
    "gs://bucket/run": "is a URL",
    "s3://bucket": "is a URL",
    "file:///tmp/run": "is a URL",
    "runs/rates=[1,2]": "checkpoints cannot be stored below a path with",
    "~nobody-has-this-name/run": "there is no home folder '~nobody-has-this-name'",
}

# Every function and command that takes a run's folder.
FUNCTIONS = {
    "Workdir": Workdir,
    "load_run": load_run,
    "replica_names": replica_names,
    "train": lambda folder: train(tiny.get_config(), folder),
    "compare": lambda folder: compare([folder]),
    "preset": lambda folder: presets.load(f"stored:{folder}"),
}
COMMANDS = {
    "train": ["--config=tests/tiny.py"],
    "evaluate": [],
    "inspect_data": ["--config=tests/tiny.py"],
    "inspect_run": [],
    "sweep": ["--sweep=tests/tiny_sweep.py", "--plan"],
    "reproduce": ["--plan"],
    "variance": [],
}


@pytest.mark.parametrize("folder", WRONG_FOLDERS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_invalid_folder_is_rejected_by_every_function(function, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((WorkdirError, ConfigError), match=WRONG_FOLDERS[folder]):
        FUNCTIONS[function](folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
def test_an_invalid_folder_is_rejected_by_every_command(command):
    done = launching.launch(command, "--workdir=gs://bucket/run", *COMMANDS[command])
    assert done.returncode == 1
    assert done.stderr == (
        "error: 'gs://bucket/run' is a URL: work directories are local or mounted folders\n"
    )
    assert not Path(launching.ROOT, "gs:").exists()
