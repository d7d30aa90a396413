"""dockerlab: learn immutable infrastructure by building, running, scaling and replacing real containers.

Examples
--------
>>> import dockerlab as dl
>>> lab = dl.Lab()  # doctest: +SKIP
>>> v1 = lab.build("apps/web", tag="web:1")  # doctest: +SKIP
>>> web = lab.fleet("web", v1, replicas=3)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dockerlab.autoscale.autoscaler import Autoscaler
from dockerlab.autoscale.policy import AutoscalePolicy
from dockerlab.errors import DockerlabError
from dockerlab.fleet.analysis import Analysis
from dockerlab.fleet.fleet import Fleet
from dockerlab.fleet.rollout import Rollout
from dockerlab.fleet.strategies import BlueGreen, Canary, Pause, Recreate, RollingUpdate, SetWeight
from dockerlab.heal.policy import HealingPolicy
from dockerlab.heal.reconciler import Reconciler
from dockerlab.images import Image
from dockerlab.lab import Lab

if TYPE_CHECKING:
    from dockerlab import course, drift, plots, widgets

__version__ = "0.1.0"
__all__ = [
    "Analysis",
    "AutoscalePolicy",
    "Autoscaler",
    "BlueGreen",
    "Canary",
    "DockerlabError",
    "Fleet",
    "HealingPolicy",
    "Image",
    "Lab",
    "Pause",
    "Reconciler",
    "Recreate",
    "RollingUpdate",
    "Rollout",
    "SetWeight",
    "course",
    "drift",
    "plots",
    "widgets",
]


def __getattr__(name: str) -> Any:
    """Import a room when it is first used: some need matplotlib or ipywidgets."""
    if name in {"course", "drift", "plots", "widgets"}:
        return importlib.import_module(f"dockerlab.{name}")
    raise AttributeError(f"module 'dockerlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: Any) -> None:
    """Give a notebook the course's magics: ``%load_ext dockerlab``."""
    from dockerlab.magics import register  # noqa: PLC0415 - needs IPython, which a script may lack

    register(shell)
