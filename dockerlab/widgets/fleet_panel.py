"""The panel of a fleet in a notebook: a view of :class:`~dockerlab.widgets.fleet_model.FleetModel`."""

from __future__ import annotations

import os
import secrets
import threading
from importlib.resources import files
from typing import Any

import ipywidgets  # type: ignore[import-untyped]
from IPython.core.getipython import get_ipython
from IPython.display import display

from dockerlab.errors import BadInputError
from dockerlab.fleet.fleet import MAX_REPLICAS, Fleet
from dockerlab.widgets import cards, words
from dockerlab.widgets.fleet_model import FleetModel
from dockerlab.widgets.static import summary_html, summary_text

_display: Any = display  # has no types
_VIEW = "application/vnd.jupyter.widget-view+json"
_SHOWN = ("status", "desired", "busy", "error", "lost", "commands")


class FleetPanel:
    """A fleet live in a notebook, with handles to scale it and to replace a replica.

    The panel follows the fleet whoever changes it. Where there is no live page (a headless run, a viewer of notebooks)
    a table is shown instead. Running the cell again closes the panel that the cell made before.

    Parameters
    ----------
    fleet : Fleet
    max_replicas : int
        Where the slider ends; grows with the fleet.

    Attributes
    ----------
    model : FleetModel
        What is shown.
    widget : ipywidgets.VBox
        The view alone, for a layout of one's own.

    Raises
    ------
    BadInputError
        Where `max_replicas` is out of range.

    Examples
    --------
    >>> FleetPanel(web)  # doctest: +SKIP
    """

    def __init__(self, fleet: Fleet, *, max_replicas: int = 30) -> None:
        if isinstance(max_replicas, bool) or not isinstance(max_replicas, int) or not 1 <= max_replicas <= MAX_REPLICAS:
            raise BadInputError(
                f"max_replicas is {max_replicas!r}.", f"Give a whole number from 1 to {MAX_REPLICAS}; 30 is a good one."
            )
        self._name, self._url = fleet.name, fleet.url
        self._mark = f"dockerlab-summary-{secrets.token_hex(4)}"
        self._drawing = threading.RLock()
        self._drawer = 0  # the thread that draws: what it changes is no wish of the reader
        self._static: tuple[Any, str] | None = None
        self.model = FleetModel(fleet, commands=lambda: repr(fleet.commands))
        self._make(max_replicas)
        self.model.observe(self._draw, _SHOWN)
        self._draw()
        self._cell, self._ordered_before = _present_cell(), 0
        self._shell = get_ipython()
        if self._shell is not None:
            self._shell.events.register("pre_run_cell", self._before_cell)
            self._shell.events.register("post_run_cell", self._after_cell)
        self.model.start()

    def summary_html(self) -> str:
        """Give the static summary: what is shown where nothing is live."""
        return summary_html(self.model.status, lost=self.model.lost, error=self.model.error, mark=self._mark)

    def close(self) -> None:
        """Take the panel down: its threads, its observers and its view. The fleet goes on."""
        if self.model.closed:
            return
        self.model.close()
        if self._shell is not None:
            self._shell.events.unregister("pre_run_cell", self._before_cell)
            self._shell.events.unregister("post_run_cell", self._after_cell)
        with self._drawing:
            for widget in self._parts:
                for part in (widget, widget.layout, getattr(widget, "style", None)):
                    if part is not None:
                        part.close()

    def __repr__(self) -> str:
        return f"<FleetPanel of {self._name}{', closed' if self.model.closed else ''}>"

    # How it is shown

    def _ipython_display_(self) -> None:
        # Two displays, of which a live page hides the second and everything else cannot show the first.
        if self.model.closed:
            _display({"text/plain": words.CLOSED}, raw=True)
        else:
            view = {"model_id": self.widget.model_id, "version_major": 2, "version_minor": 0}
            _display({_VIEW: view, "text/plain": f"Panel of the fleet {self._name}"}, raw=True)
        shown = self.summary_html()
        handle = _display(self._bundle(shown), raw=True, display_id=True)
        with self._drawing:
            self._static = (handle, shown)

    def _bundle(self, shown: str) -> dict[str, str]:
        model = self.model
        return {
            "text/html": shown,
            "text/plain": summary_text(model.status, lost=model.lost, error=model.error),
        }

    def _before_cell(self, info: Any) -> None:
        self._ordered_before = self.model.ordered
        if self._cell and getattr(info, "cell_id", None) == self._cell:
            self.close()

    def _after_cell(self, _result: Any) -> None:
        # What a cell ordered is done, and shown, when the cell ends: a headless run keeps nothing that comes later.
        if self.model.ordered != self._ordered_before:
            self.model.wait()
        if not self.model.lost:
            self.model.refresh()

    # The view

    def _make(self, max_replicas: int) -> None:
        html = ipywidgets.HTML
        css = files("dockerlab.widgets").joinpath("fleet_panel.css").read_text(encoding="utf-8")
        hide = f".jp-OutputArea-child:has(.{self._mark}),.{self._mark}{{display:none!important}}"
        style = html(f"<style>{css}{hide}</style>")
        self._head, self._news, self._cards, self._typed = html(), html(), html(), html()
        link = html(cards.link(self._url, os.environ))
        self._slider = ipywidgets.IntSlider(min=0, max=max_replicas, readout=False, continuous_update=False)
        self._number = ipywidgets.BoundedIntText(min=0, max=max_replicas, description="Replicas")
        self._choice = ipywidgets.Dropdown(options=[(words.CHOOSE, "")], description="Replica")
        self._button = ipywidgets.Button(description="Replace", tooltip="Throw it away and stamp out a new one")
        typing = html("<details><summary><code>docker</code> commands of what was done here last</summary></details>")
        scaling = ipywidgets.Box([self._number, self._slider])
        replacing = ipywidgets.Box([self._choice, self._button])
        handles = ipywidgets.Box([scaling, replacing])
        rows = [style, self._head, link, handles, self._news, self._cards, typing, self._typed]
        self.widget = ipywidgets.VBox(rows)
        self._parts = [self.widget, *rows, scaling, replacing, self._slider, self._number, self._choice, self._button]
        for part, name in (
            (self.widget, "dockerlab-fleet"),
            (style, "dl-style"),
            (handles, "dl-handles"),
            (scaling, "dl-group"),
            (replacing, "dl-group"),
            (self._button, "dl-go"),
            (typing, "dl-typing"),
            (self._typed, "dl-typed"),
        ):
            part.add_class(name)
        self._slider.observe(self._on_number, "value")
        self._number.observe(self._on_number, "value")
        self._choice.observe(self._on_choice, "value")
        self._button.on_click(self._on_replace)

    def _on_number(self, change: Any) -> None:
        if self._drawer != threading.get_ident() and change["new"] != self.model.desired:
            self.model.scale(change["new"])

    def _on_choice(self, change: Any) -> None:
        if change["new"] and self.model.error == words.CHOOSE_FIRST:
            self.model.complain("")

    def _on_replace(self, _button: Any) -> None:
        if self._choice.value:
            self.model.replace(self._choice.value)
            self._choice.value = ""
        else:
            self.model.complain(words.CHOOSE_FIRST)

    def _draw(self, _change: Any = None) -> None:
        with self._drawing:
            if self.model.closed:
                return
            self._drawer = threading.get_ident()
            try:
                self._draw_all()
            finally:
                self._drawer = 0

    def _draw_all(self) -> None:
        model, lost = self.model, bool(self.model.lost)
        status = None if lost else model.status
        self._head.value = cards.head(status, self._name)
        self._news.value = cards.news(busy=model.busy, error=model.error, lost=model.lost)
        self._cards.value = "" if lost else cards.cards(status) + _name_the_slider(self._name)
        self._typed.value = cards.commands(model.commands)
        for control in (self._slider, self._number, self._choice, self._button):
            control.disabled = lost
        for control in (self._slider, self._number):
            control.max = max(control.max, model.desired)
            control.value = model.desired
        names = [replica.name for replica in status.replicas] if status else []
        options = [(words.CHOOSE, ""), *((name, name) for name in names)]
        if options != list(self._choice.options):
            chosen = self._choice.value
            self._choice.options = options
            self._choice.value = chosen if chosen in names else ""
        if self._static is not None:
            handle, before = self._static
            shown = self.summary_html()
            if shown != before:
                handle.update(self._bundle(shown), raw=True)
                self._static = (handle, shown)


def _present_cell() -> str:
    """Give the id of the cell that runs now, empty where the front end does not say."""
    get_parent = getattr(get_ipython(), "get_parent", None)  # a notebook's kernel has it, a terminal has not
    message: Any = (get_parent() if get_parent else None) or {}
    return str((message.get("metadata") or {}).get("cellId") or "")


def _name_the_slider(fleet: str) -> str:
    # ipywidgets gives the handle no name. Where a page forbids this, the box beside the slider, which has one, remains.
    label = words.text(f"Replicas of {fleet}")
    script = (
        "for (const handle of this.closest('.dockerlab-fleet').querySelectorAll('[role=slider]'))"
        "handle.setAttribute('aria-label',this.dataset.label)"
    )
    return f'<style data-label="{label}" onload="{script}">.dl-named{{}}</style>'
