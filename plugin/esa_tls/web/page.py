"""The page: views for people, made on the server. Live aside, none needs a script.

Rules of this file:

1. Every text that came from outside goes through a template, which escapes; control characters and direction marks are written out.
2. A view never fails for what the store cannot answer now: it says so, with what there is.
3. Everything is read at the request; only what the store counted is kept for `KEEP_S`, as every chart of a view asks for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from esa_tls.charts import render
from esa_tls.charts.specs import Theme
from esa_tls.errors import ChartsMissing, StoreError
from esa_tls.offline.audit import breaches_csv, partners_csv
from esa_tls.store.answers import Filter, Hit, Overview, Page, StoreStatus
from esa_tls.store.query import StoreReader
from esa_tls.web import asked, figures, state, telling
from esa_tls.web.asked import NotUnderstood
from esa_tls.web.compliance import MAX_DOWNLOAD_S, audited
from esa_tls.web.drawing import Drawer
from esa_tls.web.guard import Guard, place_after_login
from esa_tls.web.listing import row_of
from esa_tls.web.live import stream
from esa_tls.web.rendering import Templates
from esa_tls.web.state import Sidecar

__all__ = ["WebPage"]

KEEP_S: Final = 5.0
MAX_OVERVIEWS: Final = 8
HITS: Final = 50
NEWEST: Final = 10
RECENT: Final = 20
TOP: Final = 10
BREACHES: Final = 200
CHART_AGE_S: Final = 60
MAX_FORM_BYTES: Final = 8_192
STATIC: Final = Path(__file__).with_name("static")
TYPES: Final = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
SVG_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebPage:
    """The views on one sidecar, behind a guard. `add_to` puts its routes on an application."""

    def __init__(self, sidecar: Sidecar, guard: Guard, *, drawer: Drawer | None = None, now_s: Callable[[], float] = time.time) -> None:
        self._sidecar = sidecar
        self._guard = guard
        self._drawer = drawer or Drawer()
        self._now_s = now_s
        self._templates = Templates(version=sidecar.version, log_out=guard.wants_token)
        self._overviews: dict[tuple[object, ...], tuple[float, Overview]] = {}
        self._static = {name: (STATIC / name).read_bytes() for name in TYPES}

    def add_to(self, app: web.Application) -> None:
        """Put every view on an application."""
        views: dict[str, Handler] = {
            "/": self._overview,
            "/search": self._search,
            "/message": self._message,
            "/connection": self._connection,
            "/compliance": self._compliance,
            "/live": self._live,
            "/health": self._health,
        }
        for path, view in views.items():
            app.router.add_get(path, self._shown(view))
        plain: dict[str, Handler] = {
            "/chart/{name}.svg": self._chart,
            "/compliance/{table}.csv": self._compliance_table,
            "/live/events": self._events,
            "/static/{name}": self._file,
            "/login": self._login_form,
        }
        for path, handler in plain.items():
            app.router.add_get(path, self._guard.guarded(handler, refused=self._refused), allow_head=path != "/live/events")
        for path, handler in (("/login", self._login), ("/logout", self._logout)):
            app.router.add_post(path, self._guard.guarded(handler, refused=self._refused))

    async def close(self) -> None:
        """End open pages and the drawing process."""
        self._sidecar.live.close()
        await self._drawer.close()

    # -- around every view ---------------------------------------------------------------------------------------------------------

    def _shown(self, view: Handler) -> Handler:
        """A view that tells in words what went wrong."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await view(request)
            except NotUnderstood as error:
                return self._trouble(request, HTTPStatus.BAD_REQUEST, "That cannot be shown", str(error))
            except StoreError as error:
                return self._trouble(request, HTTPStatus.SERVICE_UNAVAILABLE, "The store cannot answer now", f"{error}. Try again soon.")

        return self._guard.guarded(handle, refused=self._refused)

    def _trouble(self, request: web.Request, status: HTTPStatus, title: str, text: str) -> web.Response:
        return self._html(request, "trouble", status, title=title, text=text)

    def _html(self, request: web.Request, template: str, status: HTTPStatus = HTTPStatus.OK, /, **values: object) -> web.Response:
        text = self._templates.render(template, {"path": request.path, "asked": request.query.get("q", ""), **values})
        return web.Response(status=status, text=text, content_type="text/html")

    def _refused(self, request: web.Request) -> web.Response:
        """The login form; programs get a plain answer."""
        if request.method not in ("GET", "HEAD") or "text/html" not in request.headers.get("Accept", "text/html"):
            return web.Response(status=HTTPStatus.UNAUTHORIZED, headers={"WWW-Authenticate": "Bearer"})
        return self._html(request, "login", HTTPStatus.UNAUTHORIZED, wanted=request.path_qs, failed=False)

    def _store(self) -> StoreReader:
        if self._sidecar.store is None:
            raise NotUnderstood("This sidecar keeps no records of its own: `store` is null in its configuration. Live and Health work.")
        return self._sidecar.store

    # -- Overview --------------------------------------------------------------------------------------------------------------------

    async def _overview(self, request: web.Request) -> web.Response:
        store = self._store()
        query = request.query
        status = await store.status()
        period = asked.period_of(query, status.newest_s, self._now_s())
        overview = await self._counted(request, status)
        appliances = _appliances(request)
        in_clear: list[Hit] = []
        trouble = ""
        try:
            wanted = Filter(
                kinds=frozenset({"message"}),
                in_clear=True,
                since_s=period.since_s,
                until_s=period.until_s,
                appliances=appliances,
            )
            in_clear = (await store.search(wanted, limit=NEWEST)).hits
        except StoreError as error:
            trouble = str(error)
        rankings = []
        for which, title, unit, direction in (
            ("clear_out_domains", "Delivered in clear text, by recipient's domain", "recipients", "outbound"),
            ("clear_in_domains", "Received in clear text, by sender's domain", "messages", "inbound"),
        ):
            ranked = await store.top(which, since_s=period.since_s, until_s=period.until_s, limit=TOP, appliances=appliances)  # type: ignore[arg-type]
            kind = "delivery" if direction == "outbound" else "message"
            links = [
                asked.link("/search", None, q=one.name, kind=kind, clear="yes", **_bounds(period))
                if one.name and "(" not in one.name
                else ""
                for one in ranked
            ]
            rankings.append(figures.ranking(which, title, unit, ranked, links))
        clear, total = figures.exposed(overview)
        return self._html(
            request,
            "overview",
            period=period,
            spans=[(name, words, asked.link("/", query, last=name, since=None, until=None)) for name, (words, _) in asked.SPANS.items()],
            since=asked.text_of_time(period.since_s) if period.since_s is not None else "",
            until=asked.text_of_time(period.until_s) if period.until_s is not None else "",
            appliances=[one.name for one in await store.appliances()],
            appliance=query.get("appliance", ""),
            shares=figures.shares(overview),
            exposed=clear,
            recipients=total,
            clear_link=asked.link("/search", None, clear="yes", kind="delivery", **_bounds(period)),
            figures=figures.figures(overview),
            chart_query=asked.link("", query)[1:],
            can_draw=render.is_available(),
            rankings=rankings,
            rows=[row_of(hit.record) for hit in in_clear],
            trouble=trouble,
            status=status,
            gaps=[gap for gap in status.gaps if _within(gap.since_s, gap.until_s, period)],
        )

    async def _counted(self, request: web.Request, status: StoreStatus) -> Overview:
        """What the store counted in the period asked for; the same for `KEEP_S`."""
        period = asked.period_of(request.query, status.newest_s, self._now_s())
        appliances = _appliances(request)
        key = (period.since_s, period.until_s, appliances)
        now_s = time.monotonic()
        if (kept := self._overviews.get(key)) is not None and now_s - kept[0] < KEEP_S:
            return kept[1]
        overview = await self._store().overview(
            since_s=period.since_s, until_s=period.until_s, step_s=asked.step_of(period), appliances=appliances
        )
        self._overviews[key] = (now_s, overview)
        while len(self._overviews) > MAX_OVERVIEWS:
            del self._overviews[next(iter(self._overviews))]
        return overview

    async def _chart(self, request: web.Request) -> web.Response:
        theme: Theme = "dark" if request.query.get("theme") == "dark" else "light"
        try:
            overview = await self._counted(request, await self._store().status())
            figure = next((one for one in figures.figures(overview) if one.name == request.match_info["name"]), None)
            if figure is None or figure.spec is None:
                return web.Response(status=HTTPStatus.NOT_FOUND)
            width = figure.widths[request.query.get("size") == "s"]
            drawn = await self._drawer.svg(figure.spec(theme, width))
        except NotUnderstood:
            return web.Response(status=HTTPStatus.BAD_REQUEST)
        except (StoreError, ChartsMissing) as error:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=f"{error}\n")
        headers = {"Content-Security-Policy": SVG_POLICY, "Cache-Control": f"private, max-age={CHART_AGE_S}"}
        return web.Response(body=drawn, content_type="image/svg+xml", headers=headers)

    # -- Search ----------------------------------------------------------------------------------------------------------------------

    async def _search(self, request: web.Request) -> web.Response:
        query = request.query
        wanted = asked.filter_of(query)
        store = self._store()
        page = Page()
        if asked.is_asked(query):
            try:
                page = await store.search(wanted, limit=HITS, after=query.get("after") or None)
            except ValueError as error:
                raise NotUnderstood("The address names a page that there is not; search anew.") from error
        appliances = [one.name for one in await store.appliances()]
        return self._html(
            request,
            "search",
            query=query,
            choices=asked.CHOICES,
            appliances=appliances,
            more_filters=any(query.get(name) for name in (*asked.CHOICES, "since", "until", "appliance")),
            searched=asked.is_asked(query),
            rows=[row_of(hit.record) for hit in page.hits],
            understood=asked.joined([UNDERSTOOD.get(one, one) for one in page.understood]),
            incomplete=page.incomplete,
            next=asked.link("/search", query, after=page.next) if page.next else "",
            first=asked.link("/search", query, after=None) if query.get("after") else "",
        )

    # -- Compliance ------------------------------------------------------------------------------------------------------------------

    async def _compliance(self, request: web.Request) -> web.Response:
        store = self._store()
        query = request.query
        period = asked.period_of(query, (await store.status()).newest_s, self._now_s())
        found = await audited(store, since_s=period.since_s, until_s=period.until_s, appliances=_appliances(request))
        breaches = sorted(found.audit.breaches, key=lambda one: one.time, reverse=True)[:BREACHES]
        return self._html(
            request,
            "compliance",
            period=period,
            spans=[
                (name, words, asked.link("/compliance", query, last=name, since=None, until=None))
                for name, (words, _) in asked.SPANS.items()
            ],
            since=asked.text_of_time(period.since_s) if period.since_s is not None else "",
            until=asked.text_of_time(period.until_s) if period.until_s is not None else "",
            appliances=[one.name for one in await store.appliances()],
            appliance=query.get("appliance", ""),
            complete=found.complete,
            records=found.records,
            partners=found.audit.rows(),
            breaches=[
                (one, asked.link("/message", None, id=one.message), figures.EVIDENCE_SHORT.get(one.evidence, one.evidence))
                for one in breaches
            ],
            breach_count=len(found.audit.breaches) + found.audit.more_breaches,
            partners_link=asked.link("/compliance/partners.csv", query),
            exceptions_link=asked.link("/compliance/exceptions.csv", query),
        )

    async def _compliance_table(self, request: web.Request) -> web.Response:
        """A table as a file; `Content-Disposition` says when it is not whole."""
        make = {"partners": lambda audit: partners_csv(audit.rows()), "exceptions": lambda audit: breaches_csv(audit.breaches)}
        name = request.match_info["table"]
        if name not in make:
            raise web.HTTPNotFound
        store = self._store()
        period = asked.period_of(request.query, (await store.status()).newest_s, self._now_s())
        found = await audited(
            store, since_s=period.since_s, until_s=period.until_s, appliances=_appliances(request), within_s=MAX_DOWNLOAD_S
        )
        file_name = f"{name}{'' if found.complete else '-incomplete'}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{file_name}"'}
        return web.Response(text=make[name](found.audit), content_type="text/csv", charset="utf-8", headers=headers)

    # -- stories ---------------------------------------------------------------------------------------------------------------------

    async def _message(self, request: web.Request) -> web.Response:
        wanted = request.query.get("id", "")
        match = telling.MESSAGE_ID.fullmatch(wanted)
        if match is None or int(match[3]) > MAX_ID:
            raise NotUnderstood("The address names no message. It looks like /message?id=esa1/0/MID/90.")
        found = await self._store().message(match[1], int(match[2]), int(match[3]))
        if found is None:
            return self._trouble(request, HTTPStatus.NOT_FOUND, f"MID {match[3]} is not here", _NOT_KEPT)
        story = telling.message_story(found, self._sidecar.zone(found.appliance))
        family = [("came from", record) for record in found.parents] + [("went on as", record) for record in found.children]
        own = (found.message or {}).get("cisco_esa", {})
        icid = own.get("reception", {}).get("icid")
        links = [(f"ICID {icid}", asked.connection_link(f"{found.appliance}/{found.epoch}/ICID/{icid}"))] if icid else []
        dcids = dict.fromkeys(record["cisco_esa"]["dcid"] for record in found.deliveries if "dcid" in record["cisco_esa"])
        links += [(f"DCID {dcid}", asked.connection_link(f"{found.appliance}/{found.epoch}/DCID/{dcid}")) for dcid in dcids]
        return self._story(
            request,
            found,
            story=story,
            kind="Message",
            open=found.message is None,
            row=None if found.message is None else row_of(found.message),
            record=found.message,
            family=[(words, row_of(record)) for words, record in family],
            links=links,
            rows=[],
        )

    async def _connection(self, request: web.Request) -> web.Response:
        wanted = request.query.get("id", "")
        match = telling.CONNECTION_ID.fullmatch(wanted)
        if match is None or int(match[4]) > MAX_ID:
            raise NotUnderstood("The address names no connection. It looks like /connection?id=esa1/0/ICID/7.")
        found = await self._store().connection(wanted)
        if found is None:
            return self._trouble(request, HTTPStatus.NOT_FOUND, f"{match[3]} {match[4]} is not here", _NOT_KEPT)
        mails = found.deliveries if match[3] == "DCID" else found.messages
        return self._story(
            request,
            found,
            story=telling.connection_story(found, self._sidecar.zone(match[1])),
            kind="Connection",
            open=found.connection is None,
            row=None if found.connection is None else row_of(found.connection),
            record=found.connection,
            family=[],
            links=[],
            rows=[row_of(record) for record in mails],
            more=found.more,
        )

    def _story(self, request: web.Request, found: Any, **values: object) -> web.Response:  # noqa: ANN401 (either story)
        records = [msgspec.json.format(msgspec.json.encode(values["record"]), indent=2).decode()] if values["record"] else []
        lines = [(line.text, line.action, line.connection or (f"MID/{line.mid}" if line.mid is not None else "")) for line in found.lines]
        return self._html(
            request,
            "story",
            lines=lines,
            lines_kept=found.lines_kept,
            more_lines=found.more_lines,
            json=records,
            **{"more": False, **values},
        )

    # -- Live ------------------------------------------------------------------------------------------------------------------------

    async def _live(self, request: web.Request) -> web.Response:
        query = request.query
        wanted = _live_filter(request)
        page = Page()
        if self._sidecar.store is not None:
            recent = msgspec.structs.replace(wanted, kinds=wanted.kinds or frozenset({"delivery"}))
            with suppress(StoreError):  # what comes is shown all the same
                page = await self._sidecar.store.search(recent, limit=RECENT)
        return self._html(
            request,
            "live",
            query=query,
            choices={name: asked.CHOICES[name] for name in LIVE_CHOICES},
            rows=[row_of(hit.record) for hit in page.hits],
            stream=asked.link("/live/events", query),
            has_store=self._sidecar.store is not None,
        )

    async def _events(self, request: web.Request) -> web.StreamResponse:
        try:
            wanted = _live_filter(request)
        except NotUnderstood as error:
            return web.Response(status=HTTPStatus.BAD_REQUEST, text=f"{error}\n")
        viewer = self._sidecar.live.open(lambda record: _passes(wanted, record))
        if viewer is None:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="Too many pages are open.\n", headers={"Retry-After": "30"})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        try:
            await response.prepare(request)
            await stream(viewer, response.write)
        except ConnectionError:
            pass  # the page is gone
        finally:
            self._sidecar.live.forget(viewer)
        return response

    # -- Health ----------------------------------------------------------------------------------------------------------------------

    async def _health(self, request: web.Request) -> web.Response:
        sidecar = self._sidecar
        status: StoreStatus | None = None
        trouble = ""
        if sidecar.store is not None:
            try:
                status = await sidecar.store.status()
            except StoreError as error:
                trouble = str(error)
        letters = await asyncio.to_thread(sidecar.dead_letters, state.MAX_LETTERS)
        return self._html(
            request,
            "health",
            reasons=list(sidecar.reasons_not_ready()),
            sources=state.sources(sidecar),
            sinks=state.sinks(sidecar),
            appliances=state.appliances(sidecar),
            core=state.core(sidecar),
            shapes=state.shapes(sidecar),
            journal=await asyncio.to_thread(sidecar.journal),
            letters=state.letters(letters),
            store=status,
            has_store=sidecar.store is not None,
            trouble=trouble,
            bytes_words=state.bytes_words,
            time_words=lambda time_s: "" if time_s is None else asked.text_of_time(time_s).replace("T", " "),
        )

    # -- the rest --------------------------------------------------------------------------------------------------------------------

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in TYPES:
            return web.Response(status=HTTPStatus.NOT_FOUND)
        return web.Response(
            body=self._static[name], content_type=TYPES[name], charset="utf-8", headers={"Cache-Control": "private, max-age=300"}
        )

    async def _login_form(self, request: web.Request) -> web.Response:
        if not self._guard.wants_token or self._guard.admits(request):
            return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/"})
        return self._html(request, "login", wanted=place_after_login(request.query.get("next", "/")), failed=False)

    async def _login(self, request: web.Request) -> web.Response:
        if (request.content_length or 0) > MAX_FORM_BYTES:
            return web.Response(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        form = await request.post()
        token, wanted = form.get("token", ""), place_after_login(str(form.get("next", "/")))
        if not isinstance(token, str) or not self._guard.is_token(token.strip()):
            return self._html(request, "login", HTTPStatus.UNAUTHORIZED, wanted=wanted, failed=True)
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": wanted})
        self._guard.log_in(response)
        return response

    async def _logout(self, request: web.Request) -> web.Response:
        del request
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/login"})
        self._guard.log_out(response)
        return response


MAX_ID: Final = 2**63 - 1
_NOT_KEPT: Final = "Nothing of it is kept here: it has not been seen, has not left a record yet, or was removed for its age or size."
LIVE_CHOICES: Final = ("kind", "outcome", "direction")
UNDERSTOOD: Final = {
    "mid": "a MID",
    "icid": "an ICID",
    "dcid": "a DCID",
    "message_id": "a Message-ID",
    "sender": "a sender",
    "recipient": "a recipient",
    "domain": "a domain or host name",
    "ip": "an IP address",
    "record": "the id of a record",
}


def _appliances(request: web.Request) -> frozenset[str]:
    return frozenset(one for one in request.query.getall("appliance", []) if one)


def _bounds(period: asked.Period) -> dict[str, str]:
    bounds = {"since": period.since_s, "until": period.until_s}
    return {name: asked.text_of_time(time_s) for name, time_s in bounds.items() if time_s is not None}


def _within(since_s: int, until_s: int, period: asked.Period) -> bool:
    return (period.until_s is None or since_s < period.until_s) and (period.since_s is None or until_s >= period.since_s)


def _live_filter(request: web.Request) -> Filter:
    wanted = asked.filter_of(request.query)
    return Filter(kinds=wanted.kinds, outcomes=wanted.outcomes, directions=wanted.directions)


def _passes(wanted: Filter, record: dict[str, Any]) -> bool:
    own = record["cisco_esa"]
    if own["record"] not in (wanted.kinds or {"delivery"}):
        return False
    direction = own.get("direction", "inbound" if own["record"] == "message" else "")
    tls = own.get("tls") or own.get("reception", {}).get("tls", {})
    return (not wanted.directions or direction in wanted.directions) and (not wanted.outcomes or tls.get("outcome") in wanted.outcomes)
