"""Figures of what was measured; each a function of plain values that returns a `Picture`."""

from __future__ import annotations

from dockerlab.plots.autoscale import autoscale
from dockerlab.plots.drift import drift
from dockerlab.plots.layers import layers
from dockerlab.plots.picture import Picture
from dockerlab.plots.requests import requests
from dockerlab.plots.scaling import scaling
from dockerlab.plots.start_times import start_times

__all__ = ["Picture", "autoscale", "drift", "layers", "requests", "scaling", "start_times"]
