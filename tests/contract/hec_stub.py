"""Splunk's HTTP Event Collector as its documentation describes it: there was no real one to test against.

Tokens and channels are checked, events parsed one behind the other, faults answered with the documented codes, and ids of acknowledgements
given out, asked for, and forgotten once they were told. What the stub took is in `events`; an id becomes true when `indexed` says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.contract.http_receiver import HttpReceiver, Posted, Reply

TOKEN = "11111111-2222-3333-4444-555555555555"

Event = dict[str, Any]


class HecStub:
    """Answers for an `HttpReceiver`: `HttpReceiver(stub.answer)`. `before`: asked first, and answered instead if it gives a reply."""

    def __init__(
        self,
        *,
        acks: bool = True,
        token: str = TOKEN,
        indexes: tuple[str, ...] = ("main",),
        max_bytes: int = 1_000_000,
        before: Callable[[Posted], Reply | None] = lambda _: None,
        bad: Callable[[Event], bool] = lambda _: False,
    ) -> None:
        self.acks = acks
        self.events: list[Event] = []
        self.requests: list[list[Event]] = []
        """Events by request that was taken."""
        self.asked: list[list[int]] = []
        self.before = before
        self.indexed: Callable[[int], bool] = lambda _: True
        """Whether the events under an id are on the indexers' disks."""
        self._token = token
        self._indexes = indexes
        self._max_bytes = max_bytes
        self._bad = bad
        self._channels: dict[str, set[int]] = {}
        self._next: dict[str, int] = {}

    def answer(self, posted: Posted) -> Reply:
        """The answer to a request."""
        instead = self.before(posted)
        if instead is not None:
            return instead
        authorization = posted.headers.get("authorization")
        if authorization is None:
            return told(401, 2, "Token is required")
        if not authorization.startswith("Splunk "):
            return told(401, 3, "Invalid authorization")
        if authorization != f"Splunk {self._token}":
            return told(403, 4, "Invalid token")
        if posted.path == "/services/collector/ack":
            return self._ack(posted)
        if posted.path != "/services/collector/event":
            return Reply(404, b"<html>not found</html>")
        return self._event(posted)

    def _event(self, posted: Posted) -> Reply:
        channel = posted.headers.get("x-splunk-request-channel", "")
        if self.acks and not channel:
            return told(400, 10, "Data channel is missing")
        if len(posted.body) > self._max_bytes:
            return told(413, 27, "Request entity too large")
        if not posted.body:
            return told(400, 5, "No data")
        taken: list[Event] = []
        for number, event in enumerate(events_in(posted.body)):
            if "event" not in event:
                return self._stopped(taken, 12, "Event field is required", number)
            if event["event"] == "":
                return self._stopped(taken, 13, "Event field cannot be blank", number)
            if event.get("index", "main") not in self._indexes:
                return self._stopped(taken, 7, "Incorrect index", number + 1)
            if self._bad(event):
                return self._stopped(taken, 6, "Invalid data format", number)
            taken.append(event)
        self.events += taken
        self.requests.append(taken)
        if not self.acks:
            return told(200, 0, "Success")
        ack_id = self._next.get(channel, 0)
        self._next[channel] = ack_id + 1
        self._channels.setdefault(channel, set()).add(ack_id)
        return told(200, 0, "Success", ackId=ack_id)

    def _stopped(self, taken: list[Event], code: int, text: str, number: int) -> Reply:
        """What stood before the event at fault is in."""
        self.events += taken
        return told(400, code, text, **{"invalid-event-number": number})

    def _ack(self, posted: Posted) -> Reply:
        if not self.acks:
            return told(400, 14, "ACK is disabled")
        channel = posted.query.get("channel", "")
        assert channel == posted.headers["x-splunk-request-channel"]
        if channel not in self._channels:
            return told(400, 11, "Invalid data channel")
        wanted: list[int] = json.loads(posted.body)["acks"]
        self.asked.append(wanted)
        known = self._channels[channel]
        answers = {ack_id: ack_id in known and self.indexed(ack_id) for ack_id in wanted}
        known -= {ack_id for ack_id, indexed in answers.items() if indexed}
        return Reply(200, json.dumps({"acks": {str(ack_id): indexed for ack_id, indexed in answers.items()}}).encode())

    def forget(self) -> None:
        """As after a restart of the server: no channel is known, and ids begin anew."""
        self._channels.clear()
        self._next.clear()


def told(status: int, code: int, text: str, **more: Any) -> Reply:
    """An answer in the collector's form."""
    return Reply(status, json.dumps({"text": text, "code": code, **more}).encode(), {"Content-Type": "application/json"})


def events_in(body: bytes) -> list[Event]:
    """JSON objects one behind the other, with or without white space between."""
    text, at = body.decode(), 0
    decoder = json.JSONDecoder()
    found: list[Event] = []
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        event, at = decoder.raw_decode(text, at)
        found.append(event)
    return found


def hec(*, tls: Any = None, **options: Any) -> tuple[HecStub, HttpReceiver]:
    """A stub and the server that it answers for."""
    stub = HecStub(**options)
    return stub, HttpReceiver(stub.answer, tls=tls)
