"""Names of containers: which are allowed, and random ones."""

from __future__ import annotations

import re
import secrets
from collections.abc import Container

from dockerlab.engine.refusals import bad

_ALLOWED = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_HOW = tuple(
    """
    able agile amber bold brave bright brisk calm candid clever cosy crisp curious daring eager earnest
    fair fancy festive fond frank fresh gentle glad golden handy happy hardy honest humble jolly keen
    kind lively lucid lucky merry mellow modest neat nimble noble patient plucky polite proud quick
    quiet rapid ready serene sharp silver sincere sleek snug sober spry steady stoic sunny swift tidy
    trusty upbeat vivid warm wise witty zealous
    """.split()  # noqa: SIM905  a list of one word a line is nobody's joy
)
_WHO = tuple(
    """
    babbage bell bohr boole cerf church clarke codd cray curie darwin dijkstra dirac edison einstein
    engelbart euclid euler faraday fermat fermi feynman galileo gauss goldberg goodall hamilton hawking
    hertz hodgkin hopper hoare jang kalam kare keller kepler kilby knuth lamarr lamport leavitt liskov
    lovelace maxwell mccarthy meitner mendel mirzakhani moore morse nash neumann newton nobel noether
    pascal pasteur payne perlman pike ride ritchie shannon shaw snyder tesla thompson torvalds turing
    villani volta wiles wilson wing wozniak wright yalow
    """.split()  # noqa: SIM905  a list of one word a line is nobody's joy
)


def check(name: str, *, shown: str = "") -> str:
    """Give a name without the slash in front of it; 400 where it is not allowed."""
    bare = name.removeprefix("/")
    if not _ALLOWED.fullmatch(bare) or len(bare) > 255:
        raise bad(f"Invalid container name ({shown or name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return bare


def make_up(taken: Container[str]) -> str:
    """Give a name that nobody has yet."""
    while True:
        name = f"{secrets.choice(_HOW)}_{secrets.choice(_WHO)}"
        if name not in taken:
            return name
        name += str(secrets.randbelow(1000))
        if name not in taken:
            return name
