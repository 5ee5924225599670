"""Who may look at the page, and what a browser may do with it.

Rules of this file:

1. The name in `Host` has to be an IP address, `localhost` or one that is configured: another site's name that was made to point at this
   address (DNS rebinding) is refused before anything is looked at.
2. With a token, everything but the login form and the styles wants it: as `Authorization: Bearer TOKEN`, or as the cookie that the form
   sets. The cookie is an expiry time and its HMAC under a key that is made of the token: nothing is kept here, and a new token ends all.
3. Every answer carries a Content-Security-Policy without inline script or style and without any other origin; no frame may hold it.
4. Tokens and signatures are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import Final

from aiohttp import web

COOKIE: Final = "esa_tls_page"
SESSION_S: Final = 12 * 3600
"""A login is good so long."""

OPEN_PATHS: Final = frozenset({"/login", "/static/page.css", "/static/page.js", "/static/icon.svg"})
"""What is to be had without the token."""

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On every answer of the page."""

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@\s]+)(?::[0-9]{1,5})?")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """Lets requests through to the page or turns them away. `token`: None if none is wanted; `tls`: cookies are sent over TLS only."""

    def __init__(
        self, *, token: str | None, names: Collection[str] = (), tls: bool = False, now_s: Callable[[], float] = time.time
    ) -> None:
        self._token = None if token is None else token.encode()
        self._key = hashlib.sha256(b"esa-tls page cookie\0" + (self._token or b"")).digest()
        self._names = {name.lower() for name in names} | {"localhost"}
        self._tls = tls
        self._now_s = now_s

    @property
    def wants_token(self) -> bool:
        """Whether there is anything to log in with."""
        return self._token is not None

    def host_fits(self, host: str) -> bool:
        """Whether `Host` names this page: an address, or a known name."""
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].lower().rstrip(".")
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name in self._names
        return True

    def admits(self, request: web.Request) -> bool:
        """Whether the request carries the token or a login's cookie."""
        if self._token is None:
            return True
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        expiry, _, signature = request.cookies.get(COOKIE, "").partition(".")
        if not expiry.isascii() or not expiry.isdecimal() or len(expiry) > 12 or int(expiry) < self._now_s():
            return False
        return hmac.compare_digest(signature.encode("utf-8", "surrogateescape"), self._signature(expiry).encode())

    def is_token(self, given: str) -> bool:
        """Whether this is the token."""
        return self._token is not None and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)

    def log_in(self, response: web.Response) -> None:
        """Set the cookie of a login."""
        expiry = str(int(self._now_s()) + SESSION_S)
        response.set_cookie(
            COOKIE, f"{expiry}.{self._signature(expiry)}", max_age=SESSION_S, path="/", httponly=True, samesite="Strict", secure=self._tls
        )

    def log_out(self, response: web.Response) -> None:
        """Take the cookie away."""
        response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict", secure=self._tls)

    def _signature(self, expiry: str) -> str:
        return hmac.new(self._key, expiry.encode(), hashlib.sha256).hexdigest()

    def guarded(self, handler: Handler, *, refused: Callable[[web.Request], web.Response]) -> Handler:
        """`handler` behind this guard. `refused`: the answer to who has to log in first."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if not self.host_fits(request.headers.get("Host", "")):
                response: web.StreamResponse = web.Response(
                    status=HTTPStatus.MISDIRECTED_REQUEST,
                    text="This page is not known by that name. Name it under web.names of the configuration, or use its address.\n",
                )
            elif request.path not in OPEN_PATHS and not self.admits(request):
                response = refused(request)
            else:
                response = await handler(request)
            if not response.prepared:
                protect(response)
            return response

        return handle


def protect(response: web.StreamResponse) -> None:
    """Put the headers of the page on an answer that is still to be sent; what it has already stays."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"


def place_after_login(wanted: str) -> str:
    """Where to go after a login: a path of this page, never another site."""
    fits = wanted.startswith("/") and not wanted.startswith("//") and "\\" not in wanted and wanted.isprintable() and len(wanted) <= 2_000
    return wanted if fits else "/"
