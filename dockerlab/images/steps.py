"""What an engine tells while it builds, read into steps; no engine is needed to test it.

Two dialects are understood: the classic builder of Docker ("Step 2/5 : RUN ...", " ---> Using cache") and Podman's
answer to the same call ("STEP 2/5: RUN ...", "--> Using cache ...").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dockerlab.errors import (
    BuildError,
    DiskFullError,
    DockerfileError,
    DockerlabError,
    ImageError,
    ImageNotFoundError,
)
from dockerlab.images.layers import BuildStep

_STEP = re.compile(r"^(?:\[\d+/\d+\] )?STEP (\d+)/(\d+) ?: (.*)$", re.IGNORECASE | re.DOTALL)
_CHATTER = re.compile(
    r"^( ?--->? |Removing intermediate container |Successfully (built|tagged) |COMMIT |-->|sha256:)", re.IGNORECASE
)
_BUILT = re.compile(r"^(?:Successfully built |sha256:)?([0-9a-f]{12,64})$")
_LINE = re.compile(r"line (\d+)", re.IGNORECASE)
_ABSENT = re.compile(
    r"pull access denied|manifest for \S+ not found|manifest unknown|no such image|repository does not exist|"
    r"repository name not known|name unknown|image not known",
    re.IGNORECASE,
)
_NOT_PARSED = re.compile(
    r"parse error|parsing dockerfile|unknown instruction|unknown flag|dockerfile.* cannot be empty|no instructions|"
    r"no build stage in current context|dockerfile contains no|syntax error|requires (at least|exactly)",
    re.IGNORECASE,
)
OUTPUT_LIMIT = 200_000


class StepReader:
    """Collects the steps of one build from the messages of the engine.

    Attributes
    ----------
    steps : list of BuildStep
        The steps that are done.
    image_id : str
        Id of the built image, full or short, once the engine has named it.
    """

    def __init__(self) -> None:
        self.steps: list[BuildStep] = []
        self.image_id = ""
        self._number = self._total = 0
        self._instruction = ""
        self._started_s = 0.0
        self._cached = False
        self._output: list[str] = []
        self._output_size = 0

    @property
    def number(self) -> int:
        """Number of the step that runs now; 0 before the first."""
        return self._number

    @property
    def instruction(self) -> str:
        """Instruction of the step that runs now."""
        return self._instruction

    @property
    def output(self) -> str:
        """What that step printed until now."""
        return "".join(self._output)

    def feed(self, message: Mapping[str, Any], now_s: float) -> list[str]:
        """Take one message in.

        Parameters
        ----------
        message : mapping
            One JSON message of the build's answer.
        now_s : float
            When it arrived, by any clock that only goes forward.

        Returns
        -------
        list of str
            The lines that are worth printing now.
        """
        identity = str((message.get("aux") or {}).get("ID", "")) if isinstance(message.get("aux"), Mapping) else ""
        if identity:
            self.image_id = identity
        text = str(message.get("stream") or "")
        if not text.strip():
            return []
        if step := _STEP.match(text.rstrip("\n")):
            lines = self.finish(now_s)
            self._number, self._total = int(step[1]), int(step[2])
            self._instruction = " ".join(step[3].split())
            self._started_s = now_s
            return lines
        if "using cache" in text.lower() and _CHATTER.match(text):
            self._cached = True
        elif built := _BUILT.match(text.strip()):
            self.image_id = self.image_id or built[1]
        elif not _CHATTER.match(text) and self._number:
            return self._keep(text)
        return []

    def finish(self, now_s: float) -> list[str]:
        """Close the step that runs now, if any, and return the line that reports it."""
        if not self._number:
            return []
        step = BuildStep(
            self._number, self._total, self._instruction, max(0.0, now_s - self._started_s), self._cached, self.output
        )
        self.steps.append(step)
        self._number, self._instruction, self._cached, self._output, self._output_size = 0, "", False, [], 0
        return [str(step)]

    def failure(self, message: str, *, dockerfile: str = "") -> DockerlabError:
        """Turn the engine's sentence about a failed build into our error.

        Parameters
        ----------
        message : str
            What the engine said.
        dockerfile : str
            Text of the Dockerfile, to show the line that is wrong.
        """
        message = message.strip()
        if "no space left" in message.lower():
            return DiskFullError(
                f"The engine ran out of disk space in the build: {message}",
                "Remove what this lab made with lab.reset(), then unused images with `docker image prune`.",
            )
        keyword, _, rest = self._instruction.partition(" ")
        if _NOT_PARSED.search(message) and keyword.upper() not in {"RUN", "FROM"}:
            return parse_failure(message, dockerfile)
        if keyword.upper() == "FROM":
            words = [word for word in rest.split() if not word.startswith("--")]
            return _from_failure(words[0] if words else rest, message)
        return BuildError(message, step=self._number, instruction=self._instruction, output=self.output)

    def _keep(self, text: str) -> list[str]:
        # The end of a long output says why it failed, so the beginning goes first.
        self._output.append(text)
        self._output_size += len(text)
        while self._output_size > OUTPUT_LIMIT and len(self._output) > 1:
            self._output_size -= len(self._output.pop(0))
        return [f"      {line}" for line in text.splitlines() if line.strip()]


def parse_failure(message: str, dockerfile: str) -> DockerfileError:
    """Say what does not parse, with the line of the Dockerfile where the engine named it."""
    shown = ""
    lines = dockerfile.splitlines()
    if (found := _LINE.search(message)) and 0 < int(found[1]) <= len(lines):
        shown = f"\n  line {found[1]}: {lines[int(found[1]) - 1].strip()}"
    if "no build stage" in message:
        shown = "\n  its first instruction must be FROM, such as `FROM dockerlab/base:1`"
    return DockerfileError(f"The Dockerfile does not parse: {message}{shown}", "Mend that line and build again.")


def _from_failure(image: str, message: str) -> ImageError:
    if _ABSENT.search(message):
        return ImageNotFoundError(image)
    return ImageError(
        f"The Dockerfile builds on {image!r}. This engine does not have it and could not fetch it: {message}",
        "Check the name after FROM; without a network, build on an image of `docker images` or on dockerlab/base:1.",
    )
