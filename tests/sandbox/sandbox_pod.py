"""A pod as strict as Binder's or a JupyterHub's, as a container of Docker Engine, with JupyterLab in it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_image import LABEL

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

PORT = "8888"
MEMORY_BYTES = 2 << 30
LIFE_S = 3600  # a pod whose test was killed ends by itself
START = "./binder/start"  # repo2docker runs everything through it
PEAKS = ("/sys/fs/cgroup/memory.peak", "/sys/fs/cgroup/memory/memory.max_usage_in_bytes")


@dataclass(frozen=True)
class Pod:
    """A running pod."""

    container: Container
    token: str

    def call(self, *command: str) -> tuple[int, str]:
        """Run a command as the learner would in JupyterLab's terminal; give exit code and output."""
        code, output = self.container.exec_run([START, *command])
        return int(code), output.decode("utf-8", "replace")

    def learn(self) -> dict[str, Any]:
        """Do what inside.py does."""
        script = Path(__file__).with_name("inside.py").read_text("utf-8")
        code, output = self.call("python", "-c", script, PORT, self.token)
        try:
            found: dict[str, Any] = json.loads(output.splitlines()[-1])
        except (IndexError, ValueError) as error:
            raise AssertionError(f"inside.py ended with {code}:\n{output}\n{self.logs()}") from error
        return found

    def peak_bytes(self) -> int:
        """Give the most memory that the pod has had so far, as the kernel counts it: with the files it keeps cached."""
        for place in PEAKS:
            code, output = self.call("cat", place)
            if code == 0:
                return int(output)
        raise AssertionError("the kernel tells no peak (memory.peak needs Linux 5.19)")

    def logs(self) -> str:
        """Give the end of what JupyterLab and the engine wrote."""
        jupyter = self.container.logs(tail=40).decode("utf-8", "replace")
        engine = self.call("sh", "-c", "tail -n 40 ~/.local/share/dockerlab/engine/engine.log")[1]
        return f"JupyterLab:\n{jupyter}\nEngine:\n{engine}"


@contextmanager
def opened(client: docker.DockerClient, image: str, security: Sequence[str]) -> Iterator[Pod]:
    """Start a pod with JupyterLab; it is gone afterwards."""
    token = secrets.token_hex(16)
    # Binder itself listens on all addresses, behind its proxy; here every listener outside loopback is somebody else.
    options = ["--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={PORT}", "--ServerApp.port_retries=0"]
    container = client.containers.create(
        image,
        [START, "timeout", str(LIFE_S), "jupyter", "lab", *options, f"--IdentityProvider.token={token}"],
        user="1000",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges", *security],
        mem_limit=MEMORY_BYTES,
        memswap_limit=MEMORY_BYTES,
        nano_cpus=1_000_000_000,
        network_mode="none",
        labels={LABEL: "pod"},
    )
    try:
        container.start()
        yield Pod(container, token)
    finally:
        container.remove(force=True, v=True)
