"""The heat map of servers by files."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
from PIL import Image as Pillow

from dockerlab import plots
from dockerlab.drift.compare import compare
from dockerlab.drift.model import MISSING, Change, Item, Server
from dockerlab.plots.drift import FILES_SHOWN

OLD, NEW = Item("file", 0o644, 3, "aa"), Item("file", 0o644, 3, "bb")
OPEN = Item("file", 0o777, 3, "aa")
IMAGE = {"/a": OLD, "/b": OLD, "/c": MISSING}


def shop(*changes):
    servers = [Server(f"shop-{number:02d}", "i", rows) for number, rows in enumerate(changes, 1)]
    return compare(servers, images={"i": IMAGE})


def five():
    return shop(
        (),
        (Change("/a", "changed", NEW),),
        (Change("/a", "changed", OPEN), Change("/b", "deleted", MISSING)),
        (Change("/c", "added", NEW), Change("/b", "changed", Item("unread"))),
        (),
    )


def cells(figure):
    """Give kind of each cell by column and row."""
    found = {}
    for patch in figure.axes[0].patches:
        left, top = patch.get_xy()
        found[round(left + 0.45), round(top + 0.42)] = patch.get_gid()
    return found


def letters(figure):
    return {(round(t.get_position()[0]), round(t.get_position()[1])): t.get_text() for t in figure.axes[0].texts}


def test_every_server_is_a_column_and_every_file_a_row():
    figure = plots.drift(five()).figure
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"shop-0{n}" for n in range(1, 6)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["state", "/a", "/b", "/c"]
    found = cells(figure)
    assert len(found) == 15
    told = {place: kind for place, kind in found.items() if kind != "same"}
    assert told == {(1, 0): "content", (2, 0): "mode", (2, 1): "missing", (3, 1): "unread", (3, 2): "extra"}


def test_colour_is_never_alone():
    figure = plots.drift(five()).figure
    written = letters(figure)
    told = {place: kind for place, kind in cells(figure).items() if kind != "same"}
    by_kind = {kind: written[place] for place, kind in told.items()}
    assert len(set(by_kind.values())) == len(by_kind) == 5
    hatches = {patch.get_hatch() for patch in figure.axes[0].patches if patch.get_gid() != "same"}
    assert len(hatches) == 5
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert [label.split("  ")[0] for label in labels[:-1]] == ["C", "M", "-", "+", "?"]
    assert labels[-1] == "compared with shop-01"


def test_equal_servers_have_the_same_letter():
    written = letters(plots.drift(five()).figure)
    states = [written[column, -1] for column in range(5)]
    assert states[0] == states[4] == "A"
    assert len(set(states)) == 4


def test_the_image_can_be_what_is_compared_with():
    drift = shop((Change("/a", "changed", NEW),), (Change("/a", "changed", NEW),), ())
    assert set(cells(plots.drift(drift, against="image").figure).values()) == {"same", "content"}
    assert "the image of each" in plots.drift(drift, against="image").alt


def test_the_text_tells_what_the_picture_shows():
    alt = plots.drift(five()).alt
    assert alt.startswith("Drift. 5 servers, 4 different states, compared with shop-01. ")
    assert "/a: other content on shop-02, other mode on shop-03" in alt
    assert "/b: missing on shop-03, could not be read on shop-04" in alt
    many = shop((), *[(Change("/a", "changed", NEW),)] * 7)
    assert "/a: other content on 7 servers" in plots.drift(many).alt


@pytest.mark.parametrize("drift", [shop((), ()), shop(())])
def test_no_drift_is_said(drift):
    picture = plots.drift(drift)
    assert "no difference" in letters(picture.figure).values()
    assert "no difference" in picture.alt
    picture.png()


def test_nobody_is_there():
    picture = plots.drift(compare([], gone=["a"]))
    assert "no servers, 1 vanished" in picture.alt
    picture.png()


def test_of_very_many_files_those_that_differ_most_are_shown():
    rows = tuple(Change(f"/opt/{number:03d}", "added", OLD) for number in range(FILES_SHOWN + 12))
    picture = plots.drift(shop((), rows, (rows[-1],)))
    shown = [label.get_text() for label in picture.figure.axes[0].get_yticklabels()]
    assert len(shown) == FILES_SHOWN + 1
    assert rows[-1].path in shown
    labels = [text.get_text() for legend in picture.figure.legends for text in legend.get_texts()]
    assert labels[-1] == "compared with shop-01; 12 files more not shown"
    assert "12 files more" in picture.alt


def test_thirty_servers_and_fifteen_files_are_legible():
    paths = [f"/opt/shop/modules/part-{number:02d}/settings.json" for number in range(15)]
    changes = [
        tuple(Change(path, "added", NEW) for at, path in enumerate(paths) if number % (at + 2) == 1)
        for number in range(30)
    ]
    picture = plots.drift(shop(*changes))
    figure = picture.figure
    figure.canvas.draw()
    axes = figure.axes[0]
    names = [label.get_window_extent() for label in axes.get_xticklabels()]
    files = [label.get_window_extent() for label in axes.get_yticklabels()]
    states = [text.get_window_extent() for text in axes.texts if text.get_gid() == "state"]
    for boxes in (names, files, states):
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))
        assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
    light, dark = (Pillow.open(io.BytesIO(picture.png(dark=dark))) for dark in (False, True))
    assert light.size == dark.size
    assert light.tobytes() != dark.tobytes()
