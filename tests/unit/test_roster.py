"""What is known of replicas while workers start and remove them."""

from __future__ import annotations

from typing import Any

from dockerlab.fleet.model import Replica
from dockerlab.fleet.progress import Progress
from dockerlab.fleet.roster import Roster
from dockerlab.router import Look, Server


class Router:
    """Answers with what was so when it was asked; something may happen while it answers."""

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.happens: list[Any] = []

    def look(self) -> Look:
        answer = Look(dict(self.servers), 0, {})
        while self.happens:
            self.happens.pop()()
        return answer


class Replicas:
    def list(self) -> list[Any]:
        return []


def test_what_a_worker_ends_while_the_router_answers_is_not_judged_by_that_answer() -> None:
    router = Router()
    roster = Roster(Replicas(), router, Progress())  # type: ignore[arg-type]
    roster.look()
    begun = roster.put(Replica("a", 1, state="creating", traffic="none", busy=True), mine=True)
    # HAProxy has a server that is being added in maintenance for a moment.
    router.servers["a"] = Server("a", "starting", "maint", 0, "127.0.0.1:80", "blue")
    router.happens.append(lambda: roster.change(begun, state="running", traffic="drain", busy=False))
    (seen,) = roster.look().replicas
    assert seen.traffic == "drain"
    (seen,) = roster.look().replicas
    assert seen.traffic == "maint", "the next answer counts"
