"""The sentences that a learner reads, kept apart from the code that chooses them."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from dockerlab.errors import BadInputError


@cache
def words(language: str = "en") -> dict[str, Any]:
    """Give the sentences of one language, as ``texts/<language>.json`` holds them.

    Parameters
    ----------
    language : str
        Two letters, such as ``"en"``.

    Raises
    ------
    BadInputError
        Where there is no such language yet.
    """
    folder = resources.files("dockerlab.course") / "texts"
    known = sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".json"))
    if language not in known:
        raise BadInputError(f"The course has no texts in {language!r}.", f"Choose one of: {', '.join(known)}.")
    texts: dict[str, Any] = json.loads((folder / f"{language}.json").read_text("utf-8"))
    return texts
