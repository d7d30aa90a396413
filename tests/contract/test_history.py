"""The revisions that a fleet keeps, and the images that go with those it lets go."""

from __future__ import annotations

from pathlib import Path

import pytest

import dockerlab as dl
from dockerlab.errors import BadInputError, ImageNotFoundError
from dockerlab.images import Image
from dockerlab.lab import Lab

DOCKERFILE = """\
FROM dockerlab/base:1
RUN mkdir -p /www && echo {text} > /www/healthz
EXPOSE 80
CMD ["httpd", "-f", "-p", "80", "-h", "/www"]
"""


def build(lab: Lab, folder: Path, version: int) -> Image:
    (folder / "Dockerfile").write_text(DOCKERFILE.format(text=f"{lab.name}-{version}"), encoding="utf-8")
    return lab.build(folder, tag=f"old-{lab.name}:{version}", quiet=True)


def there(lab: Lab, image: Image) -> bool:
    try:
        lab.image(image.id)
    except ImageNotFoundError:
        return False
    return True


@pytest.fixture
def images(lab: Lab, base_image: Image, tmp_path: Path) -> list[Image]:
    return [build(lab, tmp_path, version) for version in range(1, 6)]


def test_images_of_revisions_beyond_the_limit_are_removed(lab: Lab, images: list[Image]) -> None:
    web = lab.fleet("web", images[0], init=True, revision_history_limit=2)
    for image in (*images[1:3], images[1], images[2]):  # to and fro adds nothing old
        assert web.rollout(image).status == "Complete"
    assert [there(lab, image) for image in images] == [True] * 5
    assert web.rollout(images[3]).status == "Complete"
    assert [there(lab, image) for image in images] == [False, True, True, True, True]
    assert {revision.number for revision in web.revisions} == {2, 3, 4}
    assert [event.kind for event in web.events].count("collected") == 1
    assert web.rollback(to=2).status == "Complete"
    with pytest.raises(BadInputError, match="no revision 1"):
        web.rollback(to=1)


def test_what_something_else_needs_stays(lab: Lab, images: list[Image]) -> None:
    web = lab.fleet("web", images[0], init=True, revision_history_limit=0)
    lab.fleet("other", images[0], init=True)
    lab.start(images[1], name=f"{lab.name}-user", init=True)
    lab.client.api.tag(images[2].id, f"somebody-{lab.name}", "elses")
    try:
        for image in images[1:5]:
            assert web.rollout(image, dl.Recreate()).status == "Complete"
        # Another fleet's, another container's, one with a name that the lab did not give, and the present one.
        assert [there(lab, image) for image in images] == [True, True, True, False, True]
        assert lab.image(images[2].id).tags == (f"somebody-{lab.name}:elses",)
        assert [revision.number for revision in web.revisions] == [5]
    finally:
        lab.client.api.remove_image(f"somebody-{lab.name}:elses", force=True)


def test_a_limit_that_makes_no_sense(lab: Lab, base_image: Image) -> None:
    with pytest.raises(BadInputError, match="revision_history_limit"):
        lab.fleet("web", base_image, revision_history_limit=-1)
