"""A JupyterLab in folders of its own, and a Chromium that looks at it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from jupyter_page import TALL, JupyterLab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Missing = Callable[[str, str], NoReturn]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "doNotDisturbMode": True},
    "@jupyterlab/apputils-extension:themes": {"adaptive-theme": True},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.browser)


def isolated(root: Path) -> dict[str, str]:
    """Give an environment in which Jupyter finds nothing of the person who runs the tests."""
    names = {
        "HOME": "home",
        "IPYTHONDIR": "ipython",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "XDG_STATE_HOME": "state",
    }
    folders = {variable: root / name for variable, name in names.items()}
    for folder in folders.values():
        folder.mkdir()
    overrides = root / "config" / "labconfig" / "default_setting_overrides.json"
    overrides.parent.mkdir()
    overrides.write_text(json.dumps(SETTINGS), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "IPYTHON"))}
    return {
        **kept,
        **{variable: str(folder) for variable, folder in folders.items()},
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def started(process: subprocess.Popen[bytes], runtime: Path, log: Path, *, timeout_s: float = 60) -> int:
    """Give the port of a JupyterLab that has just been started."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s and process.poll() is None:
        file = runtime / f"jpserver-{process.pid}.json"
        if file.exists() and (text := file.read_text(encoding="utf-8")).strip().endswith("}"):
            return int(json.loads(text)["port"])
        time.sleep(0.1)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')[-3000:]}", pytrace=False)


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    root = tmp_path_factory.mktemp("jupyterlab")
    environ, token = isolated(root), secrets.token_hex(16)
    folder, log = root / "notebooks", root / "jupyterlab.log"
    folder.mkdir()
    options = [
        "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True",
    ]
    if getattr(os, "geteuid", lambda: 1)() == 0:
        options.append("--allow-root")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environ, cwd=folder, stdout=output, stderr=output
        )
    try:
        yield JupyterLab(folder, started(process, root / "runtime", log), token, environ)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


@pytest.fixture(scope="module")  # no longer: while it is open, an asyncio loop runs in this thread
def browser(missing: Missing) -> Iterator[Browser]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("browser", "the package playwright is not installed")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        missing("browser", f"none of {', '.join(BROWSERS)} is on PATH")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(SWITCHES))
        yield running
        running.close()


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport=TALL, color_scheme="light")
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    yield opened
    context.close()
