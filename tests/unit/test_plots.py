from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import dataclass
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from PIL import Image as Pillow

from dockerlab import plots
from dockerlab.errors import BadInputError
from dockerlab.plots.palette import DARK, HATCHES, LIGHT, MARKERS
from dockerlab.plots.placing import placed, swarm
from dockerlab.traffic.results import Request, Results, results_of

START_S = 1_700_000_000.0


@dataclass(frozen=True)
class Event:
    time_s: float
    kind: str
    text: str = ""
    revision: int = 0


@dataclass(frozen=True)
class Layer:
    instruction: str
    size_bytes: int
    digest: str = ""


@dataclass(frozen=True)
class Image:
    tags: tuple[str, ...]
    layers: tuple[Layer, ...]

    @property
    def size_bytes(self):
        return sum(layer.size_bytes for layer in self.layers)


def rolling():
    """20 s at 100 a second; version 2 takes over replica by replica."""
    events = [Event(START_S + 4, "rollout", revision=2)]
    for replica in range(10):
        at = START_S + 4.1 + replica / 2
        events += [Event(at + n / 5, kind) for n, kind in enumerate(("started", "ready", "drained", "removed"))]
    events.append(Event(START_S + 9.5, "complete", revision=2))
    rows = []
    for number in range(2000):
        due = START_S + number / 100
        version = "2" if number % 10 < (due - START_S - 4.3) * 2 else "1"
        rows.append(Request(due, due, 0.04 + number % 7 / 100, 200, version, "a"))
    return rows, events


def recreate():
    rows, events = rolling()
    lost = [Request(r.scheduled_s, r.scheduled_s, 0.001, 0, error="refused") for r in rows[600:630]]
    bad = [Request(r.scheduled_s, r.scheduled_s, 0.001, 503, error="http_5xx") for r in rows[630:640]]
    return rows[:600] + lost + bad + rows[640:], events


def marked(figure, gid):
    """Offsets of all marks of a kind."""
    points = [
        collection.get_offsets()
        for axes in figure.axes
        for collection in axes.collections
        if collection.get_gid() == gid
    ]
    return [tuple(map(float, point)) for offsets in points for point in offsets]


def words(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def ticks(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def legend(figure):
    return [text.get_text() for group in figure.legends for text in group.get_texts()]


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.images = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))


# The picture ------------------------------------------------------------------------------------------------------


def test_a_notebook_gets_a_light_and_a_dark_picture_with_alt_text():
    picture = plots.start_times({'a "quoted" <label>': [1.0]})
    bundle = picture._repr_mimebundle_()
    assert bundle["text/plain"] == picture.alt
    light, dark = Tags(bundle["text/html"]).images
    assert light["alt"] == dark["alt"] == picture.alt
    assert '"quoted" <label>' in picture.alt
    assert "display:none" not in light["style"]
    assert "display:none" in dark["style"]
    assert 'body[data-jp-theme-light="false"]' in bundle["text/html"]
    shown = [Pillow.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))) for image in (light, dark)]
    assert shown[0].size == shown[1].size
    for image in shown:
        assert image.convert("RGBA").getpixel((0, 0))[3] == 0
    assert shown[0].tobytes() != shown[1].tobytes()
    assert shown[0].info["Description"] == picture.alt


def test_viewers_without_html_get_a_white_ground():
    data = plots.start_times({"a": [1.0]})._repr_mimebundle_()["image/png"]
    assert Pillow.open(io.BytesIO(base64.b64decode(data))).getpixel((0, 0)) == (255, 255, 255)


def test_only_what_is_asked_for_is_given():
    picture = plots.start_times({"a": [1.0]})
    assert set(picture._repr_mimebundle_(include={"text/plain"})) == {"text/plain"}
    assert set(picture._repr_mimebundle_(exclude={"text/html"})) == {"image/png", "text/plain"}


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_picture_can_be_saved(tmp_path, ending):
    path = plots.requests(results_of(recreate()[0])).save(tmp_path / f"figure.{ending}")
    assert path.stat().st_size > 5000


def test_the_settings_of_a_learner_are_neither_used_nor_changed():
    import matplotlib

    with matplotlib.rc_context({"font.size": 99}):
        before = dict(matplotlib.rcParams)
        picture = plots.start_times({"a": [1.0]})
        picture.png()
        assert dict(matplotlib.rcParams) == before
        assert picture.figure.axes[0].xaxis.label.get_fontsize() == 11


# The palette ------------------------------------------------------------------------------------------------------


def luminance(colour):
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_colours_stand_out_from_the_page(palette):
    for colour in (palette.ink, palette.muted, palette.alarm):
        assert contrast(colour, palette.ground) >= 4.5
    for colour in palette.series:
        assert contrast(colour, palette.ground) >= 3


def test_each_colour_has_a_marker_and_a_hatch_of_its_own():
    assert len(LIGHT.series) == len(DARK.series) == len(set(MARKERS)) == len(set(HATCHES))


# Requests ---------------------------------------------------------------------------------------------------------


def test_every_lost_request_is_a_cross_and_counted_in_the_title():
    rows, events = recreate()
    results = results_of(rows)
    picture = plots.requests(results, events)
    crosses = marked(picture.figure, "lost")
    lost_s = [due - START_S for due, kind in zip(results.scheduled_s, results.lost_kind, strict=True) if kind]
    assert sorted(x for x, _ in crosses) == pytest.approx(lost_s)
    assert len(set(crosses)) == 40
    assert picture.figure.get_suptitle() == "2,000 requests, 40 lost"
    assert ticks(picture.figure.axes[1]) == ["30 refused", "10 http 5xx"]
    assert "40 lost (30 refused, 10 http_5xx)" in picture.alt
    assert legend(picture.figure) == ["version 1", "version 2", "lost", "requests due"]


def test_no_two_crosses_cover_each_other():
    figure = plots.requests(results_of(recreate()[0])).figure
    figure.canvas.draw()
    axes = figure.axes[0]
    pixels = axes.transData.transform(marked(figure, "lost"))
    apart = min(math.dist(one, other) for n, one in enumerate(pixels) for other in pixels[:n])
    side = axes.collections[0].get_sizes()[0] ** 0.5 * figure.dpi / 72
    assert apart >= side


def test_every_answer_is_a_point_at_its_latency():
    rows, events = rolling()
    picture = plots.requests(results_of(rows), events)
    points = {version: marked(picture.figure, f"answered {version}") for version in "12"}
    for version in "12":
        expected = [(r.scheduled_s - START_S, r.latency_s) for r in rows if r.version == version]
        assert [y for _, y in points[version]] == pytest.approx([y for _, y in expected])
        assert [x for x, _ in points[version]] == pytest.approx([x for x, _ in expected])
    assert marked(picture.figure, "lost") == []
    assert picture.figure.get_suptitle() == "2,000 requests, 0 lost"
    assert ticks(picture.figure.axes[1]) == ["0 lost"]


def test_events_of_replicas_are_rows_and_the_others_flags():
    rows, events = rolling()
    figure = plots.requests(results_of(rows), events).figure
    assert ticks(figure.axes[0]) == ["10 started", "10 ready", "10 drained", "10 removed"]
    assert words(figure)[:2] == ["rollout, revision 2", "complete"]


def test_words_of_many_events_do_not_overlap_on_the_page():
    rows, _ = rolling()
    kinds = ["rollout", "failed", "failed", "failed", "rolled back", "scaled", "failed", "scaled", "complete"]
    events = [Event(START_S + 5 + n * 0.3, kind, revision=3) for n, kind in enumerate(kinds)]
    figure = plots.requests(results_of(rows), [*events, Event(START_S + 19.9, "complete")]).figure
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in figure.axes[0].texts if t.get_gid() == "event"]
    assert len(boxes) >= 3
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
    text = " ".join(words(figure))
    assert all(kind in text for kind in kinds)


def test_throughput_adds_up_to_the_answers():
    rows, _ = rolling()
    axes = plots.requests(results_of(rows)).figure.axes[-1]
    edges, tops = axes.lines[-2].get_data()  # the upper version; the last is what was due
    edges, due = axes.lines[-1].get_data()
    assert sum(due[:-1]) * (edges[1] - edges[0]) == pytest.approx(2000)
    assert len(edges) == len(tops) == 41


def test_events_far_outside_the_load_are_left_out_and_told():
    rows, _ = rolling()
    picture = plots.requests(results_of(rows), [Event(START_S - 600, "rollout"), Event(START_S + 1, "complete")])
    assert "left out as far outside the load: 1" in picture.alt
    left, right = picture.figure.axes[0].get_xlim()
    assert -1 < left < right < 21


def test_nothing_sent_is_said():
    picture = plots.requests(Results())
    assert picture.figure.get_suptitle() == "No requests"
    assert "no request was sent" in picture.alt
    picture.png()


@pytest.mark.parametrize("rows", [[Request(5, 5, 0.0, 200)], [Request(5, 5, 0.0, 0, error="refused")]])
def test_a_single_request_can_be_drawn(rows):
    picture = plots.requests(results_of(rows))
    assert len(marked(picture.figure, "lost")) == sum(bool(row.error) for row in rows)
    picture.png()


def test_versions_keep_their_colours_and_their_order():
    rows = [Request(n, n, 0.1, 200, version) for n, version in enumerate(["10", "9", "2"])]
    assert legend(plots.requests(results_of(rows)).figure)[:3] == ["version 2", "version 9", "version 10"]


def test_a_version_looks_alike_whether_or_not_the_other_answered():
    def colours(versions: list[str]) -> dict[str, str]:
        figure = plots.requests(results_of([Request(n, n, 0.1, 200, v) for n, v in enumerate(versions)])).figure
        handles = figure.legends[0].legend_handles
        return {
            handle.get_label(): handle.get_color() for handle in handles if handle.get_label().startswith("version")
        }

    both = colours(["1", "2"])
    assert both["version 1"] != both["version 2"]
    assert colours(["2"]) == {"version 2": both["version 2"]}


# Placing ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["failed", "scaled", "rolled back"])), max_size=30))
def test_every_event_keeps_a_label(events):
    events = sorted(events)
    labels = placed(events, left=0, right=20)
    assert sorted(time for label in labels for time in label.times) == sorted(time for time, _ in events)
    assert all(0 <= label.lane < 3 for label in labels)
    assert all(label.start >= 0 or len(label.text) > 90 for label in labels)


@given(st.lists(st.floats(0, 20), max_size=200))
def test_a_swarm_keeps_every_mark(times):
    marks = swarm(sorted(times), span=20)
    assert marks.times == tuple(sorted(times))
    assert len(marks.levels) == len(times)
    assert max(marks.levels, default=0) < 20


# Start times ------------------------------------------------------------------------------------------------------


def test_every_start_is_a_point_and_the_median_is_written():
    picture = plots.start_times({"process": [0.004, 0.005, 0.006], "container": [0.4, 0.5]})
    axes = picture.figure.axes[0]
    assert sorted(x for x, _ in marked(picture.figure, "start")) == [0.004, 0.005, 0.006, 0.4, 0.5]
    assert words(picture.figure) == ["median 5 ms", "median 450 ms"]
    assert ticks(axes) == ["process\n3 starts", "container\n2 starts"]
    assert axes.get_xscale() == "log"
    assert "process: median 5 ms" in picture.alt


def test_alike_times_have_a_linear_axis_from_zero():
    axes = plots.start_times({"a": [0.4], "b": [0.6]}).figure.axes[0]
    assert axes.get_xscale() == "linear"
    assert axes.get_xlim()[0] == 0


def test_what_was_not_measured_is_said():
    picture = plots.start_times({"a": []})
    assert words(picture.figure) == ["not measured"]
    assert "not measured" in picture.alt
    assert "Nothing was measured" in plots.start_times({}).alt
    with pytest.raises(BadInputError):
        plots.start_times({"a": [0.0]})


# Layers -----------------------------------------------------------------------------------------------------------

BASE = (Layer("COPY busybox /bin/", 2_000_000), Layer("ENV A=1", 0))
WEB1 = Image(("web:1",), (*BASE, Layer("COPY v1 /srv/", 400_000), Layer("CMD httpd", 0)))
WEB2 = Image(("web:2",), (*BASE, Layer("COPY v2 /srv/", 500_000), Layer("COPY v1 /srv/", 400_000)))


def bars(figure, gid):
    return [p.get_width() for p in figure.axes[0].patches if isinstance(p, Rectangle) and p.get_gid() == gid]


def test_one_image_shows_its_layers_with_their_instructions():
    picture = plots.layers(WEB1)
    assert bars(picture.figure, "shared") == [2_000_000, 400_000]
    assert {"COPY busybox /bin/", "COPY v1 /srv/", "2 MB", "400 kB"} <= set(words(picture.figure))
    assert "ENV A=1" not in words(picture.figure)
    assert picture.figure.axes[0].get_title(loc="left") == "2 layers with files, 2.4 MB"


def test_images_share_layers_only_on_the_same_ground():
    picture = plots.layers([WEB1, WEB2])
    assert bars(picture.figure, "shared") == [2_000_000, 2_000_000]
    assert bars(picture.figure, "own") == [400_000, 500_000, 400_000]
    assert "3.3 MB on disk, 5.3 MB if nothing were shared" in picture.alt
    assert words(picture.figure).count("in 2 images") == 1


def test_a_digest_decides_where_there_is_one():
    same = [Image((tag,), (Layer("COPY . /", 5_000, digest),)) for tag, digest in (("a:1", "x"), ("b:1", "y"))]
    assert bars(plots.layers(same).figure, "own") == [5_000, 5_000]


def test_a_step_that_ran_twice_made_two_layers():
    @dataclass(frozen=True)
    class Dated(Layer):
        created_s: float = 0.0
        empty: bool = False

    def image(tag, version, created_s):
        config = Dated(f"ENV VERSION={version}", 0, created_s=created_s, empty=True)
        return Image(
            (tag,), (Dated("COPY base /", 900, created_s=1.0), config, Dated("COPY . /", 70, created_s=created_s))
        )

    figure = plots.layers([image("a:1", 1, 2.0), image("a:2", 2, 3.0)]).figure
    assert bars(figure, "shared") == [900, 900]
    assert bars(figure, "own") == [70, 70]
    cached = plots.layers([image("a:1", 1, 2.0), image("a:2", 2, 2.0)]).figure
    assert bars(cached, "shared") == [900, 70, 900, 70]


def test_long_instructions_are_cut_and_thin_layers_named():
    image = Image((), (Layer("RUN " + "x" * 200, 9_000_000), Layer("COPY a /", 10)))
    found = words(plots.layers(image).figure)
    assert "9 MB, with thin layer 2" in found
    assert max(map(len, found)) < 70


def test_images_without_files_can_be_drawn():
    picture = plots.layers(Image(("empty:1",), ()))
    picture.png()
    assert "0 B" in picture.alt
    plots.layers([]).png()


# Scaling ----------------------------------------------------------------------------------------------------------


def test_scaling_shows_what_was_measured_beside_the_ideal():
    picture = plots.scaling([10, 1, 2], [150, 20, 39], [0.07, 0.05, 0.05], [0.2, 0.06, 0.06])
    top, bottom = picture.figure.axes
    lines = {line.get_gid(): line.get_data() for axes in (top, bottom) for line in axes.lines}
    assert list(lines["measured"][0]) == [1, 2, 10]
    assert list(lines["measured"][1]) == [20, 39, 150]
    assert list(lines["ideal"][1]) == [0, 200]
    assert list(lines["p95"][1]) == [0.06, 0.06, 0.2]
    assert top.get_title(loc="left") == "10 replicas reach 75% of the ideal"
    assert {"measured 150", "ideal 200", "median", "95th percentile"} == set(words(picture.figure))
    assert re.search(r"10 replicas: 150 answers a second \(ideal 200\)", picture.alt)


def test_scaling_refuses_columns_that_do_not_fit():
    with pytest.raises(BadInputError, match="do not fit"):
        plots.scaling([1, 2], [1], [1], [1])
    with pytest.raises(BadInputError):
        plots.scaling([], [], [], [])
    with pytest.raises(BadInputError):
        plots.scaling([0], [1], [1], [1])
