"""Dockerfiles and options of a build that make no sense: an error in words, and nothing left."""

from __future__ import annotations

import json
import urllib.parse

from fuzz_archives import archive, damaged
from fuzz_rig import Rig, amounts, fuzz
from hypothesis import strategies as st
from test_fuzz_api import json_values
from test_fuzz_archives import TAR, forget_images

_LINES = [
    "FROM fuzz/base:1", "FROM fuzz/base:1 AS a", "FROM a", "FROM scratch", "FROM", "FROM $X", "FROM --platform=x/y a",
    "RUN true", "RUN false", 'RUN ["true"]', 'RUN ["nosuch"]', "RUN", "RUN []", 'RUN ["', "RUN echo \\", "RUN <<EOF",
    "RUN --mount=type=bind true", "RUN --network=none true", "COPY . .", "COPY f /f", "COPY nosuch /", "COPY ../x /",
    "COPY --from=a /etc /x", "COPY --from=0 / /", "COPY --from=9 /x /x", "COPY --from=fuzz/base:1 /etc /e", "COPY f",
    "COPY --chown=x:y f /", "COPY --chown=1:2 f /", "COPY --chmod=999 f /", "COPY --link f /", 'COPY ["f", "/a b"]',
    "COPY <<EOF /x", "COPY * /x/", "COPY [ /x/", "COPY f /bin/busybox/x", "ADD f /f/", "ADD http://127.0.0.1:9/x /x",
    "ADD http://[::1/x /x", "ADD file:///etc/passwd /x", "ADD git@x:y /x", "ADD --checksum=sha256:0 f /", "ARG A",
    "ARG A=b", "ARG", "ARG A=${B:-${C}}", "ARG PATH=/nosuch", "ENV A=b", "ENV A", "ENV =b", "ENV A=${A:+x",
    "ENV A b c", "ENV A='", "WORKDIR x", "WORKDIR", "WORKDIR $A", "WORKDIR /bin/busybox", "USER x", "USER 0:0",
    "USER", "USER 99999999999", "CMD x", 'CMD ["x"]', "CMD {}", "CMD [1]", "ENTRYPOINT []", "EXPOSE 80",
    "EXPOSE 99999", "EXPOSE a/b", "EXPOSE 1-9999999", "LABEL a", "LABEL a=b", 'LABEL "a=b', "VOLUME /v", "VOLUME []",
    'VOLUME ["/a", 1]', "STOPSIGNAL KILL", "STOPSIGNAL 999", "HEALTHCHECK NONE", "HEALTHCHECK CMD x",
    "HEALTHCHECK --interval=x CMD y", "HEALTHCHECK --retries=-1 CMD x", "SHELL []", 'SHELL ["sh", "-c"]', "SHELL x",
    "ONBUILD RUN true", "ONBUILD FROM x", "ONBUILD ONBUILD RUN x", "MAINTAINER", "# escape=`", "# escape=x",
    "# syntax=x", "#", "\\", "`", "EOF", "NOSUCH x", "\ufeffFROM x", "RUN\techo", "from fuzz/base:1", "CROSS_BUILD x",
    "INCLUDE x", "ENV \0=x", "LABEL \udcff=x", "RUN echo \udcff", "ENV " + "A=b " * 2000, "$", "${", "ENV A=${A",
]  # fmt: skip


def dockerfiles() -> st.SearchStrategy[bytes]:
    """Draw Dockerfiles of lines that make sense one by one, some of them damaged."""
    lines = st.lists(st.one_of(st.sampled_from(_LINES), st.sampled_from(_LINES), st.text(max_size=12)), max_size=6)
    begun = st.tuples(st.sampled_from(["FROM fuzz/base:1", "FROM scratch", ""]), lines)
    whole = begun.map(lambda drawn: "\n".join([drawn[0], *drawn[1]]).encode("utf-8", "surrogatepass"))
    return st.one_of(whole, whole, damaged(whole))


@amounts(60, slow_factor=10)
def test_dockerfiles(rig: Rig, amount: int) -> None:
    built = []

    def check(drawn: tuple[bytes, bytes]) -> None:
        content, ignored = drawn
        context = archive({"Dockerfile": content, "f": b"f", "x/g": b"g", ".dockerignore": ignored})
        answer = rig.ask("POST", "/build?rm=1&forcerm=1", context, TAR, timeout_s=30)
        assert answer.status != 0, "the build does not end"
        rig.check_answer(answer)
        assert all(isinstance(message, dict) for message in answer.messages)
        built.append(b"Successfully built" in answer.body)
        rig.check_clean()
        assert rig.ask("GET", "/containers/json?all=1").messages == [[]], "a container of a step was left"

    ignore = st.sampled_from([b"", b"*", b"!", b"[", b"**/x\n!f", b"../..", b"\xff", b"\\", b"a" * 5000, b"**" * 50])
    fuzz(amount, st.tuples(dockerfiles(), ignore), check)
    print(f"{sum(built)} of {len(built)} made an image")
    forget_images(rig)


@amounts(60, slow_factor=4)
def test_options_of_a_build(rig: Rig, amount: int) -> None:
    names = [
        "t",
        "buildargs",
        "labels",
        "dockerfile",
        "q",
        "nocache",
        "rm",
        "forcerm",
        "pull",
        "target",
        "networkmode",
        "extrahosts",
        "squash",
        "platform",
    ]
    names += [
        "cachefrom",
        "shmsize",
        "memory",
        "memswap",
        "cpushares",
        "cpusetcpus",
        "cpuquota",
        "outputs",
        "version",
        "remote",
        "isolation",
        "ulimits",
    ]
    values = st.one_of(
        json_values().map(json.dumps), st.sampled_from(["", "x", "../x", "/etc/passwd", "\0", "1", "-1", "X:Y"])
    )
    context = archive({"Dockerfile": b"ARG A\nFROM fuzz/base:1 AS a\nLABEL x=$A\nFROM a\nENV y=1\n"})

    def check(drawn: dict[str, str]) -> None:
        query = urllib.parse.urlencode({key: value.encode("utf-8", "surrogatepass") for key, value in drawn.items()})
        answer = rig.ask("POST", f"/build?{query}", context, TAR)
        rig.check_answer(answer)
        rig.check_clean()

    fuzz(amount, st.dictionaries(st.sampled_from(names), values, max_size=3), check)
    forget_images(rig)
