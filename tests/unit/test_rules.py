"""The five rules of docs/design.md."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dockerlab

ROOT = Path(dockerlab.__file__).parent
PURE = (
    "dockerlab.drift.compare",
    "dockerlab.drift.model",
    "dockerlab.drift.results",
    "dockerlab.fleet.analysis",
    "dockerlab.fleet.apart",
    "dockerlab.autoscale.policy",
    "dockerlab.autoscale.metrics",
    "dockerlab.autoscale.rule",
    "dockerlab.fleet.forecast",
    "dockerlab.heal.policy",
    "dockerlab.heal.history",
    "dockerlab.heal.rules",
    "dockerlab.heal.verdict",
    "dockerlab.fleet.inplace",
    "dockerlab.fleet.model",
    "dockerlab.fleet.numbers",
    "dockerlab.fleet.plan",
    "dockerlab.fleet.progress",
    "dockerlab.fleet.steps",
    "dockerlab.fleet.strategies",
    "dockerlab.fleet.table",
    "dockerlab.fleet.view",
    "dockerlab.images.layers",
    "dockerlab.traffic.results",
    "dockerlab.traffic.schedule",
)
NOT_LOADED = (
    "aiohttp",
    "click",
    "ipykernel",
    "ipywidgets",
    "IPython",
    "jupyterlab",
    "matplotlib",
    "nbconvert",
    "nbformat",
    "numpy",
    "papermill",
    "psutil",
    "rich",
)


def modules() -> dict[str, Path]:
    """Give every module of dockerlab by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("dockerlab", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(source: str, module: str, *, package: bool = False) -> Iterator[str]:
    """Give every module that the source imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: len(module.split(".")) - node.level + package] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            yield prefix
            # `from dockerlab.fleet import model` imports a module, `from dockerlab.errors import X` a name
            full = (f"{prefix}.{alias.name}" for alias in node.names)
            yield from (name for name in full if name in MODULES or name == "matplotlib.pyplot")
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__"):
                yield str(node.args[0].value)


def imported_by(module: str) -> set[str]:
    path = MODULES[module]
    return set(imports(path.read_text(encoding="utf-8"), module, package=path.name == "__init__.py"))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import matplotlib.pyplot as plt", {"matplotlib.pyplot"}),
        ("from matplotlib import pyplot", {"matplotlib", "matplotlib.pyplot"}),
        ("def f():\n    import ipywidgets", {"ipywidgets"}),
        ("if TYPE_CHECKING:\n    from dockerlab.engine.api import x", {"dockerlab.engine.api"}),
        ("from dockerlab import errors", {"dockerlab", "dockerlab.errors"}),
        ("from .. import errors", {"dockerlab", "dockerlab.errors"}),
        ("from ..errors import StateError", {"dockerlab.errors"}),
        ("importlib.import_module('aiohttp')", {"aiohttp"}),
    ],
)
def test_the_checker_sees_every_form_of_import(source: str, expected: set[str]) -> None:
    assert set(imports(source, "dockerlab.fleet.model")) == expected


def test_rule_1_the_engine_stands_alone() -> None:
    for module in MODULES:
        names = imported_by(module)
        if within(module, "dockerlab.engine"):
            ours = {name for name in names if within(name, "dockerlab")}
            strange = {name for name in ours if not within(name, "dockerlab.engine")}
            assert strange <= {"dockerlab", "dockerlab.errors"}, module
        elif not within(module, "dockerlab.connect") and module != "dockerlab.cli":
            assert not {name for name in names if within(name, "dockerlab.engine")}, module


def test_rule_2_every_pure_module_is_there() -> None:
    assert [module for module in PURE if module not in MODULES] == []


@pytest.mark.parametrize("module", PURE)
def test_rule_2_pure_modules_import_only_errors_and_each_other(module: str) -> None:
    # Each pure module is held to this, so what they import of each other is pure as well, all the way down
    allowed = {"dockerlab.errors", *PURE}
    # The packages themselves are named by `from dockerlab.fleet import model`, and dockerlab by `from dockerlab import`
    names = {name for name in imported_by(module) if name in allowed or not is_package_of_allowed(name, module)}
    strange = {name for name in names if name not in allowed and name.split(".")[0] not in sys.stdlib_module_names}
    assert strange == set(), f"{module} is pure and must not import {strange}"


def is_package_of_allowed(name: str, module: str) -> bool:
    """Tell whether a package is named only to import one of its pure modules from it."""
    if name not in ("dockerlab", "dockerlab.fleet", "dockerlab.images", "dockerlab.traffic"):
        return False
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import) and any(alias.name == name for alias in node.names):
            return False
        if isinstance(node, ast.ImportFrom) and node.module == name:
            return all(f"{name}.{alias.name}" in MODULES for alias in node.names)
    return False


def test_rule_3_only_plots_knows_matplotlib_and_nobody_pyplot() -> None:
    for module in MODULES:
        names = imported_by(module)
        assert "matplotlib.pyplot" not in names, module
        if not within(module, "dockerlab.plots"):
            assert not {name for name in names if within(name, "matplotlib")}, module


def test_rule_3_only_widgets_knows_ipywidgets() -> None:
    for module in MODULES:
        if not within(module, "dockerlab.widgets"):
            assert not {name for name in imported_by(module) if within(name, "ipywidgets")}, module


def test_rule_4_importing_dockerlab_loads_nothing_heavy() -> None:
    code = "import json, sys; import dockerlab; print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.partition(".")[0] for name in json.loads(answer.stdout)}
    assert "dockerlab" in loaded
    assert loaded & set(NOT_LOADED) == set()


def test_rule_5_the_public_names_are_short_and_sorted() -> None:
    names = list(dockerlab.__all__)
    assert names == sorted(names)
    assert len(names) == len(set(names))
    assert 0 < len(names) <= 25
    assert [name for name in names if name.startswith("_")] == []
    assert [name for name in names if not hasattr(dockerlab, name)] == []
