"""What an image is made of, and what a build tells, read from real answers of engines."""

from __future__ import annotations

import pytest

from dockerlab.errors import BuildError, DiskFullError, DockerfileError, ImageError, ImageNotFoundError
from dockerlab.images.layers import Image, Layer, epoch_seconds, format_size, image_from, instruction_of
from dockerlab.images.steps import OUTPUT_LIMIT, StepReader

ID = "sha256:" + "a1" * 32
INSPECT = {
    "Id": ID,
    "RepoTags": ["web:1", "<none>:<none>"],
    "RepoDigests": None,
    "Created": "2026-05-01T10:00:00.123456789Z",
    "Size": 1_991_234,
    "Architecture": "amd64",
    "Config": {
        "Env": ["PATH=/bin", "VERSION=1"],
        "ExposedPorts": {"80/tcp": {}},
        "Cmd": ["sh", "/srv/web/serve"],
        "Entrypoint": None,
        "Healthcheck": {"Test": ["CMD-SHELL", "wget -q -O- http://localhost"]},
        "Labels": {"dockerlab.image": "true"},
        "Volumes": {"/data": {}},
    },
}
HISTORY = [
    {"Created": 30, "CreatedBy": '/bin/sh -c #(nop)  CMD ["sh"]', "Size": 0},
    {"Created": 20, "CreatedBy": "/bin/sh -c true", "Size": 0},
    {"Created": 10, "CreatedBy": f"/bin/sh -c #(nop) ADD file:{'4' * 64} in / ", "Size": 1_984_246},
]


def test_image_from_answers() -> None:
    image = image_from(INSPECT, HISTORY)
    assert image == Image(
        id=ID,
        tags=("web:1",),
        size_bytes=1_991_234,
        layers=(
            Layer("ADD file:44444444 in /", 1_984_246, 10.0, False),
            Layer("RUN true", 0, 20.0, False),
            Layer('CMD ["sh"]', 0, 30.0, True),
        ),
        architecture="amd64",
        created_s=1777629600.123456789,
        exposed_ports=("80/tcp",),
        env=("PATH=/bin", "VERSION=1"),
        command=("sh", "/srv/web/serve"),
        health=("CMD-SHELL", "wget -q -O- http://localhost"),
        volumes=("/data",),
        labels=(("dockerlab.image", "true"),),
    )
    assert image.short_id == "a1" * 6
    assert image.name == "web:1"
    assert str(image) == "web:1 (a1a1a1a1a1a1, 1.99 MB)"


def test_an_image_without_anything() -> None:
    image = image_from({"Id": ID, "RepoTags": ["<none>:<none>"], "Config": None, "Created": "0001-01-01T00:00:00Z"}, [])
    assert image == Image(id=ID)
    assert image.name == image.short_id


def test_html_shows_the_layers_and_escapes() -> None:
    page = image_from(INSPECT, [{"CreatedBy": "/bin/sh -c echo '<b>' > /x", "Size": 1500}, *HISTORY])._repr_html_()
    assert "RUN echo &#x27;&lt;b&gt;&#x27; &gt; /x" in page
    assert "1.5 kB" in page
    assert "configuration only" in page
    assert page.index("ADD file") < page.index("CMD")


@pytest.mark.parametrize(
    ("created_by", "instruction"),
    [
        ('/bin/sh -c #(nop)  CMD ["sh"]', 'CMD ["sh"]'),
        ("/bin/sh -c mkdir /www", "RUN mkdir /www"),
        ("|2 A=1 B=x y /bin/sh -c echo $A | cat", "RUN echo $A | cat"),
        ("RUN /bin/sh -c mkdir /www # buildkit", "RUN mkdir /www"),
        ("RUN |1 VERSION=2 /bin/sh -c mkdir /www # buildkit", "RUN mkdir /www"),
        ("COPY page.html /www/ # buildkit", "COPY page.html /www/"),
        (f"/bin/sh -c #(nop) COPY dir:{'ab' * 32} in /www ", "COPY dir:abababab in /www"),
        ("", ""),
    ],
)
def test_instruction_of(created_by: str, instruction: str) -> None:
    assert instruction_of(created_by) == instruction


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (1_982_256, "1.98 MB"),
        (77_800_000, "77.8 MB"),
        (2 * 10**9, "2 GB"),
    ],
)
def test_format_size(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T01:00:10.25+01:00", 10.25),
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
        ("yesterday", 0.0),
    ],
)
def test_epoch_seconds(moment: str, seconds: float) -> None:
    assert epoch_seconds(moment) == seconds


def read(lines: list[str], reader: StepReader | None = None) -> tuple[StepReader, list[str]]:
    reader = reader or StepReader()
    printed = [line for now_s, text in enumerate(lines) for line in reader.feed({"stream": text}, float(now_s))]
    return reader, printed


CLASSIC = [
    "Step 1/3 : FROM dockerlab/base:1\n",
    " ---> 441d24f90af0\n",
    "Step 2/3 : RUN echo hello   &&     mkdir /www\n",
    " ---> Running in 0123456789ab\n",
    "hello\n",
    "Removing intermediate container 0123456789ab\n",
    " ---> abcdefabcdef\n",
    'Step 3/3 : CMD ["sh"]\n',
    " ---> Using cache\n",
    " ---> 111111111111\n",
    "Successfully built 111111111111\n",
    "Successfully tagged web:1\n",
]
PODMAN = [
    "STEP 1/3: FROM dockerlab/base:1\n",
    "STEP 2/3: RUN echo hello && mkdir /www\n",
    "hello\n",
    "--> abcdefabcdef\n",
    'STEP 3/3: CMD ["sh"]\n',
    f"--> Using cache {'1' * 64}\n",
    "COMMIT web:1\n",
    "--> 111111111111\n",
    "Successfully tagged localhost/web:1\n",
    f"{'1' * 64}\n",
]


@pytest.mark.parametrize("lines", [CLASSIC, PODMAN], ids=["classic", "podman"])
def test_steps_of_both_dialects(lines: list[str]) -> None:
    reader, printed = read(lines)
    printed += reader.finish(20.0)
    steps = reader.steps
    assert [(step.number, step.total, step.instruction, step.cached, step.output) for step in steps] == [
        (1, 3, "FROM dockerlab/base:1", False, ""),
        (2, 3, "RUN echo hello && mkdir /www", False, "hello\n"),
        (3, 3, 'CMD ["sh"]', True, ""),
    ]
    # In these lists one line arrives a second.
    begins = [at for at, line in enumerate(lines) if line.lower().startswith("step")]
    assert [step.seconds for step in steps] == [begins[1] - begins[0], begins[2] - begins[1], 20.0 - begins[2]]
    assert reader.image_id.startswith("1" * 12)
    assert printed == [str(steps[0]), "      hello", str(steps[1]), '[3/3] CMD ["sh"]   cached']


def test_the_id_in_aux_wins() -> None:
    reader, _ = read(CLASSIC[:4])
    reader.feed({"aux": {"ID": ID}}, 1.0)
    read(["Successfully built 111111111111\n"], reader)
    assert reader.image_id == ID


def test_a_long_output_keeps_its_end() -> None:
    reader, _ = read(["Step 1/1 : RUN yes\n", *["y" * 999 + "\n"] * 400, "the end\n"])
    assert len(reader.output) <= OUTPUT_LIMIT
    assert reader.output.endswith("the end\n")


def test_a_failed_step_has_number_instruction_and_output() -> None:
    reader, _ = read(CLASSIC[:5])
    error = reader.failure("The command '/bin/sh -c echo hello' returned a non-zero code: 3")
    assert isinstance(error, BuildError)
    assert (error.step, error.instruction, error.output) == (2, "RUN echo hello && mkdir /www", "hello\n")
    assert "non-zero code: 3" in str(error)


@pytest.mark.parametrize(
    ("lines", "message", "kind"),
    [
        ([], "dockerfile parse error line 2: unknown instruction: RUNN", DockerfileError),
        ([], "the Dockerfile (Dockerfile) cannot be empty", DockerfileError),
        (["Step 1/1 : RUN x\n"], "write /x: no space left on device", DiskFullError),
        (
            ["Step 1/1 : FROM nosuch:1\n"],
            "pull access denied for nosuch, repository does not exist",
            ImageNotFoundError,
        ),
        (["Step 1/1 : FROM nosuch:1\n"], "manifest for nosuch:1 not found: manifest unknown", ImageNotFoundError),
        (["Step 1/1 : FROM nosuch:1\n"], "dial tcp: lookup registry: no such host", ImageError),
        (["Step 1/1 : RUN x\n"], "sh: syntax error: unexpected fi", BuildError),
    ],
)
def test_kinds_of_failure(lines: list[str], message: str, kind: type[Exception]) -> None:
    reader, _ = read(lines)
    error = reader.failure(message, dockerfile="FROM dockerlab/base:1\nRUNN true\n")
    assert type(error) is kind
    if kind is DockerfileError and "line 2" in message:
        assert "line 2: RUNN true" in str(error)
