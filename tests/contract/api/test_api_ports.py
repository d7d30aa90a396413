"""Published ports: what listens inside is reached from this machine, each container on its own."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import docker.errors
import pytest
from bench import Bench
from support import until

SCRIPT = "mkdir -p /w && echo {} > /w/index.html && exec httpd -f -p {} -h /w"
LOCAL = ("127.0.0.1", None)


def serve(bench: Bench, word: str, listen: str = "80", **options: Any) -> Any:
    return bench.start(["sh", "-c", SCRIPT.format(word, listen)], init=True, **options)


def port_of(container: Any, inside: str = "80/tcp") -> int:
    container.reload()
    return int(container.attrs["NetworkSettings"]["Ports"][inside][0]["HostPort"])


def get(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=3) as answer:
            return str(answer.read().decode().strip())
    except (OSError, urllib.error.URLError):
        return ""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_two_servers_on_port_80(bench: Bench) -> None:
    first, second = (serve(bench, word, ports={80: LOCAL}) for word in ("one", "two"))
    ports = port_of(first), port_of(second)
    assert ports[0] != ports[1]
    assert all(port > 1023 for port in ports)
    until(lambda: get(ports[0]) == "one" and get(ports[1]) == "two")
    # From inside each finds itself on its own localhost, by both names.
    for made, word in ((first, b"one\n"), (second, b"two\n")):
        for host in ("127.0.0.1", "localhost"):
            assert made.exec_run(["timeout", "3", "wget", "-q", "-O", "-", f"http://{host}/"]).output == word


def test_a_chosen_port(bench: Bench) -> None:
    port = free_port()
    made = serve(bench, "chosen", ports={"80/tcp": ("127.0.0.1", port)})
    until(lambda: get(port) == "chosen")
    assert port_of(made) == port
    assert made.attrs["NetworkSettings"]["Ports"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
    assert made.attrs["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
    made.stop(timeout=1)
    until(lambda: get(port) == "")
    made.reload()
    assert made.attrs["NetworkSettings"]["Ports"] in ({}, None)
    with socket.create_server(("127.0.0.1", port)):
        pass
    made.start()
    until(lambda: get(port) == "chosen")


@pytest.mark.parametrize("listen", ["80", "0.0.0.0:80", "[::]:80"])
def test_ways_to_listen(bench: Bench, listen: str) -> None:
    made = serve(bench, "any", listen, ports={80: LOCAL})
    port = port_of(made)
    until(lambda: get(port) == "any")


def test_a_port_that_is_taken(bench: Bench) -> None:
    first = serve(bench, "first", ports={80: LOCAL})
    port = port_of(first)
    second = bench.create(["sleep", "300"], ports={80: ("127.0.0.1", port)})
    with pytest.raises(docker.errors.APIError) as caught:
        second.start()
    assert caught.value.status_code in (409, 500)
    assert "port is already allocated" in str(caught.value.explanation)
    assert str(port) in str(caught.value.explanation)
    second.reload()
    assert second.status == "created"
    first.remove(force=True)
    second.start()


def test_a_port_that_another_program_has(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        made = bench.create(["sleep", "300"], ports={80: ("127.0.0.1", port)})
        with pytest.raises(docker.errors.APIError, match=r"port is already allocated|address already in use") as caught:
            made.start()
        assert caught.value.status_code in (409, 500)


def test_all_interfaces(bench: Bench) -> None:
    made = serve(bench, "all", ports={80: None})
    port = port_of(made)
    until(lambda: get(port) == "all")
    hosts = {entry["HostIp"] for entry in made.attrs["NetworkSettings"]["Ports"]["80/tcp"]}
    assert hosts <= {"0.0.0.0", "::", "127.0.0.1"}


def test_several_ports(bench: Bench) -> None:
    script = "for x in a b; do mkdir $x; echo $x > $x/index.html; done; httpd -p 80 -h /a; exec httpd -f -p 8080 -h /b"
    made = bench.start(["sh", "-c", script], init=True, ports={80: LOCAL, 8080: LOCAL})
    until(lambda: (get(port_of(made)), get(port_of(made, "8080/tcp"))) == ("a", "b"))


def test_one_port_twice(bench: Bench) -> None:
    try:
        made = serve(bench, "twice", ports={80: [LOCAL, LOCAL]})
    except docker.errors.APIError as error:
        if error.status_code != 501:
            raise
        pytest.skip(f"this engine says so plainly: {error.explanation}")
    made.reload()
    ports = {int(entry["HostPort"]) for entry in made.attrs["NetworkSettings"]["Ports"]["80/tcp"]}
    assert len(ports) == 2
    until(lambda: all(get(port) == "twice" for port in ports))


def test_exposed_ports_are_published_on_demand(bench: Bench) -> None:
    image = bench.image("FROM BASE\nEXPOSE 80\n")
    quiet = serve(bench, "x", image=image)
    quiet.reload()
    assert quiet.attrs["NetworkSettings"]["Ports"] == {"80/tcp": None}
    made = serve(bench, "published", image=image, publish_all_ports=True)
    until(lambda: get(port_of(made)) == "published")


def test_a_port_that_is_not_published_is_not_reached(bench: Bench) -> None:
    port = free_port()
    made = serve(bench, "hidden", str(port))
    until(lambda: made.exec_run(["timeout", "3", "wget", "-q", "-O", "-", f"http://127.0.0.1:{port}/"]).output)
    assert get(port) == ""


def test_the_port_changes_or_stays_over_a_restart_but_works(bench: Bench) -> None:
    made = serve(bench, "again", ports={80: LOCAL})
    until(lambda: get(port_of(made)) == "again")
    made.restart(timeout=1)
    until(lambda: get(port_of(made)) == "again")


def test_many_connections(bench: Bench) -> None:
    made = serve(bench, "busy", ports={80: LOCAL})
    port = port_of(made)
    until(lambda: get(port) == "busy")
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.extend(get(port) for _ in range(10))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["busy"] * 80


def test_a_connection_is_carried_whole_in_both_directions(bench: Bench) -> None:
    made = bench.start(["nc", "-l", "-p", "7", "-e", "cat"], ports={7: LOCAL}, init=True)
    port = port_of(made, "7/tcp")
    data = bytes(range(256)) * 2000
    until(
        lambda: (
            b":0007 " in made.exec_run(["sh", "-c", "cat /proc/net/tcp /proc/net/tcp6"]).output
            or bench.engine.kind != "docker"
        )
    )
    time.sleep(0.2)
    with socket.create_connection(("127.0.0.1", port), 5) as end:
        sender = threading.Thread(target=lambda: (end.sendall(data), end.shutdown(socket.SHUT_WR)))
        sender.start()
        end.settimeout(10)
        got = b""
        while block := end.recv(65536):
            got += block
        sender.join()
    assert got == data


def test_nothing_answers_where_nothing_listens(bench: Bench) -> None:
    made = bench.start(ports={80: LOCAL})
    assert get(port_of(made)) == ""


def test_a_server_that_starts_late(bench: Bench) -> None:
    made = bench.start(["sh", "-c", f"sleep 0.5; {SCRIPT.format('late', 80)}"], init=True, ports={80: LOCAL})
    port = port_of(made)
    assert get(port) == ""
    until(lambda: get(port) == "late")


def test_a_server_that_a_plain_user_runs(bench: Bench) -> None:
    made = bench.start(["httpd", "-f", "-p", "80", "-h", "/etc"], user="nobody", init=True, ports={80: LOCAL})
    port = port_of(made)

    def passwords() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/passwd", timeout=3) as answer:
                return b"nobody" in answer.read()
        except OSError:
            return False

    until(passwords)
