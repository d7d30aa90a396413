"""Building images: each instruction, the cache, stages, arguments, and what goes wrong."""

from __future__ import annotations

import io
import tarfile
import time
import uuid
from typing import Any

import docker.errors
import pytest
from bench import Bench, archive, link


def config(bench: Bench, image: str) -> dict[str, Any]:
    return dict(bench.api.inspect_image(image)["Config"])


def tar_of(files: dict[str, str], mode: str = "w:gz") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as tar:  # type: ignore[call-overload]
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.gid, entry.mode = len(text), 12, 34, 0o640
            tar.addfile(entry, io.BytesIO(text.encode()))
    return target.getvalue()


def test_what_a_build_tells(bench: Bench) -> None:
    once = uuid.uuid4().hex
    built = bench.build(f"FROM BASE\nRUN echo {once}; echo err >&2\nENV A=b\n", tag=f"{bench.name}:1", labels={})
    lines = built.text.splitlines()
    assert lines[0] == "Step 1/3 : FROM dockerlab/base:1"
    assert f" ---> {bench.base.removeprefix('sha256:')[:12]}" in lines
    assert f"Step 2/3 : RUN echo {once}; echo err >&2" in lines
    assert built.text.count(once) == 2
    assert any(line.startswith(" ---> Running in ") for line in lines)
    assert any(line.startswith("Removing intermediate container ") for line in lines)
    assert "err" in built.text
    assert f"Successfully built {built.id.removeprefix('sha256:')[:12]}" in lines
    assert f"Successfully tagged {bench.name}:1" in lines
    assert bench.api.inspect_image(f"{bench.name}:1")["Id"] == built.id
    assert built.id.startswith("sha256:")
    assert built.error == ""


def test_the_settings_of_an_image(bench: Bench) -> None:
    image = bench.image(
        "FROM BASE\n"
        "ARG UNSET\nARG NAME=made\nENV ONE=1 TWO=\"two words\" THREE=${NAME}-${UNSET:-none}-${NAME:+some}\n"
        "ENV OLD form here\n"
        "LABEL a=b c=\"d e\"\n"
        "EXPOSE 80 53/udp\nEXPOSE 8000-8002/tcp\n"
        "VOLUME /v1 /v2\nVOLUME [\"/v3\"]\n"
        "WORKDIR /w\nWORKDIR ${NAME}/deep\nUSER nobody\nSTOPSIGNAL SIGUSR1\n"
        "HEALTHCHECK --interval=5s --timeout=2s --start-period=1s --retries=4 CMD wget -q x\n"
        'ENTRYPOINT ["a", "b"]\nCMD ["c"]\nONBUILD RUN echo later\nSHELL ["/bin/sh", "-ec"]\n'
        "MAINTAINER me <me@example.org>\n"
    )  # fmt: skip
    told = config(bench, image)
    env = dict(item.split("=", 1) for item in told["Env"])
    assert (env["ONE"], env["TWO"], env["THREE"], env["OLD"]) == ("1", "two words", "made-none-some", "form here")
    assert told["Labels"] == {**bench.labels, "dockerlab.image": "true", "a": "b", "c": "d e"}
    assert set(told["ExposedPorts"]) == {"80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp"}
    assert set(told["Volumes"]) == {"/v1", "/v2", "/v3"}
    assert (told["WorkingDir"], told["User"], told["StopSignal"]) == ("/w/made/deep", "nobody", "SIGUSR1")
    check = told["Healthcheck"]
    assert check["Test"] == ["CMD-SHELL", "wget -q x"]
    assert (check["Interval"], check["Timeout"], check["Retries"]) == (5 * 10**9, 2 * 10**9, 4)
    assert check["StartPeriod"] == 10**9
    assert (told["Entrypoint"], told["Cmd"]) == (["a", "b"], ["c"])
    assert told["OnBuild"] == ["RUN echo later"]
    assert told["Shell"] == ["/bin/sh", "-ec"]
    assert bench.api.inspect_image(image)["Author"] == "me <me@example.org>"


def test_shell_forms(bench: Bench) -> None:
    told = config(bench, bench.image("FROM BASE\nCMD echo $HOME\nHEALTHCHECK NONE\n"))
    assert told["Cmd"] == ["/bin/sh", "-c", "echo $HOME"]
    assert told["Healthcheck"]["Test"] == ["NONE"]
    # An entrypoint takes the base image's command away.
    told = config(bench, bench.image("FROM BASE\nENTRYPOINT echo entry\n"))
    assert told["Entrypoint"] == ["/bin/sh", "-c", "echo entry"]
    assert told["Cmd"] in (None, [])


def test_from_scratch(bench: Bench) -> None:
    image = bench.image("FROM scratch\nCOPY file /deep/file\nENV A=b\n", {"file": "content"})
    made = bench.create(["/nothing"], image=image)
    data = b"".join(made.export())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.extractfile("deep/file").read() == b"content"  # type: ignore[union-attr]
        assert "bin/busybox" not in tar.getnames()


def test_run(bench: Bench) -> None:
    image = bench.image(
        "FROM BASE\nWORKDIR /w\nENV WHO=env\nRUN echo $WHO $(pwd) $(id -u) > here && \\\n"
        "    # a comment\n    echo two >> here\n"
        'RUN ["sh", "-c", "echo exec form >> here"]\nUSER nobody\nRUN id -u > /tmp/user\n'
        'USER root\nSHELL ["/bin/sh", "-e", "-c"]\nRUN rm /etc/group; mkdir -p /a/b; ln -s /a /l\n'
    )
    script = "cat /w/here /tmp/user; ls /etc/group 2>&1; readlink /l; stat -c %u:%g /tmp/user"
    told = bench.output(script, image=image).splitlines()
    assert told[:4] == ["env /w 0", "two", "exec form", "65534"]
    assert "No such file" in told[4]
    assert told[5] == "/a"
    assert bench.owned(told[6]) == bench.owned("65534:65534")


def test_copy(bench: Bench) -> None:
    script = tarfile.TarInfo("run.sh")
    script.mode, script.size = 0o755, 0
    files: dict[str, Any] = {
        "a.txt": "A", "b.txt": "B", "c.md": "C", "dir/one": "1", "dir/sub/two": "2", "run.sh": script,
        "with space": "S", "dir/link": link("dir/link", "one"), "sub.d/x": "X",
    }  # fmt: skip
    image = bench.image(
        "FROM BASE\nWORKDIR /w\nCOPY a.txt renamed\nCOPY a.txt b.txt many/\nCOPY *.txt ./glob/\nCOPY dir /whole\n"
        "COPY dir/ /slash/\nCOPY . /all/\nCOPY --chown=nobody:nogroup dir /owned\nCOPY --chown=12:34 a.txt /numbers\n"
        'COPY run.sh /\nCOPY ["with space", "/space file"]\nCOPY ?.md /q/\nCOPY dir/../b.txt /b\n',
        files,
    )
    script_text = (
        "cat renamed many/* glob/* /whole/one /whole/sub/two /slash/one /all/c.md '/space file' /q/c.md /b; echo;"
        "stat -c %u:%g /owned /owned/one /owned/sub/two /numbers /whole/one; stat -c %a /run.sh /w/renamed /whole;"
        "readlink /whole/link; ls /all | wc -l"
    )
    told = bench.output(script_text, image=image).splitlines()
    assert told[0] == "AABAB121CSCB"
    owners = ["65534:65534"] * 3 + ["12:34", "0:0"]
    assert [bench.owned(text) for text in told[1:6]] == [bench.owned(text) for text in owners]
    assert told[6:9] == ["755", "644", "755"]
    assert told[9:] == ["one", "8"]


def test_copy_merges_and_replaces(bench: Bench) -> None:
    image = bench.image(
        "FROM BASE\nRUN mkdir /d && echo old > /d/same && echo kept > /d/kept && ln -s /d /link\nCOPY d /d\n"
        "COPY more /link/more\n",
        {"d/same": "new\n", "d/extra": "extra\n", "more": "more\n"},
    )
    assert bench.output("cat /d/*; readlink /link", image=image) == "extra\nkept\nmore\nnew\n/d\n"


def test_copy_goes_nowhere_else(bench: Bench) -> None:
    """Links in the image and in the context lead nowhere outside."""
    image = bench.image(
        "FROM BASE\nRUN ln -s /../../../../w /up && mkdir /w\nCOPY f /up/f\nCOPY f ../../../../x/f\n", {"f": "F"}
    )
    assert bench.output("cat /w/f /x/f", image=image) == "FF"


def test_dockerignore(bench: Bench) -> None:
    """The client leaves out what is ignored; a context that has it anyway is taken as it is or filtered."""
    image = bench.image("FROM BASE\nCOPY . /all\n", {".dockerignore": "*.log\n!keep.log\n", "keep.log": "", "a": ""})
    assert {"a", "keep.log"} <= set(bench.output("ls -A /all", image=image).split())


def test_add(bench: Bench) -> None:
    packed, zipped = tar_of({"in/file": "packed"}, "w"), tar_of({"in/zipped": "zipped"})
    image = bench.image(
        "FROM BASE\nADD a.tar /t/\nADD b.tgz /t\nADD plain /t/plain\nCOPY a.tar /t/kept.tar\n",
        {"a.tar": packed, "b.tgz": zipped, "plain": "plain"},
    )
    script = "cat /t/in/file /t/in/zipped /t/plain; echo; stat -c '%u:%g %a' /t/in/file; tar -tf /t/kept.tar"
    told = bench.owned(bench.output(script, image=image))
    assert told.split() == ["packedzippedplain", bench.owned("12:34"), "640", "in/file"]


def test_a_tar_that_leads_out(bench: Bench) -> None:
    bad = archive({"l": link("l", "/etc"), "../../../../../../tmp/test-api-out": "x", "ok": "y"})
    built = bench.build("FROM BASE\nADD a.tar /t/\n", {"a.tar": bad})
    from pathlib import Path

    assert not Path("/tmp/test-api-out").exists()
    assert built.error or bench.output("cat /t/ok", image=built.id) == "y"


def test_arguments(bench: Bench) -> None:
    text = (
        "ARG TAG=1\nFROM dockerlab/base:$TAG\nARG TAG\nARG WHO=nobody\nARG NONE\n"
        "RUN echo \"$TAG-$WHO-$NONE-$HTTP_PROXY\" > /f\n"
        "ENV KEPT=$WHO\nLABEL who=$WHO\n"
    )  # fmt: skip
    assert bench.output("cat /f; echo $KEPT $WHO", image=bench.image(text)) == "1-nobody--\nnobody\n"
    image = bench.image(text, buildargs={"WHO": "me", "HTTP_PROXY": "p"})
    assert bench.output("cat /f; echo $KEPT", image=image) == "1-me--p\nme\n"
    assert config(bench, image)["Labels"]["who"] == "me"
    # ENV wins over ARG.
    image = bench.image("FROM BASE\nENV A=env\nARG A=arg\nRUN echo $A > /f\n", buildargs={"A": "given"})
    assert bench.output("cat /f", image=image) == "env\n"
    built = bench.build("FROM BASE\nLABEL x=y\n", buildargs={"UNKNOWN": "x"})
    assert "[Warning] One or more build-args [UNKNOWN] were not consumed" in built.text


def test_expansion(bench: Bench) -> None:
    text = "FROM BASE\nENV A=a B=$A\nENV C=$A\\$B D='$A' E=\"$A\" F=${A}b G=${NO:-x} H=${A:+y} I=a\\ b\n"
    image = bench.image(text)
    env = dict(item.split("=", 1) for item in config(bench, image)["Env"])
    # What one ENV sets is not known to itself.
    assert [env[name] for name in "BCDEFGHI"] == ["", "a$B", "$A", "a", "ab", "x", "y", "a b"]


def test_stages(bench: Bench) -> None:
    text = (
        "FROM BASE AS first\nRUN mkdir /o && echo built > /o/f && chown 12:34 /o/f\n"
        "FROM BASE AS second\nCOPY --from=first /o /p\n"
        "FROM BASE\nCOPY --from=0 /o/f /q\nCOPY --from=second /p/f /r\nCOPY --from=dockerlab/base:1 /etc/passwd /s\n"
    )  # fmt: skip
    image = bench.image(text)
    told = bench.output("cat /q /r; wc -l < /s; ls -d /o 2>&1; stat -c %u:%g /q", image=image)
    assert told.startswith("built\nbuilt\n2\n")
    assert "No such" in told
    second = bench.image(text, target="second")
    assert bench.output("cat /p/f; stat -c %u /p/f; ls /q 2>&1 || true", image=second).startswith("built\n")
    first = bench.image("FROM BASE AS a\nENV X=1\nRUN echo 1 > /f\nFROM a\nRUN echo $X >> /f\n")
    assert bench.output("cat /f", image=first) == "1\n1\n"


def test_the_cache(bench: Bench) -> None:
    once = uuid.uuid4().hex
    text = f"FROM BASE\nRUN echo {once} > /f\nCOPY file /g\nRUN date +%s%N > /when\n"
    first = bench.build(text, {"file": "a"})
    second = bench.build(text, {"file": "a"})
    assert first.cached == 0
    assert second.cached >= 3
    assert second.id == first.id
    # What a step depends on has changed, so it and those after it are done anew.
    third = bench.build(text, {"file": "b"})
    assert third.cached == 1
    assert third.id != first.id
    fourth = bench.build(text, {"file": "a"}, nocache=True)
    assert fourth.cached == 0
    assert fourth.id != first.id


def test_the_cache_knows_arguments(bench: Bench) -> None:
    text = f"FROM BASE\nARG A\nRUN echo $A {uuid.uuid4()} > /f\n"
    first, again = bench.image(text, buildargs={"A": "1"}), bench.image(text, buildargs={"A": "1"})
    other = bench.image(text, buildargs={"A": "2"})
    assert first == again != other
    assert bench.output("cat /f", image=other).startswith("2 ")


def test_onbuild(bench: Bench) -> None:
    bench.image("FROM BASE\nONBUILD COPY f /f\nONBUILD RUN echo more >> /f\n", tag=f"{bench.name}:parent")
    child = bench.build(f"FROM {bench.name}:parent\nRUN echo last >> /f\n", {"f": "first\n"})
    assert "# Executing 2 build triggers" in child.text
    assert bench.output("cat /f", image=child.id) == "first\nmore\nlast\n"
    assert config(bench, child.id)["OnBuild"] in (None, [])


def test_options(bench: Bench) -> None:
    files = {"other/File": "FROM dockerlab/base:1\nCOPY x /x\n", "x": "X"}
    image = bench.image("FROM nosuch\n", files, dockerfile="other/File", labels={**bench.labels, "given": "label"})
    assert config(bench, image)["Labels"]["given"] == "label"
    stamp = io.BytesIO()
    with tarfile.open(fileobj=stamp, mode="w:gz") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        data = b"FROM dockerlab/base:1\nLABEL zipped=yes\n"
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    stamp.seek(0)
    told = list(bench.api.build(fileobj=stamp, custom_context=True, encoding="gzip", decode=True, labels=bench.labels))
    assert any("Successfully built" in message.get("stream", "") for message in told)
    quiet = bench.api.build(
        fileobj=io.BytesIO(archive({"Dockerfile": "FROM dockerlab/base:1\nLABEL q=1\n"})),
        custom_context=True, quiet=True, decode=True, labels=bench.labels,
    )  # fmt: skip
    assert [message["stream"].strip()[:7] for message in quiet] == ["sha256:"]


def test_a_run_that_fails(bench: Bench) -> None:
    before = {entry["Id"] for entry in bench.api.containers(all=True)}
    built = bench.build("FROM BASE\nRUN echo so far && exit 7\nRUN echo never\n", tag=f"{bench.name}:1")
    assert "so far\n" in built.text
    assert "Step 3" not in built.text
    assert built.error == "The command '/bin/sh -c echo so far && exit 7' returned a non-zero code: 7"
    assert built.detail["code"] == 7
    assert built.detail["message"] == built.error
    with pytest.raises(docker.errors.ImageNotFound):
        bench.api.inspect_image(f"{bench.name}:1")
    left = [row for row in bench.api.containers(all=True) if row["Id"] not in before and "so far" in row["Command"]]
    assert left == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM BASE\nCOPY nosuch /x\n", "COPY failed: "),
        ("FROM BASE\nCOPY *.nosuch /x\n", "COPY failed: no source files were specified"),
        ("FROM BASE\nCOPY ../x /x\n", "COPY failed: "),
        ("FROM BASE\nCOPY a b /x\n", "must be a directory and end with a /"),
        ("FROM BASE\nCOPY --from=nosuch /a /b\n", "nosuch"),
        ("FROM BASE\nCOPY --chown=nosuch a /x\n", "nosuch"),
        ("FROM BASE\nEXPOSE x\n", "x"),
        ("FROM Not_A/Valid:Name:x\n", "invalid reference format"),
        ('FROM BASE\nRUN ["no-such-program"]\n', "no-such-program"),
        ("FROM BASE\nUSER no-such-user\nRUN true\n", "no-such-user"),
    ],
)
def test_steps_that_cannot_be(bench: Bench, text: str, said: str) -> None:
    status, told = bench.failure(text, {"a": "", "b": ""})
    assert status in (200, 400, 404)
    assert said in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FORM BASE\n", "dockerfile parse error line 1: unknown instruction: FORM"),
        ("FROM BASE\n\nRUM x\n", "dockerfile parse error line 3: unknown instruction: RUM"),
        ("RUN x\n", "no build stage in current context"),
        ("", "the Dockerfile (Dockerfile) cannot be empty"),
        ("# only a comment\n", "file with no instructions"),
        ("FROM a b c\n", "FROM requires either one or three arguments"),
        ("FROM BASE\nCOPY x\n", "COPY requires at least two arguments"),
        ("FROM BASE\nENV x\n", "ENV must have two arguments"),
        ("FROM BASE\nLABEL x\n", "LABEL must have two arguments"),
        ("FROM BASE\nENV\n", "ENV requires at least one argument"),
        ("FROM BASE\nCOPY --nosuch=x a b\n", "nosuch"),
        ("FROM BASE\nONBUILD FROM x\n", "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM BASE\nHEALTHCHECK --interval=x CMD y\n", "x"),
        ("FROM BASE\nSHELL sh\n", "SHELL"),
    ],
)
def test_dockerfiles_that_cannot_be(bench: Bench, text: str, said: str) -> None:
    with pytest.raises(docker.errors.APIError) as caught:
        assert bench.build(text).error == "a refusal"
    assert caught.value.status_code == 400
    assert said.lower() in str(caught.value.explanation).lower()


def test_a_base_image_that_is_nowhere(bench: Bench) -> None:
    status, told = bench.failure("FROM 127.0.0.1:9/no/such/image:9\n")
    assert status in (200, 400, 404)
    assert "127.0.0.1:9" in told


def test_an_unknown_target_and_dockerfile(bench: Bench) -> None:
    with pytest.raises(docker.errors.APIError, match="failed to reach build target nosuch in Dockerfile"):
        bench.build("FROM BASE\n", target="nosuch")
    with pytest.raises(docker.errors.APIError, match="Cannot locate specified Dockerfile: nosuch"):
        bench.build("FROM BASE\n", dockerfile="nosuch")


def test_history(bench: Bench) -> None:
    image = bench.image(
        'FROM BASE\nRUN head -c 70000 /dev/zero > /f\nCOPY a /a\nCMD ["x"]\n', {"a": "abc"}, tag=f"{bench.name}:1"
    )
    told = bench.api.history(image)
    newest = [entry["CreatedBy"] for entry in told][:4]
    assert "LABEL" in newest[0]  # the labels of the build come last
    assert '#(nop)  CMD ["x"]' in newest[1] or 'CMD ["x"]' in newest[1]
    assert "COPY" in newest[2]
    assert "head -c 70000" in newest[3]
    assert told[0]["Id"] == image
    assert told[0]["Tags"] == [f"{bench.name}:1"]
    assert (told[2]["Size"], told[1]["Size"]) == (3, 0)
    assert 70000 <= told[3]["Size"] < 80000
    assert all(isinstance(entry["Created"], int) for entry in told)
    assert len(told) == 4 + len(bench.api.history(bench.base))


def test_a_build_that_the_client_leaves_ends(bench: Bench) -> None:
    stream = bench.api.build(
        fileobj=io.BytesIO(archive({"Dockerfile": "FROM dockerlab/base:1\nRUN echo up; sleep 7654\n"})),
        custom_context=True, decode=False, nocache=True, forcerm=True, rm=True, labels=bench.labels,
    )  # fmt: skip
    for block in stream:
        if b"up" in block and b"Step" not in block:
            break
    stream.close()
    ends = time.monotonic() + 10
    while [row for row in bench.api.containers(all=True) if "sleep 7654" in row["Command"]]:
        assert time.monotonic() < ends
        time.sleep(0.05)
