"""What people do on the page: by keyboard alone, without scripts, logging in, sharing a link, watching records as they come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.browser.conftest import HOSTILE
from tests.browser.serving import Served
from tests.unit.store.store_cases import MESSAGE, NOW_S

from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.store.query import StoreReader
from esa_tls.web.guard import COOKIE

TOKEN = "a-token-of-tests"


@contextmanager
def opened(browser: Browser, url: str, *, scripts: bool = True) -> Iterator[Page]:
    """A window on this address."""
    context = browser.new_context(java_script_enabled=scripts, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(url)
    yield page
    context.close()


def focused(page: Page) -> str:
    """What has the focus, in words."""
    words: str = page.evaluate("(document.activeElement.innerText || document.activeElement.id || document.activeElement.tagName).trim()")
    return words


def outlined(page: Page) -> bool:
    """Whether one sees where the focus is."""
    seen: bool = page.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none'")
    return seen


def test_by_keyboard_alone(filled: Served, browser: Browser) -> None:
    """Tab goes through skip link, views and search in order and visibly; a search and the story of a mail found are reached by keys."""
    with opened(browser, filled.url + "/?last=all") as page:
        there = []
        for _ in range(9):
            page.keyboard.press("Tab")
            assert outlined(page), focused(page)
            there.append(focused(page))
        assert ["Skip to content", "esa-tls", "Overview", "Search", "Compliance", "Live", "Health", "find", "Search"] == there
        page.keyboard.press("Shift+Tab")
        page.keyboard.type("Bob@Example.org")
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{filled.url}/search?q=Bob%40Example.org")
        for _ in range(60):
            page.keyboard.press("Tab")
            assert outlined(page), focused(page)
            if focused(page) == "MID 21":
                break
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("MID 21 on esa9")


def test_skip_link_leads_to_the_content(filled: Served, browser: Browser) -> None:
    """Its target takes the focus, so the next Tab is in the view."""
    with opened(browser, filled.url + "/search") as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.keyboard.press("Tab")
        assert focused(page) == "q"


def test_filters_stand_in_the_address(filled: Served, browser: Browser) -> None:
    """Without any script, a form's filters are parameters; another window with that address shows the same, and pages on with them."""
    with opened(browser, filled.url + "/search", scripts=False) as page:
        page.select_option("#f-kind", "delivery")
        page.select_option("#f-clear", "yes")
        page.get_by_role("button", name="Search").last.click()
        url = page.url
        asked = parse_qs(urlsplit(url).query)
        assert (["delivery"], ["yes"]) == (asked["kind"], asked["clear"])
        first = page.locator(".records tbody tr").all_inner_texts()
        assert first
        assert all("in clear text" in row for row in first)
        page.get_by_role("link", name="Older").click()
        older = page.locator(".records tbody tr").all_inner_texts()
        assert older
        assert not set(older) & set(first)
    with opened(browser, url, scripts=False) as page:
        assert first == page.locator(".records tbody tr").all_inner_texts()
        assert page.locator("#f-clear").input_value() == "yes"


def test_charts_have_tables(filled: Served, browser: Browser) -> None:
    """Beside each chart is a table with the same numbers, and the picture says in words what it shows."""
    with opened(browser, filled.url + "/?last=all") as page:
        figures = page.locator(".figure:has(img)")
        assert figures.count() == 5
        for number in range(5):
            figure = figures.nth(number)
            assert len(figure.locator("img").get_attribute("alt") or "") > 30
            figure.locator("summary").click()
            expect(figure.locator("tbody tr").first).to_be_visible()


def groups(lines: list[bytes], appliance: str) -> list[list[object]]:
    """What the intake would commit of these lines, in two groups."""
    state = DictState()
    pipeline = Pipeline(CoreSettings(starts_broken=False), state, encodings=("json",), now_s=NOW_S)
    made: list[list[object]] = []
    for part in (lines[: len(lines) // 2], lines[len(lines) // 2 :]):
        pipeline.feed(Batch([Run(Origin(source="test", record_appliance=appliance), part)], 1, received_s=NOW_S), now_s=NOW_S)
        sealed = pipeline.seal()
        assert sealed is not None
        made.append([sealed])
    return made


def test_live_shows_what_happens(browser: Browser, tmp_path: Path, screenshots: Path) -> None:
    """Deliveries appear when they are committed, hostile text as text; while paused none does."""
    served = Served(StoreReader(tmp_path / "store.sqlite"))
    try:
        with opened(browser, served.url + "/live") as page:
            expect(page.locator("#state")).to_contain_text("Connected")
            for group in groups(list(MESSAGE), "esa9"):
                served.commit(group)  # type: ignore[arg-type]
            row = page.locator("#records tbody tr").first
            expect(row).to_contain_text("ann@example.net")
            expect(row).to_contain_text("in clear text")
            expect(page.locator("#none")).to_be_hidden()
            page.get_by_role("button", name="Pause").click()
            expect(page.locator("#state")).to_contain_text("Paused: 1 since")
            page.get_by_role("button", name="Go on").click()
            expect(page.locator("#state")).to_contain_text("Connected")
            for group in groups(list(HOSTILE), "esa8"):
                served.commit(group)  # type: ignore[arg-type]
            expect(page.locator("#records tbody tr")).to_have_count(2)
            expect(page.locator("#records tbody tr").first).to_contain_text("<script>")
            assert page.evaluate("window.hurt") is None
            page.screenshot(path=screenshots / "live-watching-light.png")
    finally:
        served.close()


def test_login(browser: Browser, tmp_path: Path, axe: str, screenshots: Path) -> None:
    """Nothing is shown without the token; a wrong one is refused, the right one leads to the view that was wanted, and one can log out."""
    served = Served(StoreReader(tmp_path / "store.sqlite"), token=TOKEN)
    try:
        with opened(browser, served.url + "/search?q=42") as page:
            assert "Nothing found" not in page.inner_text("body")
            page.fill("#token", "wrong")
            page.keyboard.press("Enter")
            expect(page.get_by_role("alert")).to_have_text("That is not the token.")
            page.screenshot(path=screenshots / "login-light.png")
            page.evaluate(axe)
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
            assert [] == [one["id"] for one in found if one["impact"] in ("serious", "critical")]
            page.fill("#token", TOKEN)
            page.keyboard.press("Enter")
            expect(page).to_have_url(served.url + "/search?q=42")
            expect(page.get_by_role("status")).to_contain_text("Nothing found")
            (cookie,) = page.context.cookies()
            assert (COOKIE, True, "Strict") == (cookie["name"], cookie["httpOnly"], cookie["sameSite"])
            page.get_by_role("button", name="Log out").click()
            expect(page).to_have_url(served.url + "/login")
            page.goto(served.url + "/health")
            expect(page.locator("#token")).to_be_visible()
    finally:
        served.close()


@pytest.mark.parametrize("path", ["/search?kind=nonsense", "/search?since=yesterday", "/message?id=x", "/search?q=a&after=zzz"])
def test_what_cannot_be_understood_is_said_in_words(path: str, filled: Served, browser: Browser) -> None:
    """An address that was changed by hand gives a sentence, not an error of ours."""
    with opened(browser, filled.url + path) as page:
        expect(page.locator("h1")).to_have_text("That cannot be shown")
