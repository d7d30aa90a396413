"""An executed notebook as one HTML file that needs neither a network nor a server, and the pictures in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import DictLoader
from nbconvert import HTMLExporter
from traitlets.config import Config

from dockerlab.course.results import Plot

# The blocks of nbconvert's lab template that load scripts from a CDN. The pages are to be read, so nothing is lost:
# panels and plots have their static form in them.
_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
"""
_WIDGET = "application/vnd.jupyter.widget-view+json"
_NO_SCRIPT = ("text/html", "text/markdown", "image/svg+xml", "text/latex", "image/png", "image/jpeg", "text/plain")
_LOADING = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "input": ("src",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
}
_REMOTE = re.compile(r"(?:https?:)?//[\w.-]+", re.IGNORECASE)
_IN_STYLE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)
_IN_SCRIPT = re.compile(r"(?:import\s*\(?\s*|from\s+)['\"]((?:https?:)?//[^'\"]+)", re.IGNORECASE)


def to_html(notebook: Any, *, name: str, folder: Path) -> str:
    """Give an executed notebook as a page that can be read offline.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        The executed notebook; it is not changed.
    name : str
        Title of the page.
    folder : Path
        Where the images that its text refers to are found; they are put into the page.

    Returns
    -------
    str
        The page. `remote_resources` tells what it would still load, for instance an image on a web server.
    """
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        config=Config({"NbConvertBase": {"display_data_priority": list(_NO_SCRIPT)}}),
        extra_loaders=[DictLoader({"offline.html.j2": _TEMPLATE})],
        template_file="offline.html.j2",
        embed_images=True,
        exclude_anchor_links=True,
        require_js_url="",
        mathjax_url="",
        jquery_url="",
        jupyter_widgets_base_url="",
        widget_renderer_url="",
        mermaid_js_url="",
        mermaid_layout_elk_js_url="",
    )
    resources = {"metadata": {"name": name, "path": str(folder)}}
    body, _ = exporter.from_notebook_node(_without_widgets(notebook), resources)
    return str(body)


def plots(notebook: Any) -> tuple[Plot, ...]:
    """Give the pictures of an executed notebook in their order, each with its text alternative."""
    return tuple(_plots(notebook))


def remote_resources(page: str) -> tuple[str, ...]:
    """Give the addresses on other machines that a browser would load to show a page; links to follow do not count."""
    finder = _Finder()
    finder.feed(page)
    finder.close()
    return tuple(dict.fromkeys(finder.found))


def _without_widgets(notebook: Any) -> Any:
    """Leave widgets out where the same cell shows something that needs no script, else keep their text."""
    copy = nbformat.from_dict(notebook)  # type: ignore[no-untyped-call]
    copy.metadata.pop("widgets", None)
    for cell in copy.cells:
        outputs = cell.get("outputs", [])
        shown = any("data" in output and _WIDGET not in output.data for output in outputs)
        cell_outputs = [output for output in outputs if not (shown and _WIDGET in output.get("data", {}))]
        for output in cell_outputs:
            output.get("data", {}).pop(_WIDGET, None)
        if "outputs" in cell:
            cell.outputs = cell_outputs
    return copy


def _plots(notebook: Any) -> Iterator[Plot]:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                alt = " ".join(str(data.get("text/plain", "")).split())
                yield Plot("".join(str(data["image/png"]).split()), alt or "A plot without a description.")


class _Finder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in _LOADING.get(tag, ()) and value and _REMOTE.match(value.strip()):
                self.found.append(value.strip())
            if key == "style" and value:
                self.found.extend(_IN_STYLE.findall(value))
        if tag in {"style", "script"}:
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.found.extend(_IN_STYLE.findall(data))
        elif self._inside == "script":
            self.found.extend(_IN_SCRIPT.findall(data))
