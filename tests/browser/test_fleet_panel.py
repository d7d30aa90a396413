"""The panel of a fleet in a real JupyterLab with a real browser and real containers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import nbformat
import pytest
from jupyter_page import IDLE, TALL, JupyterLab, menu, open_notebook, theme
from support import until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from dockerlab.connect import Engine

pytestmark = pytest.mark.timeout(90)

WEB = Path(__file__).parents[2] / "notebooks" / "apps" / "web"
OPEN = """
import dockerlab as dl
from dockerlab.widgets import FleetPanel

lab = dl.Lab()
image = lab.build({web!r}, tag="web:panel", quiet=True)
web = lab.fleet("web", image, replicas=3)
"""
CANARY = '<p id="canary" style="color:#cccccc;background:#ffffff;font-size:13px">Can this be read?</p>'


@pytest.fixture(scope="module")
def notebook(jupyterlab: JupyterLab, engine: Engine, page: Page, base_image: Any) -> str:
    """Open a notebook in which a panel follows the fleet of an ephemeral lab; give the lab's name."""
    jupyterlab.write(
        "panel.ipynb",
        OPEN.format(web=str(WEB)),
        "FleetPanel(web)",
        "print('ALL-' + 'DONE', lab.name)",
    )
    open_notebook(page, jupyterlab, "panel.ipynb")
    menu(page, "Run", "Run All Cells")
    done = page.locator(".jp-OutputArea-output", has_text="ALL-DONE")
    done.wait_for(timeout=60_000)
    return done.inner_text().split()[1]


@pytest.fixture
def panel(page: Page, notebook: str) -> Iterator[Locator]:
    """Give the panel of three healthy replicas."""
    shown = page.locator(".dockerlab-fleet")
    scale(shown, 3)
    yield shown
    page.set_viewport_size(TALL)
    theme(page, "light")


def scale(panel: Locator, replicas: int) -> None:
    box = panel.get_by_label("Replicas", exact=True)
    if box.input_value() != str(replicas):
        box.fill(str(replicas))
        box.press("Enter")
    healthy(panel, replicas)


def healthy(panel: Locator, replicas: int) -> None:
    from playwright.sync_api import TimeoutError as TooLate

    script = f"document.querySelectorAll('.dl-card').length == {replicas}"
    script += f" && document.querySelectorAll('.dl-card.dl-good').length == {replicas}"
    script += " && !document.querySelector('.dl-spin')"
    try:
        panel.page.wait_for_function(script, timeout=20_000)
    except TooLate:
        pytest.fail(f"there are not {replicas} healthy replicas but:\n{panel.all_inner_texts()}", pytrace=False)


def shown_ids(panel: Locator) -> dict[str, str]:
    script = "cards => cards.map(card => [card.dataset.replica, card.dataset.id])"
    return dict(panel.locator(".dl-card").evaluate_all(script))


def running(engine: Engine, lab: str) -> dict[str, str]:
    """Give name and id of the running replicas of the lab, as the engine has them."""
    filters = {"label": [f"dockerlab.lab={lab}", "dockerlab.fleet=web", "dockerlab.revision"]}
    # Not containers.list(): it asks for each one by itself, and fails where one goes in the meantime.
    return {row["Names"][0].lstrip("/"): row["Id"] for row in engine.client.api.containers(filters=filters)}


def test_the_cards_are_the_containers(panel: Locator, engine: Engine, notebook: str) -> None:
    assert len(shown_ids(panel)) == 3
    assert shown_ids(panel) == running(engine, notebook)


def test_only_the_live_panel_is_seen(page: Page, panel: Locator) -> None:
    assert page.locator(".dockerlab-fleet").count() == 1
    summary = page.locator(".dockerlab-summary")
    assert summary.count() == 1
    assert not summary.is_visible()


def test_the_slider_obeys_the_keyboard_and_keeps_the_focus(panel: Locator, engine: Engine, notebook: str) -> None:
    slider = panel.get_by_role("slider", name="Replicas of web")
    slider.focus()
    panel.page.keyboard.press("ArrowRight")
    panel.page.keyboard.press("ArrowRight")
    healthy(panel, 5)
    assert len(running(engine, notebook)) == 5
    assert slider.evaluate("handle => handle === document.activeElement")
    panel.page.keyboard.press("ArrowLeft")
    healthy(panel, 4)
    assert len(running(engine, notebook)) == 4
    assert panel.get_by_label("Replicas", exact=True).input_value() == "4"


def test_everything_can_be_reached_with_tab(panel: Locator) -> None:
    panel.locator("a.dl-link").focus()
    reached = []
    for _ in range(5):
        panel.page.keyboard.press("Tab")
        reached.append(
            panel.page.evaluate("document.activeElement.getAttribute('role') ?? document.activeElement.tagName")
        )
    assert reached == ["INPUT", "slider", "SELECT", "BUTTON", "SUMMARY"]


def test_replace_makes_another_container_and_says_what_was_typed(panel: Locator, engine: Engine, notebook: str) -> None:
    before = running(engine, notebook)
    chosen = sorted(before)[0]
    panel.get_by_label("Replica", exact=True).select_option(chosen)
    button = panel.get_by_role("button", name="Replace")
    button.focus()
    panel.page.keyboard.press("Enter")
    panel.page.wait_for_selector(f'.dl-card:not([data-replica="{chosen}"])')
    panel.locator(f'.dl-card[data-replica="{chosen}"]').wait_for(state="detached")
    healthy(panel, 3)
    after = running(engine, notebook)
    assert before[chosen] not in after.values()
    assert len(set(before.values()) & set(after.values())) == 2
    assert shown_ids(panel) == after
    panel.locator("summary").focus()
    panel.page.keyboard.press("Enter")
    typed = panel.locator("pre.dl-pre")
    assert typed.is_visible()
    assert "docker rm" in typed.inner_text()
    scale(panel, 4)
    assert typed.is_visible()  # news does not shut what the reader has opened
    panel.page.wait_for_function("document.querySelector('pre.dl-pre').innerText.includes('scale(4)')")


def test_a_container_killed_behind_its_back_is_seen(panel: Locator, engine: Engine, notebook: str) -> None:
    victim = sorted(running(engine, notebook))[0]
    engine.client.containers.get(victim).kill()
    card = panel.locator(f'.dl-card[data-replica="{victim}"]')
    # The router may see it before the engine does: then it is unhealthy first.
    panel.page.wait_for_selector(f'.dl-card.dl-bad[data-replica="{victim}"]:has-text("stopped")', timeout=5_000)
    assert "gets no requests" in card.inner_text()
    panel.page.wait_for_selector('.dl-phase:has-text("Not as wanted")', timeout=5_000)
    panel.get_by_label("Replica", exact=True).select_option(victim)
    panel.get_by_role("button", name="Replace").click()
    card.wait_for(state="detached")
    healthy(panel, 3)


def test_a_forgotten_choice_is_an_alert(panel: Locator) -> None:
    panel.get_by_role("button", name="Replace").click()
    panel.get_by_role("alert").wait_for()
    assert "Choose a replica first" in panel.get_by_role("alert").inner_text()


def test_thirty_replicas_fit(panel: Locator) -> None:
    scale(panel, 30)
    script = """panel => {
        const outer = panel.getBoundingClientRect()
        return [...panel.querySelectorAll('*')].filter(part => {
            const inner = part.getBoundingClientRect()
            const seen = inner.width > 1 && inner.height > 1 && !part.closest('.noUi-target, .dl-hidden')
            return seen && (inner.left < outer.left - 1 || inner.right > outer.right + 1)
        }).map(part => part.className || part.tagName)
    }"""
    # A viewport of 640 x 512 is what a zoom of 200 % leaves of 1280 x 1024, and the file browser takes half of it.
    for width, height in ((1400, 1900), (640, 512)):
        panel.page.set_viewport_size({"width": width, "height": height})
        panel.page.wait_for_function(
            "width => innerWidth == width && document.querySelector('.dockerlab-fleet').offsetWidth < width", arg=width
        )
        assert panel.evaluate(script) == [], f"clipped at a width of {width}"
    scale(panel, 3)  # fewer to carry along for the tests that follow


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_in_both_themes(
    page: Page, panel: Locator, scheme: str, missing: Callable[[str, str], NoReturn], tmp_path: Path
) -> None:
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        missing("browser", "the package axe-playwright-python is not installed")
    theme(page, scheme)
    # A panel with each kind of news: an alert, the commands, a control that has the focus.
    panel.get_by_role("button", name="Replace").click()
    panel.get_by_role("alert").wait_for()
    # Without a height of the body axe looks at no contrast; the canary proves that it does.
    page.evaluate("document.body.style.height = innerHeight + 'px'")
    panel.evaluate(f"panel => panel.insertAdjacentHTML('beforeend', {CANARY!r})")
    try:
        found = Axe().run(page, context={"include": [[".dockerlab-fleet"]]}).response
    finally:
        page.evaluate("document.querySelector('#canary').remove()")
        page.evaluate("document.body.style.height = ''")
    wrong = {(rule["id"], str(node["target"])) for rule in found["violations"] for node in rule["nodes"]}
    assert wrong == {("color-contrast", "['#canary']")}
    picture = tmp_path / f"panel-{scheme}.png"
    panel.screenshot(path=picture)
    assert picture.stat().st_size > 5_000


def test_the_dark_theme_is_dark(page: Page, panel: Locator) -> None:
    theme(page, "dark")
    script = "panel => getComputedStyle(panel)[{!r}].match(/[0-9.]+/g).slice(0, 3).map(Number)"
    assert max(panel.evaluate(script.format("backgroundColor"))) < 80
    assert min(panel.evaluate(script.format("color"))) > 200


def test_running_the_cell_again_leaves_one_panel(page: Page, panel: Locator) -> None:
    first = panel.locator(".dl-style style").inner_text()
    page.locator(".jp-CodeCell").nth(1).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    page.wait_for_function("old => document.querySelector('.dl-style style')?.innerText != old", arg=first)
    healthy(panel, 3)
    assert page.locator(".dockerlab-fleet").count() == 1
    # The panel from before has let its thread go.
    page.locator(".jp-CodeCell").nth(2).locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.type(
        "import threading; print('THREADS', [t.name for t in threading.enumerate()].count('follow web'))"
    )
    page.keyboard.press("Control+Enter")
    page.locator(".jp-OutputArea-output", has_text="THREADS 1").wait_for()


def test_after_the_kernel_the_summary_stays_and_the_containers_go(
    page: Page, panel: Locator, engine: Engine, notebook: str
) -> None:
    assert running(engine, notebook)
    menu(page, "Kernel", "Shut Down Kernel")
    page.wait_for_selector(f'#jp-main-statusbar :text("{IDLE}")', state="detached")
    until(lambda: not running(engine, notebook))
    filters = {"label": f"dockerlab.lab={notebook}"}
    until(lambda: not engine.client.api.containers(all=True, filters=filters))


@pytest.fixture
def executed(jupyterlab: JupyterLab, engine: Engine, base_image: Any) -> Path:
    """Run a notebook without a browser; its last cells scale through the panel, and past it."""
    source = jupyterlab.write(
        "headless.ipynb",
        OPEN.format(web=str(WEB)),
        "panel = FleetPanel(web)\npanel",
        "panel.model.scale(4)",
        "assert web.status().ready == 4  # what a cell orders is done when it ends\nprint(lab.name)",
        "web.scale(5)",
    )
    target = source.with_name("executed.ipynb")
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(source), str(target)]
    done = subprocess.run(
        command, check=False, env=jupyterlab.environ, cwd=source.parent, capture_output=True, text=True, timeout=80
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    name = nbformat.read(target, as_version=4).cells[3].outputs[0].text.strip()
    until(lambda: not running(engine, name))
    return target


def test_a_headless_run_keeps_the_summary_and_only_that(
    executed: Path, jupyterlab: JupyterLab, browser: Any, tmp_path: Path
) -> None:
    saved = nbformat.read(executed, as_version=4)
    outputs = saved.cells[1].outputs
    assert [sorted(output.data) for output in outputs] == [
        ["application/vnd.jupyter.widget-view+json", "text/plain"],
        ["text/html", "text/plain"],
    ]
    # The last cell's change is there, though it came by another way.
    assert outputs[1].data["text/html"].count("✓ healthy") == 5
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "nbconvert",
        "--to",
        "html",
        str(executed),
        "--output-dir",
        str(tmp_path),
    ]
    subprocess.run(command, env=jupyterlab.environ, check=True, capture_output=True, timeout=60)
    context = browser.new_context(offline=True)
    try:
        page = context.new_page()
        page.goto((tmp_path / "executed.html").as_uri(), wait_until="domcontentloaded")
        summary = page.locator(".dockerlab-summary")
        assert summary.count() == 1
        assert summary.is_visible()
        assert summary.locator("tbody tr").count() == 5
        assert page.locator(".dockerlab-fleet").count() == 0
        assert "Panel of the fleet" not in page.locator("main").inner_text()
    finally:
        context.close()
