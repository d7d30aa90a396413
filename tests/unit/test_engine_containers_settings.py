"""What of a request is taken, warned of and refused."""

import pytest

from dockerlab.engine.containers import settings
from dockerlab.engine.refusals import RefusalError

IMAGE = {"Cmd": ["serve"], "Entrypoint": ["/bin/sh"], "Env": ["A=1", "B=2"], "Labels": {"x": "y"}}


def test_the_request_wins_over_the_image():
    found = settings.read({"Image": "web", "Env": ["A=9"], "Cmd": ["other"], "Labels": {"z": ""}}, IMAGE)
    assert found.argv == ("/bin/sh", "other")
    assert found.config["Env"] == ["A=9", "B=2"]
    assert found.config["Labels"] == {"x": "y", "z": ""}
    assert settings.read({"Image": "web", "Entrypoint": ["own"]}, IMAGE).argv == ("own",)


def test_a_limit_that_is_not_enforced_is_warned_of():
    warnings = settings.read({"HostConfig": {"Memory": 10_000_000, "PidsLimit": 5}}, IMAGE).warnings
    assert len(warnings) == 2
    assert all("Your kernel does not support" in one for one in warnings)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"User": 5}, 400),
        ({"WorkingDir": "rel"}, 400),
        ({"Env": ["=x"]}, 400),
        ({"StopSignal": "FOO"}, 400),
        ({"HostConfig": {"PortBindings": {"abc/tcp": [{}]}}}, 400),
        ({"HostConfig": {"Binds": ["v:a"]}}, 400),
        ({"HostConfig": {"RestartPolicy": {"Name": "always"}, "AutoRemove": True}}, 400),
        ({"HostConfig": {"Devices": [{"PathOnHost": "/dev/x"}]}}, 501),
        ({"HostConfig": {"PidMode": "host"}}, 501),
    ],
)
def test_bad_input_is_refused(body, status):
    with pytest.raises(RefusalError) as caught:
        settings.read(body, IMAGE)
    assert caught.value.status == status
