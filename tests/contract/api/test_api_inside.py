"""What a container finds inside: its environment, user, names, mounts, limits, and nothing of this machine."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import docker.errors
import pytest
from bench import Bench, archive
from support import until

from dockerlab.connect import Engine


def test_the_environment(bench: Bench) -> None:
    printed = bench.output(
        "env; echo args $0 $#", environment={"PLAIN": "1", "EMPTY": "", "SPACES": "a  b", "SIGN": "x=y"}
    )
    lines = printed.splitlines()
    assert {"PLAIN=1", "EMPTY=", "SPACES=a  b", "SIGN=x=y", "HOME=/root"} <= set(lines)
    assert any(line.startswith("PATH=/usr/local/sbin:") for line in lines)
    # Nothing of the engine's own environment gets in.
    names = {line.partition("=")[0] for line in lines if "=" in line}
    assert names == {"PLAIN", "EMPTY", "SPACES", "SIGN", "HOME", "PATH", "HOSTNAME", "PWD", "SHLVL"}


def test_the_environment_of_the_image_is_overridden_and_emptied(bench: Bench) -> None:
    image = bench.image("FROM BASE\nENV A=1 B=2 C=3\n")
    printed = bench.output('echo "$A-$B-${C-unset}"', image=image, environment=["A=9", "C"])
    assert printed == "9-2-unset\n"


def test_the_working_directory(bench: Bench) -> None:
    assert bench.output("pwd") == "/\n"
    assert bench.output("pwd; ls -d /made/for/me", working_dir="/made/for/me") == "/made/for/me\n/made/for/me\n"
    image = bench.image("FROM BASE\nWORKDIR /srv\nWORKDIR deeper\n")
    assert bench.output("pwd", image=image) == "/srv/deeper\n"
    assert bench.output("pwd", image=image, working_dir="/tmp") == "/tmp\n"


@pytest.mark.parametrize(
    ("user", "told"),
    [
        ("nobody", "65534:65534 /home"),
        ("65534", "65534:65534 /home"),
        ("1234", "1234:0 /"),
        ("1234:2345", "1234:2345 /"),
        ("nobody:root", "65534:0 /home"),
        ("0", "0:0 /root"),
        ("root", "0:0 /root"),
        ("", "0:0 /root"),
    ],
)
def test_the_user(bench: Bench, user: str, told: str) -> None:
    assert bench.output("echo $(id -u):$(id -g) $HOME", user=user) == f"{told}\n"


def test_a_user_of_the_image_owns_what_it_makes(bench: Bench) -> None:
    image = bench.image("FROM BASE\nRUN mkdir /own && chown nobody:nogroup /own\nUSER nobody\n")
    told = bench.output("touch /own/x && stat -c %u:%g /own /own/x", image=image)
    assert bench.owned(told) == bench.owned("65534:65534\n" * 2)


def test_a_plain_user_may_not_what_only_root_may(bench: Bench) -> None:
    if not bench.engine.has_wall("users"):
        pytest.skip("a container of this engine has one user, and says so")
    image = bench.image("FROM BASE\nRUN echo secret > /s && chmod 600 /s\n")
    code, text = bench.finish(["sh", "-c", "cat /s; echo x > /etc/x; chown 0 /tmp"], image=image, user="nobody")
    assert code != 0
    assert text.count("ermission denied") + text.count("not permitted") == 3
    assert "secret\n" not in text


def test_root_may_change_owners(bench: Bench) -> None:
    script = "touch /x && chown 12:34 /x && chmod 4711 /x && stat -c '%u:%g %a' /x"
    assert bench.owned(bench.output(script)) == bench.owned("12:34 4711\n")


@pytest.mark.parametrize("user", ["no-such-user", "root:no-such-group"])
def test_an_unknown_user(bench: Bench, user: str) -> None:
    import docker.errors

    made = bench.create(["true"], user=user)
    with pytest.raises(docker.errors.APIError, match="unable to find") as caught:
        made.start()
    assert caught.value.status_code in (400, 500)


def test_the_host_name(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "hostname; cat /etc/hostname; echo $HOSTNAME; grep -c $(hostname) /etc/hosts"])
    made.wait()
    assert made.logs().decode().split() == [made.id[:12]] * 3 + ["1"]
    assert bench.output("hostname; echo $HOSTNAME", hostname="web.example") == "web.example\nweb.example\n"
    printed = bench.output("hostname -f; hostname", hostname="web", domainname="example.org")
    assert printed.split()[0] == "web.example.org"
    assert "127.0.0.1" in bench.output("grep localhost /etc/hosts")


def test_more_hosts(bench: Bench) -> None:
    assert bench.output("grep db /etc/hosts", extra_hosts={"db": "10.1.2.3"}).split() == ["10.1.2.3", "db"]


def test_a_read_only_root(bench: Bench) -> None:
    if bench.told_of_read_only(read_only=True):
        pytest.skip("this engine cannot keep a root read-only, and says so")
    code, text = bench.finish(["sh", "-c", "touch /x"], read_only=True)
    assert (code, "Read-only file system" in text) == (1, True)
    printed = bench.output("touch /tmp/x && ls /tmp", read_only=True, tmpfs={"/tmp": ""})
    assert printed == "x\n"


def test_tmpfs(bench: Bench) -> None:
    script = "ls -A /scratch; echo x > /scratch/y; cat /scratch/y; grep -c ' /scratch tmpfs' /proc/mounts || true"
    script += "; head -c 2000000 /dev/zero 2>/dev/null >/scratch/big; stat -c %s /scratch/big; stat -c %a /scratch"
    found, in_memory, size, mode = bench.output(script, tmpfs={"/scratch": "size=1m,mode=700"}).split()
    assert (found, in_memory) in (("x", "0"), ("x", "1"))
    assert (int(size) < 1 << 20, mode) == ((True, "700") if in_memory == "1" else (False, "1777"))
    made = bench.start(tmpfs={"/scratch": ""})
    assert made.exec_run("touch /scratch/x")[0] == 0
    made.restart(timeout=0)
    assert made.exec_run("ls -A /scratch") == (0, b"")
    with pytest.raises(docker.errors.APIError, match="tmpfs"):
        bench.start(tmpfs={"/scratch": "size=much"})


def test_devices(bench: Bench) -> None:
    script = (
        "echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; ls -d /dev/fd /dev/stdout"
    )
    assert bench.output(script).split() == ["4", "4", "/dev/fd", "/dev/stdout"]
    assert bench.output("echo by descriptor > /dev/stdout; usleep 99999; echo err > /dev/stderr").split()[-1] == "err"


def test_limits(bench: Bench) -> None:
    from docker.types import Ulimit

    printed = bench.output("ulimit -n; ulimit -Hn", ulimits=[Ulimit(name="nofile", soft=123, hard=456)])
    assert printed.split() == ["123", "456"]


def test_init_reaps_what_nobody_waits_for(bench: Bench) -> None:
    # Under a name of their own: where there is no wall, the processes of the whole machine are to be seen.
    script = (
        r"printf '#!/bin/sh\nsleep 0.1\n' >/tmp/orphan; chmod +x /tmp/orphan; "
        "for i in 1 2 3; do (/tmp/orphan &) ; done; exec sleep 300"
    )
    made = bench.start(["sh", "-c", script], init=True)
    until(lambda: b"sleep 300" in made.exec_run("ps")[1])
    time.sleep(0.3)  # by now they have ended
    until(lambda: b"orphan" not in made.exec_run(["sh", "-c", "grep -h Name: /proc/[0-9]*/status"])[1])
    made.stop(timeout=10)
    made.reload()
    assert made.attrs["State"]["ExitCode"] == 143


def test_the_main_process_is_number_one_where_there_is_a_wall(bench: Bench, engine: Engine) -> None:
    printed = bench.output("echo $$; ls /proc 2>/dev/null | grep -c '^[0-9]'")
    number, seen = map(int, printed.split())
    assert (number == 1) is engine.has_wall("pid")
    if engine.has_wall("pid"):
        assert seen < 6


def test_entrypoints(bench: Bench) -> None:
    image = bench.image('FROM BASE\nENTRYPOINT ["echo", "entry"]\nCMD ["default"]\n')
    assert bench.output(None, image=image) == "entry default\n"
    assert bench.output(["given", "two"], image=image) == "entry given two\n"
    assert bench.output(["x"], image=image, entrypoint=["echo", "other"]) == "other x\n"
    # An entrypoint that is given takes the image's command away.
    assert bench.output(None, image=image, entrypoint=["echo", "other"]) == "other\n"
    shell = bench.image('FROM BASE\nENV WHO=me\nENTRYPOINT echo hello $WHO\nCMD ["ignored"]\n')
    assert bench.output(None, image=shell) == "hello me\n"
    assert bench.output(None, image=bench.image("FROM BASE\nENV WHO=me\nCMD echo hi $WHO\n")) == "hi me\n"


def test_bind_mounts(bench: Bench, engine: Engine, tmp_path: Path) -> None:
    if engine.desktop:
        pytest.skip("the engine's machine sees other folders")
    (tmp_path / "there").write_text("from outside")
    script = "cat /in/there; echo inside > /in/made; echo; touch /ro/x 2>&1; cat /ro/there"
    volumes = [f"{tmp_path}:/in", f"{tmp_path}:/ro:ro"]
    printed = bench.output(script, volumes=volumes)
    assert printed.startswith("from outside\n")
    assert "Read-only file system" in printed or bench.told_of_read_only(binds=volumes)
    assert (tmp_path / "made").read_text() == "inside\n"
    single = bench.output("cat /one; ls / | grep one", volumes=[f"{tmp_path / 'there'}:/one:ro"])
    assert single == "from outsideone\n"
    made = bench.create(["true"], volumes=volumes)
    (first, second) = sorted(made.attrs["Mounts"], key=lambda mount: mount["Destination"])
    assert (first["Type"], first["Source"], first["RW"]) == ("bind", str(tmp_path), True)
    assert second["RW"] is False


def test_a_missing_source_of_a_bind_is_made(bench: Bench, engine: Engine, tmp_path: Path) -> None:
    if engine.desktop:
        pytest.skip("the engine's machine sees other folders")
    bench.output("touch /in/x", volumes=[f"{tmp_path / 'new' / 'deep'}:/in"])
    assert (tmp_path / "new" / "deep" / "x").exists()


def test_named_volumes(bench: Bench) -> None:
    image = bench.image("FROM BASE\nRUN mkdir /data && echo shipped > /data/file && chmod 640 /data/file\n")
    volume = bench.volume()
    mounts = {volume.name: {"bind": "/data", "mode": "rw"}}
    # An empty volume gets what the image has there, with modes.
    assert bench.output("cat /data/file; stat -c %a /data/file", image=image, volumes=mounts) == "shipped\n640\n"
    bench.output("echo changed > /data/file; echo more > /data/more", image=image, volumes=mounts)
    assert bench.output("cat /data/*", image=image, volumes=mounts) == "changed\nmore\n"
    assert bench.output("cat /elsewhere/more", volumes={volume.name: {"bind": "/elsewhere"}}) == "more\n"
    read_only = {volume.name: {"bind": "/data", "mode": "ro"}}
    printed = bench.output("touch /data/x 2>&1 || true", image=image, volumes=read_only)
    assert "Read-only" in printed or bench.told_of_read_only(binds=[f"{volume.name}:/data:ro"])
    other = bench.volume()
    bare = {other.name: {"bind": "/data", "mode": "nocopy"}}
    assert bench.output("ls -A /data", image=image, volumes=bare) == ""


def test_a_volume_is_made_for_its_first_container(bench: Bench) -> None:
    name = bench.fresh()
    bench.start(["true"], volumes={name: {"bind": "/data"}}).wait()
    assert bench.client.volumes.get(name).name == name
    for entry in bench.api.containers(all=True, filters=bench.filter):
        bench.api.remove_container(entry["Id"], v=True)
    bench.client.volumes.get(name).remove()  # a named volume survived v=True


def test_anonymous_volumes(bench: Bench) -> None:
    import docker.errors

    image = bench.image("FROM BASE\nRUN mkdir /data && echo shipped > /data/file\nVOLUME /data\n")
    made = bench.start(["sh", "-c", "cat /data/file; echo x >> /data/file; sleep 300"], image=image)
    until(lambda: made.logs() == b"shipped\n")
    made.reload()
    (mount,) = made.attrs["Mounts"]
    assert (mount["Type"], mount["Destination"], mount["RW"]) == ("volume", "/data", True)
    assert len(mount["Name"]) == 64
    assert [change for change in made.diff() or () if "/data/" in change["Path"]] == []
    made.restart(timeout=0)
    until(lambda: made.logs() == b"shipped\nshipped\nx\n")
    assert bench.api.inspect_volume(mount["Name"])["Name"] == mount["Name"]
    made.remove(force=True, v=True)
    with pytest.raises(docker.errors.NotFound):
        bench.api.inspect_volume(mount["Name"])


def test_volumes_from_another_container(bench: Bench) -> None:
    volume = bench.volume()
    first = bench.create(["true"], volumes={volume.name: {"bind": "/data"}})
    bench.output("echo x > /data/y", volumes_from=[first.id])
    assert bench.output("cat /data/y", volumes={volume.name: {"bind": "/data"}}) == "x\n"


def test_mounts_in_the_long_form(bench: Bench) -> None:
    from docker.types import Mount

    volume = bench.volume()
    mounts = [Mount("/data", volume.name), Mount("/scratch", None, type="tmpfs")]
    assert bench.output("touch /data/x /scratch/y && ls /data /scratch", mounts=mounts).split()[1] == "x"


def test_paths_do_not_lead_out(bench: Bench, engine: Engine) -> None:
    """Links, dots and absolute paths end at the container's root."""
    if engine.desktop:
        pytest.skip("the engine's machine cannot be looked at")
    mark = f"test-api-{uuid.uuid4().hex}"
    outside = Path("/tmp") / mark
    outside.write_text("outside")
    try:
        image = bench.image(
            "FROM BASE\nRUN ln -s /etc/hostname /x && ln -s ../../../../../../etc/hostname /y"
            " && ln -s /proc/self/root/ /z"
            f" && ln -s /tmp/{mark} /w\n"
        )
        # PRoot does not know that link; it leads nowhere then
        through = "/z/etc/hostname" if engine.has_wall("pid") else "/etc/hostname"
        script = (
            f"cat /x /y {through} /../../etc/hostname; for p in /w /z/tmp/{mark} /../tmp/{mark}"
            f" /proc/self/root/tmp/{mark} /proc/self/cwd/tmp/{mark} /proc/$$/root/tmp/{mark}; do"
            " cat $p >/dev/null 2>&1 && echo leaked $p; done; cd /; cat ../../../../etc/hostname; true"
        )
        made = bench.start(["sh", "-c", script], image=image)
        made.wait()
        assert made.logs().decode().split() == [made.id[:12]] * 5
    finally:
        outside.unlink()


def test_inodes_are_those_of_the_root(bench: Bench, engine: Engine) -> None:
    """Looking at a file by stat tells the container's file, not this machine's."""
    image = bench.image("FROM BASE\nCOPY own /etc/debian_version\n", {"own": "x" * 4321})
    script = "stat -c %s /etc/debian_version; wc -c < /etc/debian_version; ls -l /etc/debian_version | awk '{print $5}'"
    assert bench.output(script, image=image).split() == ["4321"] * 3


def test_what_one_container_writes_no_other_sees(bench: Bench) -> None:
    first, second = bench.start(), bench.start()
    assert first.exec_run(["sh", "-c", "echo mine > /mark; rm /etc/group"])[0] == 0
    assert second.exec_run("ls /mark")[0] != 0
    assert second.exec_run("cat /etc/group")[0] == 0
    assert bench.output("ls / | grep -c mark || true") == "0\n"


def test_files_of_the_engine_are_made_for_each_container(bench: Bench) -> None:
    made = bench.start()
    assert made.exec_run(["sh", "-c", "echo 1.2.3.4 extra >> /etc/hosts"])[0] == 0
    assert b"extra" in made.exec_run("cat /etc/hosts")[1]
    assert "extra" not in bench.output("cat /etc/hosts")
    assert bench.output("cat /etc/resolv.conf; echo end").endswith("end\n")


def test_odd_file_names_and_sizes(bench: Bench) -> None:
    names = {"with space": "a", "ünï": "b", "new\nline": "c", "-dash": "d", "long" * 40: "e"}
    image = bench.image("FROM BASE\nCOPY odd /odd\n", {f"odd/{name}": text for name, text in names.items()})
    assert bench.output("cat /odd/*; ls /odd | wc -l", image=image) == "decab5\n"
    made = bench.create(["true"])
    assert made.put_archive("/", archive({"empty": "", "big": b"\0" * 5_000_000}))
    made.start()
    made.wait()
    assert bench.output("true") == ""
