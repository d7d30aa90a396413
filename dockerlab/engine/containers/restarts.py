"""When a container that ended is started again."""

from __future__ import annotations

from dockerlab.engine.containers.record import Record

_FIRST_S, _LONGEST_S, _STEADY_S = 0.1, 60.0, 10.0


def wanted(record: Record) -> bool:
    """Tell whether its policy wants it started again."""
    policy = record.host["RestartPolicy"]
    name, most = policy["Name"], policy["MaximumRetryCount"]
    if record.stopped_by_hand or name in ("", "no"):
        return False
    if name == "on-failure":
        return record.exit_code != 0 and (not most or record.restarts < most)
    return True


def delay(record: Record, ran_s: float) -> float:
    """Give the pause before that: doubled each time, from the start again after it ran for 10 s, as Docker does."""
    if ran_s >= _STEADY_S:
        return _FIRST_S
    return float(min(_LONGEST_S, _FIRST_S * 2 ** min(record.restarts, 10)))
