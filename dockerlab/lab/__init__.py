"""The lab: one learner's bench on one engine, what it owns and how it is cleared away."""

from dockerlab.lab.clean import CleanReport, clean
from dockerlab.lab.lab import RUN_LABEL, RUN_VARIABLE, Lab
from dockerlab.lab.oneoff import RunResult

__all__ = ["RUN_LABEL", "RUN_VARIABLE", "CleanReport", "Lab", "RunResult", "clean"]
