"""Every view, filled, empty, with a store that does not answer, and with hostile text: in a real browser, light, dark and on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page
from tests.browser.conftest import EVIL_APPLIANCE
from tests.browser.serving import Served

VIEWS = {
    "overview": "/?last=all",
    "search": "/search?kind=delivery&clear=yes",
    "search-start": "/search",
    "message": "/message?id={appliance}/0/MID/21",
    "connection": "/connection?id={appliance}/0/DCID/31",
    "compliance": "/compliance?last=all",
    "live": "/live",
    "health": "/health",
}
LOOKS = {"light": ("light", 1280), "dark": ("dark", 1280), "phone": ("light", 390), "phone-dark": ("dark", 390)}
CASES = {"filled": "esa9", "empty": "esa9", "busy": "esa9", "hostile": EVIL_APPLIANCE}

SAYS = {
    ("filled", "overview"): "of 626 recipients got mail",
    ("filled", "search"): "the latest first; there are more",
    ("filled", "message"): "delivered in CLEAR TEXT to its recipient (example.org)",
    ("filled", "connection"): "does not offer STARTTLS",
    ("filled", "health"): "Not ready",
    ("empty", "overview"): "No mail yet",
    ("empty", "search"): "Nothing found",
    ("empty", "message"): "MID 21 is not here",
    ("empty", "connection"): "DCID 31 is not here",
    ("filled", "compliance"): "not proven to have gone under TLS",
    ("empty", "compliance"): "Nothing to show",
    ("busy", "compliance"): "The store cannot answer now",
    ("hostile", "compliance"): "<script>window.hurt=1</script>",
    ("empty", "live"): "Nothing has come yet.",
    ("empty", "health"): "Ready",
    ("busy", "overview"): "The store cannot answer now",
    ("busy", "search"): "The store cannot answer now",
    ("busy", "message"): "The store cannot answer now",
    ("busy", "connection"): "The store cannot answer now",
    ("busy", "live"): "Nothing has come yet.",
    ("busy", "health"): "It cannot be read now",
    ("hostile", "overview"): "<script>window.hurt=1</script>",
    ("hostile", "message"): "<script>window.hurt=1</script>",
    ("hostile", "health"): "<script>window.hurt=1</script>",
}
"""What each has to say, at least."""


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("case", CASES)
def test_view(case: str, view: str, browser: Browser, axe: str, screenshots: Path, request: pytest.FixtureRequest) -> None:
    """It says what it has to, nothing comes from elsewhere, no script of a stranger runs, axe finds nothing serious, a phone shows all."""
    served: Served = request.getfixturevalue(case)
    for look in LOOKS if case == "filled" else ("light", "phone-dark"):
        scheme, width = LOOKS[look]
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=False)  # type: ignore[arg-type]
        page = context.new_page()
        complaints, asked = _listened(page)
        page.goto(served.url + VIEWS[view].format(appliance=quote(CASES[case])))
        _look_at_all(page)
        said = page.inner_text("main")
        assert SAYS.get((case, view), "") in said, said
        assert [] == [url for url in asked if not url.startswith(served.url + "/")]
        assert page.evaluate("window.hurt") is None
        assert [] == complaints
        assert [] == _blocks(page), "wider than the window"
        page.screenshot(path=screenshots / f"{view}-{case}-{look}.png", full_page=True)
        assert [] == _found_by_axe(page, axe), f"{view} {case} {look}"
        context.close()


def _listened(page: Page) -> tuple[list[str], list[str]]:
    """What the browser complains of from now on, and the addresses it asks."""
    complaints: list[str] = []
    asked: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # A browser tells each answer with a status of an error; some views have one on purpose.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))  # nobody answers it, so that the test ends
    page.on("request", lambda sent: asked.append(sent.url))
    return complaints, asked


def _look_at_all(page: Page) -> None:
    """Scroll through it, and wait for every chart that comes into sight."""
    for place in page.query_selector_all("main img"):
        place.scroll_into_view_if_needed()
        place.evaluate("one => one.decode()")  # fails if it cannot be drawn
        assert place.evaluate("one => one.naturalWidth") > 50
    page.evaluate("window.scrollTo(0, 0)")


def _blocks(page: Page) -> list[str]:
    """What sticks out of the window to the right, but for what can be scrolled."""
    if page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"):
        return []
    found: list[str] = page.evaluate(
        """[...document.querySelectorAll('main *, header *')].filter(one => one.getBoundingClientRect().right > innerWidth + 1
           && !one.closest('.scroll, .proof')).map(one => one.outerHTML.slice(0, 120))"""
    )
    return found or ["something"]


def _found_by_axe(page: Page, axe: str) -> list[str]:
    """Serious and critical violations, with the places."""
    page.evaluate(axe)
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]
