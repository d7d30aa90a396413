"""How servers are compared: plain values in, plain values out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerlab.drift.compare import Difference, compare, difference
from dockerlab.drift.model import IGNORED, MISSING, Change, Item, Server, folders_above, is_ignored
from dockerlab.drift.results import ScriptResult, ScriptResults
from dockerlab.errors import BadInputError

OLD, NEW = Item("file", 0o644, 3, "aa"), Item("file", 0o644, 3, "bb")
OPEN = Item("file", 0o777, 3, "aa")
UNREAD = Item("unread")
FOLDER = Item("folder", 0o755)
SEEN = (OLD, NEW, OPEN, FOLDER, Item("link", target="/a"), Item("link", target="/b"), Item("other"), MISSING, UNREAD)
CONF = "/etc/shop.conf"


def server(name, *changes, image="i"):
    return Server(name, image, changes)


def changed(item, path=CONF):
    return Change(path, "changed", item)


def hows(rows):
    return [(row.path, row.how) for row in rows]


# One path


@pytest.mark.parametrize(
    ("here", "there", "how"),
    [
        (OLD, OLD, "same"),
        (NEW, OLD, "content"),
        (OPEN, OLD, "mode"),
        (Item("file", 0o777, 4, "cc"), OLD, "content"),
        (FOLDER, OLD, "content"),
        (Item("folder", 0o777), FOLDER, "mode"),
        (Item("link", target="/b"), Item("link", target="/a"), "content"),
        (MISSING, OLD, "missing"),
        (OLD, MISSING, "extra"),
        (MISSING, MISSING, "same"),
        (UNREAD, OLD, "unread"),
        (UNREAD, UNREAD, "unread"),
        (UNREAD, MISSING, "extra"),
    ],
)
def test_how_two_items_differ(here, there, how):
    assert difference(here, there) == how


@given(st.sampled_from(SEEN), st.sampled_from(SEEN))
def test_what_one_lacks_the_other_has(here, there):
    mirrored = {"missing": "extra", "extra": "missing"}
    how = difference(here, there)
    assert difference(there, here) == mirrored.get(how, how)


# What is ignored


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("/etc/hosts", True),
        ("/etc/hosts.allow", False),
        ("/etc", False),
        ("/run", True),
        ("/run/lock/a", True),
        ("/running", False),
        ("/srv/web.pid", True),
        ("/srv/web.pid/a", False),
        ("/tmp/x", True),
        ("/opt/tmp/x", False),
        ("/root/.ash_history", False),
        ("/var/log/messages", True),
    ],
)
def test_the_usual_list(path, ignored):
    assert is_ignored(path, IGNORED) == ignored


def test_patterns_of_ones_own():
    assert is_ignored("/opt/shop/cache/a/b", ["/opt/*/cache"])
    assert is_ignored("/opt/a.bak", ["*.bak"])
    assert not is_ignored("/etc/hosts", [])


def test_folders_above():
    assert folders_above(["/a/b/c", "/a/d", "/e"]) == {"/", "/a", "/a/b"}


# Several servers


def test_a_server_is_compared_with_the_first_and_with_its_image():
    drift = compare(
        [server("one"), server("two", changed(NEW)), server("three", changed(OPEN), Change("/x", "added", OLD))],
        images={"i": {CONF: OLD, "/x": MISSING}},
    )
    assert hows(drift.of("one")) == []
    assert drift.of("two") == (Difference(CONF, "content", NEW, OLD),)
    assert hows(drift.of("three")) == [(CONF, "mode"), ("/x", "extra")]
    assert hows(drift.of("three", against="image")) == [(CONF, "mode"), ("/x", "extra")]
    assert drift.drifted == ("two", "three")
    assert drift.paths == (CONF, "/x")
    assert drift.states == 3
    assert drift.title == "3 servers, 3 different states"


def test_what_all_have_changed_alike_is_drift_from_the_image_only():
    drift = compare([server("one", changed(NEW)), server("two", changed(NEW))])
    assert (drift.states, drift.drifted, drift.title) == (1, ("one", "two"), "2 servers, no drift")
    assert hows(drift.of("two")) == []
    assert hows(drift.of("two", against="image")) == [(CONF, "content")]


def test_what_the_first_one_lost_is_extra_on_the_others():
    drift = compare([server("one", Change(CONF, "deleted", MISSING)), server("two")], images={"i": {CONF: OLD}})
    assert hows(drift.of("two")) == [(CONF, "extra")]
    assert hows(drift.of("one", against="image")) == [(CONF, "missing")]
    assert drift.of("two", against="image") == ()


def test_a_file_that_was_written_to_and_is_the_same_is_no_drift_where_the_image_is_known():
    touched = [server("one"), server("two", changed(OLD))]
    assert compare(touched, images={"i": {CONF: OLD}}).drifted == ()
    # Nobody left it alone, so nobody knows what the image has: the engine's word counts.
    assert compare(touched[1:]).drifted == ("two",)


def test_a_changed_folder_counts_for_its_mode_only():
    wide = Item("folder", 0o777)
    assert compare([server("one", changed(FOLDER, "/etc"))]).drifted == ()
    drift = compare([server("one"), server("two", changed(wide, "/etc"))], images={"i": {"/etc": FOLDER}})
    assert hows(drift.of("two", against="image")) == [("/etc", "mode")]


def test_what_could_not_be_read_is_said():
    drift = compare([server("one"), server("two", changed(UNREAD))], images={"i": {CONF: OLD}})
    assert hows(drift.of("two")) == [(CONF, "unread")]
    assert "could not be read" in str(drift)
    assert hows(compare([server("one", changed(None))]).of("one")) == [(CONF, "unread")]


def test_servers_of_two_images_are_never_equal():
    drift = compare([server("one"), server("two", image="j"), server("three")])
    assert drift.groups == (("one", "three"), ("two",))


def test_ignored_paths_play_no_part():
    drift = compare([server("one"), server("two", changed(NEW, "/run/x"))], images={"i": {"/run/x": OLD}})
    assert (drift.states, drift.drifted, drift.paths) == (1, (), ())
    assert compare([server("one"), server("two", changed(NEW, "/run/x"))], ignore=()).states == 2


def test_a_vanished_server_is_named():
    drift = compare([server("one")], gone=["two"])
    assert (drift.servers, drift.gone, drift.title) == (("one",), ("two",), "1 server, no drift, 1 vanished")
    nobody = compare([], gone=["one"])
    assert (nobody.states, nobody.title) == (0, "no servers, 1 vanished")
    assert "vanished" in nobody._repr_html_()


def test_bad_names_are_refused():
    with pytest.raises(BadInputError, match="same name"):
        compare([server("one"), server("one")])
    with pytest.raises(BadInputError, match="one, two"):
        compare([server("one"), server("two")]).of("three")


def test_a_drift_shows_its_groups():
    drift = compare([server("<a>"), server("b", changed(NEW)), server("c")], images={"i": {CONF: OLD}})
    assert str(drift).splitlines() == [
        "3 servers, 2 different states",
        "<a>, c: no difference",
        "b: /etc/shop.conf: other content",
    ]
    assert "&lt;a&gt;, c" in drift._repr_html_()
    assert str(drift.of("b")[0]) == ("/etc/shop.conf: other content (3 bytes, mode 644; the other: 3 bytes, mode 644)")


PATHS = ("/a", "/b", "/b/c")
change_sets = st.dictionaries(st.sampled_from(PATHS), st.sampled_from(SEEN))


@st.composite
def fleets(draw):
    """Servers of one or two images; what the images have is known where a server left it alone."""
    images = {name: {path: draw(st.sampled_from(SEEN[:4])) for path in PATHS} for name in "ij"}
    servers = []
    for number in range(draw(st.integers(1, 6))):
        changes = draw(change_sets)
        image = draw(st.sampled_from("ij"))
        servers.append(server(f"s{number}", *(changed(item, path) for path, item in changes.items()), image=image))
    return servers, images


@given(fleets())
def test_the_groups_part_the_servers(fleet):
    servers, images = fleet
    drift = compare(servers, images=images)
    assert sorted(name for group in drift.groups for name in group) == sorted(drift.servers)
    assert all(drift.groups)
    assert [len(group) for group in drift.groups] == sorted(map(len, drift.groups), reverse=True)
    first = next(group for group in drift.groups if servers[0].name in group)
    for one in servers:
        told = {row.how for row in drift.of(one.name)} - {"unread"}
        assert not (one.name in first and told)
        if one.image_id == servers[0].image_id and not drift.of(one.name):
            assert one.name in first


@given(fleets())
def test_two_servers_differ_in_the_same_places_whichever_comes_first(fleet):
    servers, images = fleet
    one, other = servers[0], servers[-1]
    if one is other:
        return
    forth = compare([one, other], images=images).of(other.name)
    back = compare([other, one], images=images).of(one.name)
    assert [(d.path, d.here, d.there) for d in forth] == [(d.path, d.there, d.here) for d in back]


@given(change_sets.filter(lambda changes: UNREAD not in changes.values()), st.integers(1, 5))
def test_equal_servers_have_no_drift(changes, count):
    rows = [changed(item, path) for path, item in changes.items()]
    drift = compare([server(f"s{number}", *rows) for number in range(count)])
    assert drift.states == 1
    assert not any(drift.from_first)


@given(fleets())
def test_a_server_without_changes_is_as_its_image(fleet):
    servers, images = fleet
    drift = compare([*servers, server("fresh")], images=images)
    assert drift.of("fresh", against="image") == ()


# What scripts came to


def test_results_of_a_script():
    rows = (
        ScriptResult("shop-01", 0, "one\ndone\n", 0.5),
        ScriptResult("shop-02", 3, "<no>", 1.0),
        ScriptResult("shop-03", None, "", 2.0),
    )
    results = ScriptResults(rows, 2.0)
    assert [row.server for row in results.failed] == ["shop-02", "shop-03"]
    assert (len(results), results[0], list(results)) == (3, rows[0], list(rows))
    assert str(results).splitlines() == [
        "3 ran, 2 failed, 2.0 s",
        "shop-01          0    0.50 s  done",
        "shop-02          3    1.00 s  <no>",
        "shop-03          -    2.00 s",
    ]
    assert "&lt;no&gt;" in results._repr_html_()
    assert str(ScriptResults((), 0.0)) == "0 ran, 0 failed, 0.0 s"
