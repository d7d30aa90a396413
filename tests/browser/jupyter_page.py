"""What a person does with a notebook in JupyterLab, as functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

IDLE = "Python 3 (ipykernel) | Idle"
TALL: ViewportSize = {"width": 1400, "height": 1900}


@dataclass(frozen=True)
class JupyterLab:
    """A running JupyterLab; notebooks lie in `folder`, kernels see `environ`."""

    folder: Path
    port: int
    token: str
    environ: dict[str, str]

    def url(self, notebook: str) -> str:
        return f"http://127.0.0.1:{self.port}/lab/tree/{notebook}?reset&token={self.token}"

    def write(self, name: str, *cells: str) -> Path:
        """Write a notebook of code cells."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
        path = self.folder / name
        nbformat.write(notebook, path)
        return path


def open_notebook(page: Page, lab: JupyterLab, name: str) -> None:
    """Open a notebook and wait until its kernel is ready."""
    goto(page, lab.url(name))
    wait_idle(page)


def wait_idle(page: Page, *, timeout_s: float = 60) -> None:
    page.wait_for_selector(f'#jp-main-statusbar :text("{IDLE}")', timeout=timeout_s * 1000)


def menu(page: Page, name: str, item: str) -> None:
    """Choose an item of JupyterLab's menu bar."""
    page.locator(f'.lm-MenuBar-itemLabel:text-is("{name}")').click()
    page.locator(f'.lm-Menu-itemLabel:text-is("{item}")').first.click()


def goto(page: Page, url: str) -> None:
    """Open an address, again where a new network of the engine made Chromium drop what it was loading."""
    from playwright.sync_api import Error

    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(str(request.failure)))
    for _ in range(3):
        failed.clear()
        try:
            page.goto(url)
            page.wait_for_selector("#jp-main-statusbar")
        except Error as error:
            failed.append(error.message)
            if "ERR_NETWORK_CHANGED" not in str(failed):
                raise
        if "ERR_NETWORK_CHANGED" not in str(failed):
            return


def theme(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    light = "true" if scheme == "light" else "false"
    page.wait_for_selector(f'body[data-jp-theme-light="{light}"]', state="attached")
    # The style sheet of the theme comes later than its name.
    ground = "getComputedStyle(document.body).getPropertyValue('--jp-layout-color1').trim()"
    page.wait_for_function(f"['white', '#fff', '#ffffff'].includes({ground}) == {light}")
