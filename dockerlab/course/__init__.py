"""The course: its notebooks, how they are run without a browser, and how exercises are checked."""

from __future__ import annotations

from dockerlab.course.exercises import Check, Exercise, Finding, Hint, exercise

__all__ = ["Check", "Exercise", "Finding", "Hint", "exercise"]
