"""What the course needs on this machine, what is missing, and what to do about it."""

from dockerlab.doctor.diagnosis import Diagnosis, diagnose
from dockerlab.doctor.examine import Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
