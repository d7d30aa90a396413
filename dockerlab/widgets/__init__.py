"""Panels for a notebook: what a fleet is made of, with the handles to change it."""

from __future__ import annotations

from dockerlab.widgets.fleet_model import FleetModel
from dockerlab.widgets.fleet_panel import FleetPanel

__all__ = ["FleetModel", "FleetPanel"]
