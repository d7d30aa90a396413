"""The builder: what it prints and makes, with a RUN that is a function of the test's."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from build_bench import Bench, archive

from dockerlab.engine.build import Parts, build, read_options
from dockerlab.engine.images.reference import parse
from dockerlab.engine.refusals import RefusalError, missing

BASE = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nweb:x:7:8:Web:/srv:/bin/sh\n", "etc/group": "www:x:9:web\n"}

NOT_FOUND = "file not found in build context or excluded by .dockerignore"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.build("FROM scratch\nCOPY . /\n", BASE, t="base:1")
    return made


def masked(text: str) -> str:
    return re.sub(r"\b[0-9a-f]{12,64}\b", "ID", text)


def history(bench: Bench) -> list[str]:
    return [row["CreatedBy"] for row in bench.images.history(bench.image)][::-1]


def test_the_stream_is_the_classic_builders(bench: Bench) -> None:
    bench.build("FROM base:1\nENV A=1\nRUN say out && err bad\nCOPY a /a\n", {"a": "x"}, t="web:1")
    assert [masked(str(one.get("stream", one))) for one in bench.output] == [
        "Step 1/4 : FROM base:1",
        "\n",
        " ---> ID\n",
        "Step 2/4 : ENV A=1",
        "\n",
        " ---> Running in ID\n",
        "Removing intermediate container ID\n",
        " ---> ID\n",
        "Step 3/4 : RUN say out && err bad",
        "\n",
        " ---> Running in ID\n",
        "out\n",
        "\x1b[91mbad\n\x1b[0m",
        "Removing intermediate container ID\n",
        " ---> ID\n",
        "Step 4/4 : COPY a /a",
        "\n",
        " ---> ID\n",
        "{'aux': {'ID': 'sha256:ID'}}",
        "Successfully built ID\n",
        "Successfully tagged web:1\n",
    ]
    assert bench.output[-3]["aux"]["ID"] == bench.image_id == bench.images.get("web:1").id
    assert bench.output[-2]["stream"] == f"Successfully built {bench.image_id[7:19]}\n"


def test_a_second_build_takes_everything_from_the_cache(bench: Bench) -> None:
    text = "FROM base:1\nARG V=1\nRUN write a $V\nCOPY . /b/\nWORKDIR /w\nCMD x\n"
    bench.build(text, {"f": "1"})
    first = bench.image_id
    assert bench.build(text, {"f": "1"}).count(" ---> Using cache\n") == 5
    assert bench.image_id == first
    assert len(bench.isolator.specs) == 1
    bench.build(text, {"f": "1"}, nocache="1")
    assert "Using cache" not in bench.text
    assert bench.image_id != first


@pytest.mark.parametrize(
    ("changed", "hits"),
    [
        ({"f": "2"}, 2),  # other content
        ({"g": "1"}, 2),  # another name
        ({"buildargs": '{"V": "2"}'}, 1),  # RUN sees another value
        ({"dockerfile_end": "CMD y"}, 4),
    ],
)
def test_what_is_not_the_same_is_made_again_and_all_after_it(bench: Bench, changed: dict[str, str], hits: int) -> None:
    text = "FROM base:1\nARG V=1\nRUN write a b\nCOPY . /b/\nWORKDIR /w\n"
    bench.build(f"{text}CMD x", {"f": "1"})
    files = {name: changed[name] for name in ("f", "g") if name in changed} or {"f": "1"}
    options = {"buildargs": changed["buildargs"]} if "buildargs" in changed else {}
    bench.build(text + changed.get("dockerfile_end", "CMD x"), files, **options)
    # A Dockerfile that differs is itself part of the context that COPY . copies
    assert bench.text.count(" ---> Using cache\n") == (2 if "dockerfile_end" in changed else hits)


def test_times_and_owners_in_the_context_do_not_matter_to_the_cache(bench: Bench) -> None:
    bench.build("FROM base:1\nCOPY f /\n", {"f": "1"})
    first, context = bench.image_id, bench.folder / "later.tar"
    context.write_bytes(archive({"f": "1", "Dockerfile": "FROM base:1\nCOPY f /\n"}, mtime=1_800_000_000))

    async def ignore(_message: object) -> None: ...

    assert asyncio.run(build(bench.parts, context, read_options([]), ignore)) == first


def test_the_cache_tells_words_apart_that_print_alike(bench: Bench) -> None:
    bench.build('FROM base:1\nSHELL ["a b", "c"]\n')
    assert "Using cache" not in bench.build('FROM base:1\nSHELL ["a", "b c"]\n')
    bench.build('FROM base:1\nRUN ["x", "y z"]\n')
    assert "Using cache" not in bench.build('FROM base:1\nRUN ["x", "y", "z"]\n')


def test_history_is_written_as_docker_does(bench: Bench) -> None:
    bench.build(
        "FROM base:1\nARG V=1 W\nENV A=1 B='x y'\nRUN say $V\nCOPY --chown=1:2 f /z/\nWORKDIR /w\nWORKDIR x\n"
        'CMD echo hi\nENTRYPOINT ["/bin/sh","-c"]\nEXPOSE 90/udp 80\nVOLUME /a /b\nHEALTHCHECK --interval=90s CMD x y\n'
        'LABEL "b c"=d\nSHELL ["/bin/sh","-e","-c"]\nONBUILD RUN echo 1\nMAINTAINER me\n',
        {"f": "1"},
        buildargs='{"V": "2"}',
    )
    assert [masked(row) for row in history(bench)[1:]] == [
        "/bin/sh -c #(nop)  ARG V=1 W",
        "/bin/sh -c #(nop)  ENV A=1 B=x y",
        "|1 V=2 /bin/sh -c say $V",
        "/bin/sh -c #(nop) COPY --chown=1:2 file:ID in /z/ ",
        "/bin/sh -c #(nop) WORKDIR /w",
        "/bin/sh -c #(nop) WORKDIR /w/x",
        '/bin/sh -c #(nop)  CMD ["/bin/sh" "-c" "echo hi"]',
        '/bin/sh -c #(nop)  ENTRYPOINT ["/bin/sh" "-c"]',
        "/bin/sh -c #(nop)  EXPOSE 80 90/udp",
        "/bin/sh -c #(nop)  VOLUME [/a /b]",
        '/bin/sh -c #(nop)  HEALTHCHECK &{["CMD-SHELL" "x y"] "1m30s" "0s" "0s" \'\\x00\'}',
        "/bin/sh -c #(nop)  LABEL b c=d",
        "/bin/sh -e -c #(nop)  SHELL [/bin/sh -e -c]",
        "/bin/sh -e -c #(nop)  ONBUILD RUN echo 1",
        "/bin/sh -e -c #(nop)  MAINTAINER me",
    ]
    entries = bench.image.config["history"]
    assert len([one for one in entries if not one.get("empty_layer")]) == len(bench.image.diff_ids) == 4
    assert bench.image.config["author"] == "me"
    assert bench.image.config["config"] == {
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=1", "B=x y"],
        "Cmd": ["/bin/sh", "-c", "echo hi"],
        "Entrypoint": ["/bin/sh", "-c"],
        "WorkingDir": "/w/x",
        "ExposedPorts": {"80/tcp": {}, "90/udp": {}},
        "Volumes": {"/a": {}, "/b": {}},
        "Healthcheck": {"Test": ["CMD-SHELL", "x y"], "Interval": 90_000_000_000},
        "Labels": {"b c": "d"},
        "Shell": ["/bin/sh", "-e", "-c"],
        "OnBuild": ["RUN echo 1"],
    }


def test_a_command_that_fails(bench: Bench) -> None:
    bench.build("FROM base:1\nRUN say before && exit 3\nRUN never\n")
    assert bench.image_id == ""
    message = "The command '/bin/sh -c say before && exit 3' returned a non-zero code: 3"
    assert bench.output[-1] == {"errorDetail": {"code": 3, "message": message}, "error": message}
    assert masked(bench.output[-2]["stream"]) == "Removing intermediate container ID\n"
    assert not bench.isolator.roots
    assert not list(bench.images.temporary.iterdir())


def test_run_gets_what_it_should(bench: Bench) -> None:
    bench.build(
        "FROM base:1\nARG V\nENV A=1\nUSER web:www\nWORKDIR /srv\nRUN say x\n",
        buildargs='{"V": "v", "http_proxy": "p"}',
        networkmode="none",
        extrahosts="db:10.0.0.1",
        ulimits='[{"Name": "nofile", "Soft": 10, "Hard": 20}]',
    )
    (spec,) = bench.isolator.specs
    command = spec.command
    assert command.argv == ("/bin/sh", "-c", "say x")
    assert {"A=1", "V=v", "http_proxy=p", "HOME=/srv", f"HOSTNAME={spec.id[:12]}"} < set(command.env)
    assert (command.uid, command.gid, command.workdir) == (7, 9, "/srv")
    assert (spec.network, spec.ulimits) == ("none", (("nofile", 10, 20),))
    assert [mount.target for mount in spec.mounts] == ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
    assert "proxy" not in "".join(history(bench))


def test_what_is_wrong_before_the_first_step_is_refused(bench: Bench) -> None:
    for dockerfile, options, message in (
        ("FROM base:1\nFOO\n", {}, "dockerfile parse error line 2: unknown instruction: FOO"),
        ("FROM base:1\n", {"target": "x"}, "failed to reach build target x in Dockerfile"),
        ("FROM base:1\n", {"dockerfile": "nope"}, "Cannot locate specified Dockerfile: nope"),
        ("FROM base:1\n", {"dockerfile": "../x"}, "forbidden path outside the build context: ../x ()"),
        ("FROM base:1\n", {"t": "BAD"}, "invalid reference format: repository name must be lowercase"),
    ):
        with pytest.raises(RefusalError) as caught:
            bench.build(dockerfile, **options)
        assert (caught.value.status, caught.value.message) == (400, message)
        assert bench.output == []
    assert not list(bench.images.temporary.iterdir())


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("FROM nope:1", "No such image: nope:1"),
        ("FROM ${X}", "base name (${X}) should not be blank"),
        ("FROM Bad", "invalid reference format: repository name must be lowercase"),
        ("FROM scratch", "No image was generated. Is your Dockerfile empty?"),
        ("FROM base:1\nCOPY nope /", f"COPY failed: {NOT_FOUND}: stat nope: file does not exist"),
        ("FROM base:1\nCOPY ../a /", "COPY failed: forbidden path outside the build context: ../a ()"),
        ("FROM base:1\nCOPY *.zip /q/", "COPY failed: no source files were specified"),
        ("FROM base:1\nCOPY --from=1 a b", "invalid from flag value 1: index out of bounds"),
        ("FROM base:1\nCOPY --from=0 a b", "invalid from flag value 0: refers to current build stage"),
        ("FROM base:1\nCOPY --from=zz a b", "invalid from flag value zz: No such image: zz:latest"),
        ("FROM base:1\nCOPY --from=base:1 /zz b", "COPY failed: stat zz: file does not exist"),
        ("FROM base:1\nCOPY http://x/y /", "COPY failed: source can't be a URL for COPY"),
        ("FROM base:1\nCOPY --chmod=9 f /", "invalid chmod parameter: '9'. it should be octal string"),
        ("FROM base:1\nEXPOSE abc", "Invalid containerPort: abc"),
        ("FROM base:1\nEXPOSE 90-80", "Invalid containerPort: 90-80"),
        ("FROM base:1\nEXPOSE 80/foo", "Invalid proto: foo"),
        ("FROM base:1\nSTOPSIGNAL FOO", "Invalid signal: FOO"),
        ("FROM base:1\nWORKDIR $x", "cannot normalize nothing"),
        ("FROM base:1\nUSER nosuch\nRUN x", "unable to find user nosuch: no matching entries in passwd file"),
        ("FROM base:1\nRUN --mount=type=cache,target=/x true", "the --mount option requires BuildKit."),
        ("FROM --platform=linux/s390x base:1", "image with reference base:1 was found but does not match the"),
    ],
)  # fmt: skip
def test_a_step_that_cannot_be_done(bench: Bench, dockerfile: str, message: str) -> None:
    bench.build(dockerfile, {"f": "1"})
    assert bench.error.startswith(message)
    assert bench.image_id == ""


def test_stages(bench: Bench) -> None:
    text = (
        "ARG TAG=1\nFROM base:$TAG AS first\nRUN write made x\nFROM first AS second\nENV A=1\n"
        "FROM scratch\nCOPY --from=first /made /one\nCOPY --from=1 /made /two\nCOPY --from=base:1 /etc/group /g\n"
    )
    output = bench.build(text)
    assert "Step 1/9 : ARG TAG=1\nStep 2/9 : FROM base:$TAG AS first\n" in output
    assert len([one for one in bench.output if "aux" in one]) == 3
    assert set(bench.files()) == {"/one", "/two", "/g"}
    bench.build(text, target="second")
    assert "A=1" in bench.image.config["config"]["Env"]
    assert "Step 5/5 : ENV A=1" in bench.text


def test_arguments(bench: Bench) -> None:
    text = (
        "ARG G=global\nFROM base:1\nARG G\nARG D=default\nARG N\nENV SEEN=$G-$D-$N\nENV D=env\nARG D=arg\nENV LAST=$D\n"
    )
    output = bench.build(text, buildargs='{"N": "n", "UNUSED": "1", "NONE": null, "NO_PROXY": "x"}')
    environment = bench.image.config["config"]["Env"]
    assert "SEEN=global-default-n" in environment
    assert "LAST=env" in environment
    assert "[Warning] One or more build-args [NONE UNUSED] were not consumed\n" in output


def test_labels_of_the_client_are_steps_of_their_own(bench: Bench) -> None:
    output = bench.build("FROM base:1\nLABEL a=1\n", labels=json.dumps({"k": "$v", "a": "2"}))
    assert "Step 3/4 : LABEL a=2\n" in output
    assert "Step 4/4 : LABEL k=$v\n" in output
    assert bench.image.config["config"]["Labels"] == {"a": "2", "k": "$v"}


def test_triggers_run_in_the_next_build_only(bench: Bench) -> None:
    bench.build("FROM base:1\nONBUILD RUN write t 1\nONBUILD ENV X=1\n", t="parent:1")
    output = bench.build("FROM parent:1\nENV Y=1\n")
    assert "# Executing 2 build triggers\n" in output
    assert "/t" in bench.files()
    assert {"X=1", "Y=1"} < set(bench.image.config["config"]["Env"])
    assert not bench.image.config["config"].get("OnBuild")


def test_a_quiet_build_says_the_id_only_or_everything_when_it_fails(bench: Bench) -> None:
    bench.build("FROM base:1\nCMD a\n", q="1")
    assert bench.output == [{"stream": f"{bench.image_id}\n"}]
    bench.build("FROM base:1\nRUN exit 2\n", q="1")
    assert bench.output[0]["stream"] == "Step 1/2 : FROM base:1"
    assert "error" in bench.output[-1]


def test_what_is_not_kept_is_said(bench: Bench) -> None:
    output = bench.build("FROM base:1\n", memory="1000", cachefrom='["x"]', networkmode="mine", rm="0")
    assert output.count("[Warning] ") == 4
    assert "Removing" not in output
    for query in ({"remote": "http://x"}, {"version": "2"}, {"squash": "1"}, {"outputs": "[{}]"}):
        with pytest.raises(RefusalError) as caught:
            read_options(query.items())
        assert caught.value.status == 501


@pytest.mark.parametrize(
    "query",
    [
        {"buildargs": "x"},
        {"buildargs": "[]"},
        {"buildargs": '{"a": 1}'},
        {"labels": '{"a": null}'},
        {"labels": '{"a": "\\u0000"}'},
        {"buildargs": '{"\\ud800": "x"}'},
        {"nocache": "maybe"},
        {"platform": "a/b/c/d"},
        {"extrahosts": "x"},
        {"ulimits": '[{"Name": "x", "Soft": 3, "Hard": 1}]'},
        {"ulimits": '["x"]'},
        {"t": "a@sha256:" + "0" * 64},
    ],
)
def test_options_that_make_no_sense(query: dict[str, str]) -> None:
    with pytest.raises(RefusalError) as caught:
        read_options(query.items())
    assert caught.value.status == 400


def test_several_tags_at_once() -> None:
    options = read_options([("t", "a:1"), ("t", "b"), ("t", "")])
    assert [one.familiar for one in options.tags] == ["a:1", "b:latest"]


def test_a_base_image_is_pulled_where_it_is_missing(bench: Bench) -> None:
    asked = []

    async def pull(name: str, platform: str, progress: object) -> None:
        asked.append((name, platform))
        if name == "gone:1":
            raise missing("image", name)
        assert callable(progress)
        progress({"status": "Pulling from library/far", "id": "1"})
        bench.images.tag("base:1", parse(name))

    bench.parts = Parts(bench.images, bench.isolator, pull)
    bench.build("FROM far:1\nENV A=1\n")
    assert {"status": "Pulling from library/far", "id": "1"} in bench.output
    bench.build("FROM far:1\nENV A=1\n")
    bench.build("FROM far:1\nENV A=1\n", pull="1")
    assert asked == [("far:1", ""), ("far:1", "")]
    bench.build("FROM gone:1\n")
    assert bench.error == "No such image: gone:1"


def test_cancelling_ends_the_step_and_leaves_nothing(bench: Bench) -> None:
    async def run() -> None:
        task = asyncio.ensure_future(bench.building("FROM base:1\nRUN say started && sleep\n"))
        while not any(one.get("stream") == "started\n" for one in bench.output):
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert bench.isolator.processes[-1].killed
    assert not bench.isolator.roots
    assert not list(bench.images.temporary.iterdir())


def test_a_client_that_has_gone_ends_the_step(bench: Bench) -> None:
    context = bench.folder / "gone.tar"
    context.write_bytes(archive({"Dockerfile": "FROM base:1\nRUN say started && sleep\n"}))

    async def emit(message: dict[str, object]) -> None:
        if message.get("stream") == "started\n":
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(build(bench.parts, context, read_options([]), emit))
    assert bench.isolator.processes[-1].killed
    assert not bench.isolator.roots


def test_a_context_that_wants_out_is_refused(bench: Bench) -> None:
    for files in ({"../x": "1"}, {"a": "->/etc", "a/b/../../../x": "1"}):
        with pytest.raises(RefusalError, match=r"^the build context cannot be used: "):
            bench.build("FROM base:1\n", files)


def test_a_context_that_is_no_archive_is_refused(bench: Bench) -> None:
    async def ignore(_message: object) -> None: ...

    for content in (b"garbage", b"\x1f\x8bgarbage", b""):
        context = bench.folder / "bad.tar"
        context.write_bytes(content)
        with pytest.raises(RefusalError):
            asyncio.run(build(bench.parts, context, read_options([]), ignore))


def test_a_compressed_context(bench: Bench) -> None:
    async def ignore(_message: object) -> None: ...

    for mode in ("w:gz", "w:bz2", "w:xz"):
        context = bench.folder / "packed"
        context.write_bytes(archive({"Dockerfile": "FROM base:1\nCOPY f /\n", "f": "1"}, mode=mode))
        assert asyncio.run(build(bench.parts, context, read_options([]), ignore))
