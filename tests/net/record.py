"""Refreshes the records of the safety net, and prints what changed: `make record`.

The commit that refreshes a record must explain why. `make record ONLY="curves options"` refreshes
only these records.
"""

import difflib
import json
import sys

from net import observe

MOST_LINES = 60


def configs():
    return {name: observe.preset(name) for name in observe.PRESETS}


def parameters():
    return {name: observe.parameters(name) for name in observe.PRESETS}


def steps():
    hashes = {name: observe.lowered_step(name) for name in observe.STEPPED}
    return {"jax": observe.jax.__version__, "steps": hashes}


def curves(names=observe.RUNS, arithmetic=1):
    found = {name: observe.curves(name, arithmetic) for name in names}
    for name, ways in found.items():
        assert ways["uninterrupted"] == ways["resumed"], f"{name} does not resume bit for bit"
    plain = {name: ways["uninterrupted"] for name, ways in found.items()}
    return {"machine": observe.machine(), "curves": plain}


def workdir():
    """Keeps the stored work directory; it is made only if it does not exist."""
    if not (observe.DATA / observe.WORKDIR).exists():
        observe.store_workdir(observe.DATA / observe.WORKDIR)
    with observe.tempfile.TemporaryDirectory() as folder:
        found = observe.resumed_workdir(observe.unpack_workdir(folder))
    return {"machine": observe.machine(), **found}


RECORDS = {
    "configs.json": configs,
    "parameters.json": parameters,
    "steps.json": steps,
    "curves.json": curves,
    "lean.json": lambda: curves(observe.LEAN, arithmetic=2),
    "workdir.json": workdir,
    "verdicts.json": observe.verdicts,
    "options.md": observe.options_page,
}


def main(only):
    observe.DATA.mkdir(exist_ok=True)
    for name, record in RECORDS.items():
        if only and name.partition(".")[0] not in only:
            continue
        path, found = observe.DATA / name, record()
        text = found if isinstance(found, str) else json.dumps(found, indent=1, sort_keys=True)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(text.rstrip() + "\n", encoding="utf-8")
        lines = list(
            difflib.unified_diff(
                before.splitlines(), text.rstrip().splitlines(), "before", "now", n=0, lineterm=""
            )
        )
        print(f"{name}: {len(lines)} lines of difference" if lines else f"{name}: unchanged")
        print("\n".join(lines[:MOST_LINES]))


if __name__ == "__main__":
    main(sys.argv[1:])
