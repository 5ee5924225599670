"""runtime/dispatch.py with a selection: what a sink does not get is never seen by it, and never in the way."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from tests.contract.delivery_fakes import FakeOutbox, Ledger, dispatcher, run_dry
from tests.unit.runtime.test_dispatch import FakeSink, failing
from tests.unit.wire.selection_cases import ENCODINGS, KEY, bytes_of, mail_rows, records_of

from esa_tls.core.batch import Row
from esa_tls.errors import PermanentError, TransientError
from esa_tls.runtime.dispatch import Cursor, RecordsRejected, Rejection, Rows
from esa_tls.telemetry import SINK_DEAD_LETTERED, SINK_FILTERED, SINK_SENT, Counters
from esa_tls.wire.privacy import Privacy
from esa_tls.wire.pseudonyms import Pseudonyms
from esa_tls.wire.selection import Selected, Selection, Where

KINDS = frozenset({"line", "connection", "delivery", "message"})


def outbox_of(encoding: str) -> FakeOutbox:
    """The rows of one message."""
    outbox = FakeOutbox()
    for _, row in mail_rows():
        if row.encoding == encoding:
            outbox.add(row)
    return outbox


class Keeping(FakeSink):
    """Keeps what it gets, whatever the records are."""

    async def send(self, rows: Rows) -> None:
        self.sends.append(rows)
        self.answer(rows)
        self.arrived.set()


PRIVATE = Selection(privacy=Privacy(Pseudonyms({1: KEY})))
IN_CLEAR = Selection(where=Where(in_clear=frozenset({True})))
NOTHING = Selection(where=Where(appliances=frozenset({"another"})))


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_sink_gets_what_was_selected(encoding: str) -> None:
    """Rows reach the sink filtered and with pseudonyms; what did not pass is counted by kind; the cursor passes all."""
    outbox, ledger, counters = outbox_of(encoding), Ledger(), Counters()
    sink = Keeping(encoding=encoding, kinds=KINDS)
    one = Selection(where=Where(in_clear=frozenset({True})), privacy=Privacy(Pseudonyms({1: KEY})))
    await run_dry(dispatcher(sink, outbox, ledger, selection=one, counters=counters))
    sent = [row for rows in sink.sends for row in rows]
    assert {record["cisco_esa"]["record"] for record in records_of(sent, encoding)} == {"delivery", "message"}
    assert b"anna" not in bytes_of(sent, encoding)
    assert counters.value(SINK_SENT, sink="fake", kind="delivery") == 1
    filtered = {kind: counters.value(SINK_FILTERED, sink="fake", kind=kind) for kind in KINDS}
    assert filtered == {kind: len(records_of(mail_rows(), encoding, kind)) - len(records_of(sent, encoding, kind)) for kind in KINDS}
    cursor = ledger.cursor("fake")
    assert cursor is not None
    assert msgspec.msgpack.decode(cursor, type=Cursor).sequence == outbox.tail()


async def test_nothing_left_moves_the_cursor_without_a_send() -> None:
    """A sink whose filter lets nothing pass is up to date, and is not asked."""
    outbox, ledger = outbox_of("json"), Ledger()
    sink = Keeping(kinds=KINDS)
    one = dispatcher(sink, outbox, ledger, selection=NOTHING)
    await run_dry(one)
    assert sink.sends == []
    assert one.status().sequence == outbox.tail()
    assert one.oldest_unsent_age_s() == 0


async def test_without_a_selection_rows_are_handed_on_as_they_are() -> None:
    """The very same objects: nothing is read, nothing copied."""
    outbox = outbox_of("json")
    sink = Keeping(kinds=KINDS)
    await run_dry(dispatcher(sink, outbox, Ledger(), selection=None))
    assert all(one is other for rows in sink.sends for (_, one), (_, other) in zip(rows, outbox.rows, strict=True))


async def test_kinds_that_are_not_wanted_are_not_read() -> None:
    """A broken record of a kind that the sink does not want is nobody's business."""
    outbox, ledger = FakeOutbox(), Ledger()
    outbox.add(Row("summary", "json", [("message", 1, b"{broken\n")]))
    await run_dry(dispatcher(Keeping(kinds=frozenset({"connection"})), outbox, ledger, selection=PRIVATE))
    assert ledger.letters == []


async def test_the_same_bytes_are_tried_again() -> None:
    """After a transient failure the sink sees the rows that it saw before."""
    outbox = outbox_of("forward")
    sink = Keeping(encoding="forward", kinds=KINDS, answer=failing(TransientError("one"), TransientError("two")))
    await run_dry(dispatcher(sink, outbox, Ledger(), selection=PRIVATE))
    first, second, third = sink.sends
    assert first is second is third


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_rejection_names_a_record_of_what_was_selected(encoding: str) -> None:
    """Its place counts in the rows the sink got, and the letter holds what the sink got: filtered, and with pseudonyms."""
    outbox, ledger, counters = outbox_of(encoding), Ledger(), Counters()

    def reject_the_last_line(rows: Rows) -> None:
        (at, (_, row)) = next((at, one) for at, one in enumerate(rows) if one[1].cls == "line")
        raise RecordsRejected("no", [Rejection(at, 0, row.segments[0][1] - 1, "mapping", "no")])

    sink = Keeping(encoding=encoding, kinds=frozenset({"line"}), cls_wanted=("line",), answer=reject_the_last_line)
    one = Selection(where=Where(directions=frozenset({"outbound"})), privacy=Privacy(Pseudonyms({1: KEY})))
    await run_dry(dispatcher(sink, outbox, ledger, selection=one, counters=counters))
    [sent] = sink.sends
    [letter] = ledger.letters
    [record] = records_of([(1, Row("line", encoding, [("line", 1, letter.payload)]))], encoding)
    last = max(records_of(sent, encoding), key=lambda record: int(record["event"]["sequence"]))
    assert record == last
    assert record["cisco_esa"]["direction"] == "outbound"
    assert (letter.origin, letter.kind, letter.encoding, letter.reason) == ("sink:fake", "line", encoding, "mapping: no")


async def test_a_batch_refused_as_a_whole_is_halved_and_its_letters_are_selected() -> None:
    """Also what is narrowed down by halving is what the sink would have got."""
    outbox, ledger = outbox_of("json"), Ledger()

    def refuse_messages(rows: Rows) -> None:
        if any(kind == "message" for _, row in rows for kind, _, _ in row.segments):
            raise PermanentError("no messages here")

    await run_dry(dispatcher(Keeping(kinds=KINDS, answer=refuse_messages), outbox, ledger, selection=PRIVATE))
    [letter] = ledger.letters
    assert letter.kind == "message"
    assert b"anna" not in letter.payload
    assert b"p1." in letter.payload


async def test_a_record_that_cannot_be_read_becomes_a_letter_that_nobody_replays(caplog: pytest.LogCaptureFixture) -> None:
    """It is not sent as it is; the others are; the letter is of no kind."""
    outbox, ledger, counters = FakeOutbox(), Ledger(), Counters()
    good = next(segment for _, row in mail_rows() if row.encoding == "json" for segment in row.segments if segment[0] == "connection")
    outbox.add(Row("summary", "json", [("connection", good[1] + 1, b'{"email":{"subject":"anna\n' + good[2])]))
    sink = Keeping(kinds=KINDS)
    await run_dry(dispatcher(sink, outbox, ledger, selection=PRIVATE, counters=counters))
    [[(_, row)]] = sink.sends
    assert row.segments[0][:2] == ("connection", good[1])
    [letter] = ledger.letters
    assert (letter.kind, letter.payload, letter.reason.partition(":")[0]) == ("", b'{"email":{"subject":"anna\n', "unreadable")
    assert counters.value(SINK_DEAD_LETTERED, sink="fake", reason="unreadable") == 1
    assert "cannot be read" in caplog.text


async def test_a_fault_in_the_selection_holds_the_sink_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An error nobody foresaw is tried again, told, and never a reason to send what was not selected."""

    class Faulty(Selection):
        calls = 0

        def apply(self, rows: Iterable[tuple[int, Row]]) -> Selected:
            self.calls += 1
            if self.calls < 3:
                raise RuntimeError("a fault")
            return super().apply(rows)

    outbox = outbox_of("json")
    sink = Keeping(kinds=KINDS)
    await run_dry(dispatcher(sink, outbox, Ledger(), selection=Faulty(privacy=Privacy(Pseudonyms({1: KEY})))))
    assert b"anna" not in bytes_of([row for rows in sink.sends for row in rows], "json")
    assert len(records_of([row for rows in sink.sends for row in rows], "json")) == len(records_of(mail_rows(), "json"))
    assert "a fault" in caplog.text
