"""Servers managed by hand, and what is read from real containers about how they differ."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import pytest

from dockerlab import drift
from dockerlab.course.exercises import Check, exercise
from dockerlab.errors import BadInputError, ImageNotFoundError
from dockerlab.images import Image
from dockerlab.lab import Lab

APPS = Path(__file__).parents[2] / "notebooks" / "apps" / "servers"
BASE = "dockerlab/base:1"


def hows(rows: tuple[drift.Difference, ...]) -> dict[str, str]:
    return {row.path: row.how for row in rows}


# The servers


def test_asked_for_again_they_are_the_same(lab: Lab, base_image: Image) -> None:
    shop = lab.servers("shop", BASE, count=3)
    assert shop.names == ("shop-01", "shop-02", "shop-03")
    shop.run("echo kept > /note")
    shop[1].stop(timeout=1)

    again = lab.servers("shop", base_image, count=4)

    assert [one.id for one in again[:3]] == [one.id for one in shop]
    assert [one.status for one in again] == ["running"] * 4
    assert [one.output.strip() for one in again[:3].run("cat /note")] == ["kept"] * 3
    fewer = lab.servers("shop", BASE, count=2)
    assert [one.id for one in fewer] == [one.id for one in shop[:2]]
    labels = [f"{key}={value}" for key, value in lab.labels.items()]
    assert len(lab.client.api.containers(all=True, filters={"label": labels})) == 2


def test_another_image_or_other_memory_replaces_them(lab: Lab, base_image: Image, web1: Image) -> None:
    shop = lab.servers("shop", BASE, count=2)
    memory = lab.servers("shop", BASE, count=2, tmpfs={"/tmp": "size=1m"})
    assert not {one.id for one in shop} & {one.id for one in memory}
    other = lab.servers("shop", web1, count=2)
    assert {one.attrs["Image"] for one in other} == {web1.id}
    assert len(lab.servers("shop", web1, count=2)) == 2


def test_groups_do_not_meet_and_can_be_removed(lab: Lab, base_image: Image) -> None:
    one, two = lab.servers("one", BASE, count=1), lab.servers("two", BASE, count=1)
    one.remove()
    assert two.run("true").failed == ()
    assert one.run("true")[0].exit_code == 126


def test_what_cannot_be_had_is_refused(lab: Lab, base_image: Image) -> None:
    for count in (0, 201, 1.5):
        with pytest.raises(BadInputError, match="1 to 200"):
            lab.servers("shop", BASE, count=count)  # type: ignore[arg-type]
    with pytest.raises(BadInputError):
        lab.servers("Shop 1", BASE)
    with pytest.raises(ImageNotFoundError):
        lab.servers("shop", "no-such-image:1")
    with pytest.raises(BadInputError, match="cannot be read"):
        lab.servers("shop", BASE, count=1).run(Path("no-such-script.sh"))


def test_one_script_that_fails_does_not_stop_the_others(lab: Lab, base_image: Image, tmp_path: Path) -> None:
    shop = lab.servers("shop", BASE, count=4)
    shop[1:2].run("touch /bad")
    shop[3].remove(force=True)
    script = tmp_path / "try.sh"
    script.write_text('echo "$WORD from $0"\n[ ! -e /bad ] || { echo broken >&2; exit 7; }\n', encoding="utf-8")

    results = shop.run(script, env={"WORD": "hello"})

    assert [row.exit_code for row in results] == [0, 7, 0, 126]
    assert results[0].output.startswith("hello from ")
    assert "broken" in results[1].output
    assert [row.server for row in results.failed] == ["shop-02", "shop-04"]
    commands = list(lab.commands)
    assert len(commands) == 3
    assert all(line.startswith(f"docker exec -e WORD=hello {lab.name}-shop-0") for line in commands)


def test_a_script_that_hangs_holds_nobody(lab: Lab, base_image: Image) -> None:
    shop = lab.servers("shop", BASE, count=2)
    shop[:1].run("mkfifo /never")
    # The second server has no pipe there: its script makes a file and ends.
    results = shop.run("[ ! -p /never ] || read -r _ </never; echo done", timeout_s=3)
    assert [row.exit_code for row in results] == [None, 0]
    assert "still running after 3 s" in results[0].output
    shop[0].remove(force=True)  # ends the call that still waits


# What is read from them


CHANGES = """
echo new >/etc/new.conf
echo other >/etc/passwd
chmod 600 /etc/group
rm -r /var/www
ln -s ../new.conf /etc/link
mkdir -p /opt/a/b && echo deep >/opt/a/b/c
mkfifo /opt/pipe
: >/opt/empty
echo "a name" >"/opt/a name, ümläut"
chmod 700 /home
mkdir -p /run/x && echo 1 >/run/x/y && echo 1 >/srv.pid
"""


def test_every_kind_of_change_is_found(lab: Lab, base_image: Image) -> None:
    shop = lab.servers("shop", BASE, count=3)
    assert shop[1:2].run(CHANGES).failed == ()

    found = shop.drift()

    assert found.groups == (("shop-01", "shop-03"), ("shop-02",))
    assert hows(found.of("shop-02")) == {
        "/etc/group": "mode",
        "/etc/link": "extra",
        "/etc/new.conf": "extra",
        "/etc/passwd": "content",
        "/home": "mode",
        "/opt": "extra",
        "/opt/a": "extra",
        "/opt/a name, ümläut": "extra",
        "/opt/a/b": "extra",
        "/opt/a/b/c": "extra",
        "/opt/empty": "extra",
        "/opt/pipe": "extra",
        "/var/www": "missing",
    }
    assert hows(found.of("shop-02", against="image")) == hows(found.of("shop-02"))
    assert found.drifted == ("shop-02",)
    items = {row.path: row.here for row in found.of("shop-02")}
    assert items["/etc/new.conf"] == drift.Item("file", 0o644, 4, hashlib.sha256(b"new\n").hexdigest())
    assert items["/etc/link"] == drift.Item("link", target="../new.conf")
    assert items["/opt/pipe"] is not None
    assert items["/opt/pipe"].kind == "other"
    assert items["/var/www"] == drift.Item("missing")
    seen = shop.drift(ignore=())
    assert {"/run/x/y", "/srv.pid"} <= set(hows(seen.of("shop-02")))


def test_a_file_that_was_only_written_to_is_no_drift(lab: Lab, base_image: Image) -> None:
    shop = lab.servers("shop", BASE, count=2)
    shop[:1].run("cp /etc/passwd /tmp/p && cat /tmp/p >/etc/passwd")
    found = shop.drift()
    assert (found.states, found.drifted) == (1, ())


def test_reading_changes_nothing_and_is_not_listed_as_commands(lab: Lab, base_image: Image) -> None:
    shop = lab.servers("shop", BASE, count=2)
    shop.run("mkdir /opt && echo 1 >/opt/a")
    before = list(lab.commands)
    assert shop.drift() == shop.drift()
    assert list(lab.commands) == before


def test_large_files_on_many_servers_at_once(lab: Lab, base_image: Image) -> None:
    shop = lab.servers("shop", BASE, count=10)
    assert shop.run("mkdir /opt && yes line | head -c 3000000 >/opt/big").failed == ()
    shop[9:].run("printf x >>/opt/big")

    found = shop.drift()

    assert [len(group) for group in found.groups] == [9, 1]
    (row,) = found.of("shop-10")
    assert row.there == drift.Item("file", 0o644, 3_000_000, hashlib.sha256(b"line\n" * 600_000).hexdigest())


def test_stopped_and_vanished_servers(lab: Lab, base_image: Image) -> None:
    shop = lab.servers("shop", BASE, count=3)
    shop.run("echo 1 >/etc/one")
    shop[1].stop(timeout=1)
    shop[2].remove(force=True)
    found = shop.drift()
    assert (found.servers, found.gone, found.states) == (("shop-01", "shop-02"), ("shop-03",), 1)
    assert drift.look(lab.client, [str(shop[2].id)]).states == 0


def test_files_that_come_and_go_while_they_are_read(lab: Lab, base_image: Image) -> None:
    shop = lab.servers("shop", BASE, count=2)
    shop.run("mkdir /opt; echo 1 >/opt/stays")
    busy = threading.Thread(
        target=shop.run,
        args=("for n in $(seq 150); do echo $n >/opt/x$n; rm -r /opt/x*; mkdir -p /opt/y/z; rm -r /opt/y; done",),
    )
    busy.start()
    try:
        while busy.is_alive():
            assert shop.drift().gone == ()
    finally:
        busy.join()
    found = shop.drift()
    assert (found.states, found.paths) == (1, ("/opt", "/opt/stays"))


def test_one_container_is_looked_at_quickly(lab: Lab, web1: Image) -> None:
    container = lab.start(web1)
    identity = str(container.id)
    time.sleep(1)  # until it has written what it writes when it starts
    assert drift.drifted(lab.client, identity) == ()

    container.exec_run(["sh", "-c", "echo fix >>/srv/web/serve; rm /srv/web/page.html; echo 1 >/root/new"])

    found = drift.drifted(lab.client, identity)
    assert {change.path: change.how for change in found} == {
        "/root/new": "added",
        "/srv/web/page.html": "deleted",
        "/srv/web/serve": "changed",
    }
    assert {change.item for change in found} == {None}
    read = {change.path: change.item for change in drift.drifted(lab.client, identity, hashes=True)}
    assert read["/root/new"] == drift.Item("file", 0o644, 2, hashlib.sha256(b"1\n").hexdigest())
    assert drift.drifted(lab.client, identity, ignore=[*drift.IGNORED, "/root", "/srv"]) == ()
    container.remove(force=True)
    assert drift.drifted(lab.client, identity) == ()


def test_replicas_of_a_fleet(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=3)
    names = sorted(replica.name for replica in web.status().replicas)
    ids = [str(lab.client.containers.get(name).id) for name in names]
    whole = drift.look(lab.client, ids)
    assert (whole.states, whole.drifted, whole.servers) == (1, (), tuple(names))

    lab.client.containers.get(ids[2]).exec_run(["sh", "-c", "echo hotfix >/srv/web/hotfix"])

    found = drift.look(lab.client, ids, names={ids[2]: "third"})
    assert found.drifted == ("third",)
    assert hows(found.of("third")) == {"/srv/web/hotfix": "extra"}


# The reasons that the notebook shows


def test_the_reasons_are_real(lab: Lab, base_image: Image) -> None:
    shop = lab.servers("shop", BASE, count=5, tmpfs={"/tmp": "size=1m"})
    script = ["sh", "-c", (APPS / "mirror.sh").read_text(encoding="utf-8")]
    publish = ["sh", "-c", (APPS / "publish.sh").read_text(encoding="utf-8")]
    mirror = lab.start(BASE, script, init=True)
    mirror.exec_run(publish, environment={"VERSION": "1"})
    env = {"MIRROR": f"http://{mirror.attrs['NetworkSettings']['IPAddress']}"}
    assert shop[:1].run('until wget -q -O /dev/null "$MIRROR/latest"; do usleep 50000; done', env=env).failed == ()
    size_kb = int(shop[4].exec_run(["df", "-k", "/tmp"])[1].split()[-5])
    filled = shop[4:].run(APPS / "fill_tmp.sh")
    assert (filled.failed != ()) == (size_kb <= 1024)

    setup = [shop.run(APPS / "setup.sh", env=env), shop[1:2].run(APPS / "setup.sh", env=env)]
    mirror.exec_run(publish, environment={"VERSION": "2"})
    restart = (APPS / "restart_mirror.sh").read_text(encoding="utf-8")
    mirror.exec_run(["sh", "-c", restart], detach=True)
    time.sleep(1)
    setup.append(shop[2:3].run(APPS / "setup.sh", env=env))
    assert shop[3:4].run(APPS / "hotfix.sh").failed == ()

    assert [row.exit_code for runs in setup for row in runs] == [0] * 7, "the script does not notice"
    found = shop.drift()
    conf, program, catalogue = "/etc/shop.conf", "/opt/shop/program", "/opt/shop/catalogue"
    assert hows(found.of("shop-02")) == {conf: "content"}
    assert hows(found.of("shop-03")) == {conf: "content", program: "content", catalogue: "content"}
    assert hows(found.of("shop-04")) == {conf: "content", program: "mode"}
    assert hows(found.of("shop-05")) == ({catalogue: "content"} if size_kb <= 1024 else {})
    short = next(row.here for row in found.of("shop-03") if row.path == catalogue)
    assert short is not None
    assert 0 < short.size_bytes < 300_000


def wrong(check: Check) -> list[str]:
    assert "{" not in str(check)
    return [finding.key for finding in check.findings if not finding.ok]


@pytest.mark.nightly  # `make run` solves it, too
def test_the_exercise(lab: Lab, base_image: Image, tmp_path: Path) -> None:
    task = exercise("no_drift", lab)
    assert wrong(task.check()) == ["servers"]
    lab.servers("mine", BASE, count=5).run("echo workers=8 >/etc/shop.conf")
    assert wrong(task.check()) == ["one_image", "as_built"], "set up by a script"
    tag = f"mine-{lab.name}:1"
    for text, findings in (("workers=8\\nworkers=8", ["settings"]), ("workers=8", [])):
        (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN printf '{text}\\n' >/etc/shop.conf\n")
        mine = lab.servers("mine", lab.build(tmp_path, tag=tag, quiet=True), count=5)
        assert wrong(task.check()) == findings
    mine[4].stop(timeout=1)
    assert wrong(task.check()) == ["servers"]
    mine = lab.servers("mine", tag, count=5)
    mine[2].exec_run(["touch", "/root/hotfix"])
    assert wrong(task.check()) == ["as_built"]
    mine.remove()
    lab.servers("mine", tag, count=5)
    assert task.check().passed
    lab.reset()
    lab.client.images.remove(tag)
