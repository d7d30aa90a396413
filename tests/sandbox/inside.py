"""What a learner does, from inside the pod: a notebook's kernel through JupyterLab's server. Prints one line of JSON.

Runs with the image's own Python and its packages: `python inside.py PORT TOKEN`. What a step found out is under its
name; "error" says where it ended when it did not come to its end.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import websocket

NOTEBOOK = "notebooks/00_start_here.ipynb"
FIRST = """
import json, time
from urllib.request import urlopen
import dockerlab as dl
lab = dl.Lab()
base = len(lab.client.images.list("dockerlab/base"))  # from postBuild, nothing was built yet
image = lab.build("apps/web", tag="web:1", quiet=True)
container = lab.start(image, name=f"{lab.name}-first", env={"REPLICA": "first"}, ports={80: None})
container.reload()
port = container.ports["80/tcp"][0]["HostPort"]
for _ in range(500):
    try:
        said = json.load(urlopen(f"http://127.0.0.1:{port}/cgi-bin/whoami", timeout=5))
        break
    except OSError:
        time.sleep(0.02)
engine = lab.engine
print(json.dumps({"port": port, "said": said, "base": base, "kind": engine.kind, "isolator": engine.isolator,
    "storage": engine.storage_driver, "walls": {wall.name: wall.present for wall in engine.walls}}))
"""
PANEL = """
web = lab.fleet("web", image, replicas=2)
panel = dl.widgets.FleetPanel(web)
display(panel)
print(json.dumps({"port": web.port}))
"""
AFTER = """
filters = {"label": [f"dockerlab.lab={lab.name}", "dockerlab.fleet=web", "dockerlab.revision"]}
running = lab.client.api.containers(filters=filters)
print(json.dumps({"ready": web.status().ready, "running": len(running)}))
"""
CLEAR = """
panel.close()
lab.reset()
print(json.dumps({"left": len(lab.client.api.containers(all=True, filters={"label": f"dockerlab.lab={lab.name}"}))}))
"""


class Server:
    """JupyterLab's server, asked as its page asks it."""

    def __init__(self, port: str, token: str) -> None:
        self.address, self.headers = f"127.0.0.1:{port}", {"Authorization": f"token {token}"}

    def get(self, path: str) -> tuple[int, str]:
        with urlopen(Request(f"http://{self.address}{path}", headers=self.headers), timeout=20) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")

    def post(self, path: str, content: Any) -> Any:
        headers = {**self.headers, "Content-Type": "application/json"}
        request = Request(f"http://{self.address}{path}", json.dumps(content).encode(), headers, method="POST")
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def wait(self, limit_s: float) -> None:
        end_s = time.monotonic() + limit_s
        while not self.answers():
            if time.monotonic() > end_s:
                raise TimeoutError("JupyterLab does not answer")
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            return self.get("/api/status")[0] == 200
        except OSError:
            return False


class Kernel:
    """A notebook's kernel behind the server's websocket; remembers the widgets that it opened."""

    def __init__(self, server: Server) -> None:
        kernel = {"name": "python3"}
        made = server.post("/api/sessions", {"path": NOTEBOOK, "type": "notebook", "name": "", "kernel": kernel})
        path = f"/api/kernels/{made['kernel']['id']}/channels"
        self.socket = websocket.create_connection(
            f"ws://{server.address}{path}", header=[f"{name}: {text}" for name, text in server.headers.items()]
        )
        self.socket.settimeout(120)
        self.session = uuid.uuid4().hex
        self.widgets: dict[str, dict[str, Any]] = {}

    def send(self, kind: str, content: dict[str, Any]) -> str:
        name = uuid.uuid4().hex
        header = {"msg_id": name, "msg_type": kind, "session": self.session, "username": "", "version": "5.3"}
        header["date"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self.socket.send(json.dumps({**message, "buffers": []}))
        return name

    def receive(self) -> dict[str, Any]:
        read = self.socket.recv()
        if isinstance(read, bytes):  # with buffers: their number and places come first
            begin, end = int.from_bytes(read[4:8], "big"), len(read)
            if int.from_bytes(read[:4], "big") > 1:
                end = int.from_bytes(read[8:12], "big")
            read = read[begin:end].decode()
        message: dict[str, Any] = json.loads(read)
        content = message["content"]
        if message["msg_type"] == "comm_open" and content["target_name"] == "jupyter.widget":
            self.widgets[content["comm_id"]] = dict(content["data"]["state"])
        elif message["msg_type"] == "comm_msg" and content["comm_id"] in self.widgets:
            self.widgets[content["comm_id"]].update(content["data"].get("state", {}))
        return message

    def run(self, code: str) -> Any:
        """Run a cell; give what its last printed line holds."""
        name = self.send("execute_request", {"code": code, "silent": False, "store_history": True})
        printed, done = "", set()
        while done != {"idle", "reply"}:
            message = self.receive()
            content, mine = message["content"], message["parent_header"].get("msg_id") == name
            if mine and message["msg_type"] == "stream" and content["name"] == "stdout":
                printed += content["text"]
            elif mine and message["msg_type"] == "error":
                raise RuntimeError("\n".join(content["traceback"]))
            elif mine and message["msg_type"] == "execute_reply":
                done.add("reply")
            elif mine and message["msg_type"] == "status" and content["execution_state"] == "idle":
                done.add("idle")
        return json.loads(printed.strip().splitlines()[-1])

    def widget(self, model: str) -> str:
        (found,) = (name for name, state in self.widgets.items() if state.get("_model_name") == model)
        return found

    def wait_for(self, condition: Callable[[], bool], limit_s: float) -> bool:
        end_s = time.monotonic() + limit_s
        self.socket.settimeout(1)
        while not condition() and time.monotonic() < end_s:
            with contextlib.suppress(websocket.WebSocketTimeoutException):
                self.receive()
        self.socket.settimeout(120)
        return condition()

    def healthy_cards(self) -> int:
        return max(str(state.get("value", "")).count("dl-good") for state in self.widgets.values())


def listening() -> list[str]:
    """Give every address at which something in this pod listens, loopback left out."""
    found = []
    for name in ("tcp", "tcp6"):
        file = Path(f"/proc/net/{name}")
        for line in file.read_text("ascii").splitlines()[1:] if file.exists() else ():
            local, state = line.split()[1], line.split()[3]
            number, _, port = local.partition(":")
            # Words of 32 bits in the machine's own order
            raw = b"".join(int(number[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(number), 8))
            address = ipaddress.ip_address(raw)
            mapped = getattr(address, "ipv4_mapped", None) or address
            if state == "0A" and not mapped.is_loopback:
                found.append(f"{address} port {int(port, 16)}")
    return found


def age_s(pid: int) -> float:
    """Give the seconds since a process began."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def work(server: Server, found: dict[str, Any]) -> None:
    server.wait(120)
    found["up_s"] = round(age_s(1), 2)
    begun_s = time.monotonic()
    kernel = Kernel(server)
    found["first"] = kernel.run(FIRST)
    found["first_s"] = round(time.monotonic() - begun_s, 2)
    found["lab"] = server.get("/lab")[1].count("jupyter-config-data")
    found["direct"] = server.get(f"/proxy/{found['first']['port']}/")
    fleet = kernel.run(PANEL)
    panel = found["panel"] = {"before": kernel.wait_for(lambda: kernel.healthy_cards() == 2, 20)}
    slider = kernel.widget("IntSliderModel")
    moved_s = time.monotonic()
    data = {"method": "update", "state": {"value": 4}, "buffer_paths": []}
    kernel.send("comm_msg", {"comm_id": slider, "data": data})
    panel["after"] = kernel.wait_for(lambda: kernel.healthy_cards() == 4, 30)
    panel["seconds"] = round(time.monotonic() - moved_s, 2)
    panel["slider"] = kernel.widgets[slider]["value"]
    panel.update(kernel.run(AFTER))
    found["page"] = server.get(f"/proxy/{fleet['port']}/")
    found["whoami"] = server.get(f"/proxy/{fleet['port']}/cgi-bin/whoami")
    found["listening"] = listening()
    with socket.create_server(("0.0.0.0", 0)) as canary:
        found["canary"] = listening() == [f"0.0.0.0 port {canary.getsockname()[1]}"]
    found["clear"] = kernel.run(CLEAR)


def main() -> None:
    found: dict[str, Any] = {}
    try:
        work(Server(*sys.argv[1:3]), found)
    except Exception:  # noqa: BLE001  whatever it is, the test shows it
        found["error"] = traceback.format_exc()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
