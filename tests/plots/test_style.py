"""Figures do not depend on a user's backend, matplotlibrc, or style sheet."""

import importlib
import inspect
import pkgutil

import matplotlib
import pytest
from launching import PATIENCE, start
from matplotlib.figure import Figure

from emergent_icl import plots
from emergent_icl.plots import style
from emergent_icl.plots.learning_curves import learning_curves_figure

MODULES = [f"emergent_icl.plots.{one.name}" for one in pkgutil.iter_modules(plots.__path__)]
FUNCTIONS = {
    f"{module}.{name}": function
    for module in [*MODULES, "benchmarks.figures"]
    for name, function in inspect.getmembers(importlib.import_module(module), inspect.isfunction)
    if name.endswith("_figure") and not name.startswith(("_", "new_"))
}
ODD = {
    "text.usetex": True, "font.family": "Comic Nope", "axes.grid": True, "savefig.bbox": "tight",
    "figure.dpi": 31, "font.size": 31, "savefig.format": "pdf", "figure.facecolor": "red",
    "lines.linewidth": 9, "svg.fonttype": "none", "axes.formatter.use_locale": True,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_figure_uses_our_style(name):
    assert inspect.unwrap(FUNCTIONS[name]) is not FUNCTIONS[name], "lacks style.in_our_style"


@pytest.mark.parametrize("form", style.FORMATS)
def test_figures_are_independent_of_matplotlibrc_to_the_byte(form, tmp_path):
    lines = [{"step": step, "train/loss": 1 / step} for step in (10, 20, 30)]
    written = []
    for settings in ({}, ODD):
        with matplotlib.rc_context(settings):
            figure = learning_curves_figure(lines, "$title", {})
            style.sign(figure, "config 1234")
            assert isinstance(figure, Figure)
            path = tmp_path / str(len(written)) / f"figure{form}"
            style.save(figure, path)
        written.append(path.read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_any_backend_is_accepted(backend):
    code = "import os; from emergent_icl.plots import style; style.new_figure(1, 1); "
    code += "import matplotlib; print(os.environ['MPLBACKEND'], matplotlib.get_backend())"
    process = start("-c", code, env={"MPLBACKEND": backend, "DISPLAY": ""})
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert out.startswith(backend)
    # Pyplot in a notebook keeps its backend.
    assert (backend in out.split()[1:]) == (backend != "nonsense")
