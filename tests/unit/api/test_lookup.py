from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.unit.api.cases import CLEAR_DELIVERY, END, MESSAGE, NOW_S, Core, line, records_of

from esa_tls.api import lookup as lookup_module
from esa_tls.api.lookup import Answer, CoreLookup, Found, Query, search
from esa_tls.core.batch import Origin


def found(core: Core, query: Query) -> list[Found]:
    """All that `search` finds."""
    return [one for one in search(core.pipeline.boxes, query, now_s=NOW_S) if one is not None]


def opened() -> Core:
    """A core with the open message."""
    core = Core()
    core.feed(MESSAGE)
    return core


# -- what is found ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("by", "value"),
    [
        ("mid", 21),
        ("message_id", "one@example.net"),
        ("message_id", "<one@example.net>"),
        ("recipient", "bob@example.org"),
        ("recipient", " <BOB@EXAMPLE.ORG> "),
    ],
)
def test_an_open_message_is_found_with_its_reception(by: Any, value: int | str) -> None:
    """By MID, Message-ID and recipient, in any writing: the message, open, with the TLS of its reception and why that is believed."""
    (one,) = found(opened(), Query(by=by, value=value))

    own = one.record["cisco_esa"]
    assert one.open
    assert 21 == own["mid"]
    assert ("esa1/0/ICID/11", "success", "line", False) == (
        own["reception"]["connection_id"],
        own["reception"]["tls"]["outcome"],
        own["reception"]["tls"]["evidence"],
        own["reception"]["tls"]["in_clear"],
    )
    assert "pending" == own["recipients"][0]["result"]


def test_what_only_the_end_decides_is_not_said_of_an_open_entry() -> None:
    """An open message or connection has no end, no outcome, no duration and no action."""
    core = opened()

    for query in (Query(by="mid", value=21), Query(by="icid", value=11)):
        (one,) = found(core, query)
        assert one.open
        assert set() == {"end", "duration", "action", "outcome", "type"} & set(one.record["event"])
        assert "end" not in one.record["cisco_esa"].get("message", {}) | one.record["cisco_esa"].get("connection", {})


def test_a_connection_that_is_not_decided_says_pending() -> None:
    """Of an undecided connection nothing is claimed."""
    core = Core()
    core.feed(MESSAGE[:1])

    (one,) = found(core, Query(by="icid", value=11))

    assert {"outcome": "pending"} == one.record["cisco_esa"]["tls"]


def test_delivery_connections() -> None:
    """By DCID: the connection with its messages; the message then shows the attempt."""
    core = opened()
    core.feed(CLEAR_DELIVERY)

    (connection,) = found(core, Query(by="dcid", value=31))
    (message,) = found(core, Query(by="mid", value=21))

    assert ("outbound", [21]) == (connection.record["cisco_esa"]["direction"], connection.record["cisco_esa"]["connection"]["mids"])
    assert "none" == message.record["cisco_esa"]["deliveries"][0]["tls"]["outcome"]
    assert "exposed" == message.record["cisco_esa"]["posture"]


def test_the_tombstone_of_a_connection_says_what_its_record_said() -> None:
    """After its record has left a connection is gone, and what is told of it is that record, but for when it was received."""
    core = Core()
    left = {record["event"]["id"]: record for record in records_of([core.feed(MESSAGE + CLEAR_DELIVERY + END)])}

    for query in (Query(by="icid", value=11), Query(by="dcid", value=31)):
        (one,) = found(core, query)
        record = left[one.record["event"]["id"]]
        assert not one.open
        told = msgspec.json.decode(msgspec.json.encode(one.record))  # tuples are lists in bytes
        del record["event"]["created"], told["event"]["created"]
        assert record == told


def test_the_tombstone_of_a_message_claims_nothing_it_does_not_know() -> None:
    """A message that is gone still knows its legs and their TLS; of its recipients, whom it forgot, nothing is said."""
    core = Core()
    left = {record["event"]["id"]: record for record in records_of([core.feed(MESSAGE + CLEAR_DELIVERY + END)])}

    (one,) = found(core, Query(by="mid", value=21))

    own, was = one.record["cisco_esa"], left[one.record["event"]["id"]]["cisco_esa"]
    assert not one.open
    assert was["reception"] == own["reception"]
    assert "finished" == own["message"]["end"]
    assert [(was["deliveries"][0]["connection_id"], was["deliveries"][0]["tls"])] == [
        (of["connection_id"], of["tls"]) for of in own["deliveries"]
    ]
    assert "encrypted" == own["posture_in"]
    assert "exposed" == was["posture"]
    assert set() == {"posture", "posture_out", "clear", "recipients", "recipient_count"} & set(own)
    assert "result" not in own["deliveries"][0]


@pytest.mark.parametrize(
    "query",
    [
        Query(by="mid", value=22),
        Query(by="mid", value=(1 << 64) - 1),
        Query(by="icid", value=21),
        Query(by="mid", value=21, appliance="esa2"),
        Query(by="mid", value=21, epoch=1),
        Query(by="message_id", value="two@example.net"),
        Query(by="message_id", value="ONE@example.net"),
        Query(by="recipient", value="bob"),
        Query(by="recipient", value="alice@example.net"),
    ],
)
def test_what_does_not_fit_is_not_found(query: Query) -> None:
    """Another number, kind, appliance, epoch or text finds nothing."""
    assert [] == found(opened(), query)


def test_appliances_are_kept_apart() -> None:
    """The same MID on two appliances is two results, and one if the appliance is named."""
    core = Core(appliance_name=None, appliance_from=("fluent_tag",))
    for name in ("esa1", "esa2"):
        core.feed(MESSAGE, origin=Origin(tag=name))

    assert ["esa1", "esa2"] == [one.record["cisco_esa"]["appliance"] for one in found(core, Query(by="mid", value=21))]
    assert ["esa2"] == [one.record["cisco_esa"]["appliance"] for one in found(core, Query(by="mid", value=21, appliance="esa2", epoch=0))]


# -- entries that are only in the state ------------------------------------------------------------------------------------------
def many(count: int, *, cache: int = 10_000) -> Core:
    """A core with so many open messages to the same recipient, of which few are cached."""
    core = Core(cache_entries=cache)
    for begin in range(1, count + 1, 50):
        core.feed(
            [
                one
                for mid in range(begin, min(begin + 50, count + 1))
                for one in (
                    line(f"Start MID {mid} ICID 0"),
                    line(f"MID {mid} ICID 0 RID 0 To: <bob@example.org>"),
                    line(f"MID {mid} Message-ID '<{mid}@example.net>'"),
                )
            ]
        )
    return core


@pytest.mark.parametrize(("by", "value"), [("message_id", "7@example.net"), ("mid", 7)])
def test_messages_that_are_only_in_the_state_are_found(by: Any, value: int | str) -> None:
    """An entry that is not in memory is read from the state."""
    core = many(1_000, cache=10)
    assert 7 not in core.pipeline.boxes["esa1"].correlator.entries.messages

    assert [7] == [one.record["cisco_esa"]["mid"] for one in found(core, Query(by=by, value=value))]


def test_the_newest_come_first() -> None:
    """Cached messages come in the reverse of their order, each once, the others after them."""
    core = many(600, cache=10)
    mids = [one.record["cisco_esa"]["mid"] for one in found(core, Query(by="recipient", value="bob@example.org"))]

    assert 600 == mids[0]
    assert sorted(mids) == list(range(1, 601))


def test_a_search_pauses() -> None:
    """Between finds the event loop gets its turn, also when nothing is found."""
    steps = list(search(many(1_000).pipeline.boxes, Query(by="message_id", value="x@y"), now_s=NOW_S))

    assert steps
    assert set(steps) == {None}


async def test_the_limit_ends_a_search() -> None:
    """At most so many results, and it says that there may be more."""
    lookup = CoreLookup(many(50).pipeline.boxes)

    full = await lookup.lookup(Query(by="recipient", value="bob@example.org", limit=50))
    cut = await lookup.lookup(Query(by="recipient", value="bob@example.org", limit=49))

    assert (50, False) == (len(full.found), full.incomplete)
    assert (49, True) == (len(cut.found), cut.incomplete)


async def test_a_search_that_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time a search tells what it has, and that there may be more; no event loop is held by it."""
    monkeypatch.setattr(lookup_module, "MAX_SCAN_S", 0.0)

    answer = await CoreLookup(many(1_000).pipeline.boxes).lookup(Query(by="message_id", value="1@example.net"))

    assert Answer([], incomplete=True) == answer


def test_an_entry_deleted_during_a_search_is_not_shown() -> None:
    """What is deleted after the search has begun, and before it is reached, is not found."""
    core = many(1_000, cache=10)
    entries = core.pipeline.boxes["esa1"].correlator.entries
    steps = search(core.pipeline.boxes, Query(by="message_id", value="7@example.net"), now_s=NOW_S)
    assert None is next(steps)

    entries.delete("M", 7)

    assert {None} == set(steps)


def test_looking_changes_nothing() -> None:
    """A look-up leaves nothing to be written."""
    core = opened()
    core.feed([])

    found(core, Query(by="mid", value=21))
    found(core, Query(by="icid", value=11))

    assert [] == core.sealed().puts


def test_an_epoch_that_ends_during_a_search_ends_its_results() -> None:
    """Entries of an epoch that has ended meanwhile are not shown."""
    core = many(1_000, cache=10)
    steps: Iterator[Found | None] = search(core.pipeline.boxes, Query(by="recipient", value="bob@example.org"), now_s=NOW_S)
    assert next(steps)

    core.pipeline.boxes["esa1"].correlator.begin_epoch(int(time.time()))

    assert {None} >= set(steps)
