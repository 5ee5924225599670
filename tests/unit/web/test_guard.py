from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.browser.serving import JOURNAL
from yarl import URL

from esa_tls.api import rows
from esa_tls.store.query import StoreReader
from esa_tls.telemetry import Counters
from esa_tls.web.guard import COOKIE, SESSION_S, Guard, place_after_login
from esa_tls.web.live import Live
from esa_tls.web.page import WebPage
from esa_tls.web.server import WebServer
from esa_tls.web.state import Sidecar

TOKEN = "a-token-of-tests"
VIEWS = ("/", "/search", "/message?id=a/0/MID/1", "/connection?id=a/0/ICID/1", "/live", "/health", "/chart/mail.svg", "/live/events")


class Clock:
    now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def serving(
    folder: Path, *, token: str | None = None, names: Sequence[str] = (), clock: Clock | None = None, store: bool = True
) -> AsyncIterator[aiohttp.ClientSession]:
    """A page on an empty store, and a client that keeps no cookies and follows nothing by itself."""
    counters, clock = Counters(), clock or Clock()
    reader = StoreReader(folder / "store.sqlite")
    sidecar = Sidecar(
        store=reader if store else None,
        live=Live(rows.readable, rows.decode),
        counters=counters,
        reasons_not_ready=list,
        sinks=list,
        journal=lambda: JOURNAL,
        dead_letters=lambda _number: [],
    )
    page = WebPage(sidecar, Guard(token=token, names=names, now_s=clock), now_s=clock)
    server = WebServer(counters, host="127.0.0.1", port=0, reasons_not_ready=list, page=page)
    await server.start()
    try:
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", cookie_jar=jar) as client:
            yield client
    finally:
        await server.stop()
        await reader.close()


@pytest.mark.parametrize("path", [*VIEWS[:7], "/nothing", "/static/page.css", "/search?kind=x", "/login"])
async def test_every_answer_of_the_page_is_protected(tmp_path: Path, path: str) -> None:
    """Whatever is answered, no inline script may run, no other origin is asked, no frame may hold it, and types are not guessed."""
    async with serving(tmp_path) as client, client.get(path, allow_redirects=False) as answer:
        if path == "/nothing":
            assert answer.status == 404
            return
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"] or path.startswith("/chart")
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "script-src 'unsafe" not in answer.headers["Content-Security-Policy"]
        assert ("nosniff", "DENY") == (answer.headers["X-Content-Type-Options"], answer.headers["X-Frame-Options"])


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("localhost", True),
        ("LOCALHOST.:8080", True),
        ("mail.example.org:8080", True),
        ("evil.example.com", False),
        ("localhost.evil.example.com", False),
        ("127.0.0.1.evil.example.com", False),
        ("127.0.0.1@evil.example.com", False),
        ("", False),
        ("[::1].evil.example.com", False),
    ],
)
async def test_only_known_names_reach_the_page(tmp_path: Path, host: str, fits: bool) -> None:
    """A name that somebody else made to point here (DNS rebinding) is refused, whatever is asked; addresses and configured names work."""
    guard = Guard(token=None, names=["Mail.Example.org"])
    assert guard.host_fits(host) is fits
    if host:
        async with serving(tmp_path, names=["Mail.Example.org"]) as client, client.get("/search", headers={"Host": host}) as answer:
            assert answer.status == (200 if fits else 421)


@pytest.mark.parametrize("path", VIEWS)
async def test_nothing_without_the_token(tmp_path: Path, path: str) -> None:
    """With a token every view, chart and stream is refused without it, with a wrong one and with cookies that are none."""
    wrong: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Cookie": f"{COOKIE}=9999999999.{'0' * 64}"},
        {"Cookie": f"{COOKIE}=x"},
    ]
    async with serving(tmp_path, token=TOKEN) as client:
        for headers in wrong:
            async with client.get(path, headers=headers) as answer:
                assert answer.status == 401
                assert "Nothing" not in await answer.text()
        async with client.get("/health/live") as answer:
            assert answer.status == 200


async def test_programs_send_the_token(tmp_path: Path) -> None:
    """`Authorization: Bearer` is enough; who takes no HTML gets no form."""
    async with serving(tmp_path, token=TOKEN) as client:
        async with client.get("/search?q=1", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == 200
        async with client.get("/search", headers={"Accept": "application/json"}) as answer:
            assert (401, "Bearer", b"") == (answer.status, answer.headers["WWW-Authenticate"], await answer.read())


async def test_a_login_ends(tmp_path: Path) -> None:
    """The cookie is good for its time and no longer, with its own token only, and not when it was altered."""
    clock = Clock()
    async with serving(tmp_path, token=TOKEN, clock=clock) as client:
        async with client.post("/login", data={"token": TOKEN, "next": "/health"}, allow_redirects=False) as answer:
            assert (303, "/health") == (answer.status, answer.headers["Location"])
            cookie = answer.cookies[COOKIE]
        assert (True, "Strict", "/") == (cookie["httponly"], cookie["samesite"], cookie["path"])
        headers = {"Cookie": f"{COOKIE}={cookie.value}"}
        altered = {"Cookie": f"{COOKIE}={int(cookie.value.split('.')[0]) + 1}.{cookie.value.split('.')[1]}"}
        assert [200, 401] == [await _status(client, one) for one in (headers, altered)]
        clock.now_s += SESSION_S + 1
        assert await _status(client, headers) == 401
    async with serving(tmp_path, token=TOKEN + "2") as client:
        assert await _status(client, headers) == 401


async def _status(client: aiohttp.ClientSession, headers: dict[str, str]) -> int:
    async with client.get("/health", headers=headers) as answer:
        return answer.status


@pytest.mark.parametrize("wanted", ["https://evil.example.com/", "//evil.example.com", "/\\evil.example.com", "evil", "/\n", ""])
def test_a_login_leads_to_no_other_site(wanted: str) -> None:
    """What is not a path of this page is replaced by its beginning."""
    assert place_after_login(wanted) == "/"
    assert place_after_login("/search?q=a") == "/search?q=a"


async def test_a_cookie_over_tls_only() -> None:
    """Where there is TLS the cookie is never sent without it."""
    response = aiohttp.web.Response()
    Guard(token=TOKEN, tls=True).log_in(response)
    assert response.cookies[COOKIE]["secure"] is True


async def test_a_large_form_is_refused(tmp_path: Path) -> None:
    """Who is not logged in cannot make it read much."""
    async with serving(tmp_path, token=TOKEN) as client, client.post("/login", data={"token": "x" * 10_000}) as answer:
        assert answer.status == 413


async def test_without_a_store_live_and_health_work(tmp_path: Path) -> None:
    """`store: null`: what needs it says so."""
    async with serving(tmp_path, store=False) as client:
        told: dict[str, Any] = {}
        for path in ("/", "/search", "/live", "/health"):
            async with client.get(URL(path)) as answer:
                told[path] = answer.status
        assert {"/": 400, "/search": 400, "/live": 200, "/health": 200} == told
