"""What has ended becomes records, and what happened is counted: the pipeline as the correlator's `Emit`. A part of `Pipeline`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from esa_tls.core import summaries
from esa_tls.core.appliance import Appliance
from esa_tls.core.cef import parse_cef
from esa_tls.core.connections import Connection
from esa_tls.core.expected import Expectations
from esa_tls.core.grammar import shape_of
from esa_tls.core.ids import mask, mask_text, summary_id
from esa_tls.core.line_record import Leaving, Line
from esa_tls.core.messages import Attempt, Message
from esa_tls.core.prefix import Prefix
from esa_tls.core.prefixing import Prefixing
from esa_tls.core.records_consolidated import consolidated

if TYPE_CHECKING:
    from esa_tls.core.encode import Encoder

MAX_SHAPES: Final = 1000

CONSOLIDATED_MASK: Final = mask("consolidated")
"""A consolidated record's id is its line's id under this mask."""


class Telling(Prefixing):
    """Records of what ended, and of consolidated events, to the encoders."""

    encoders: list[Encoder]
    leaving: list[Leaving]
    counts: dict[tuple[str, tuple[tuple[str, str], ...]], int]
    shapes: dict[str, int]
    created: str
    expectations: Expectations | None

    def _odd(self, prefix: Prefix, line: Line) -> None:
        """No fact of a text mail log: a consolidated event, or a shape that nobody knows (counted, with a sample per shape)."""
        body = line.text[prefix.length :]
        if prefix.length and body.startswith("CEF:0|") and (event := parse_cef(body)) is not None:
            line.fact.action = "consolidated-event"
            record_id = prefix.time_id + mask_text(int(line.record_hash, 16) ^ CONSOLIDATED_MASK)
            record = consolidated(
                prefix.appliance,
                prefix.epoch,
                event,
                record_id=record_id,
                time_s=prefix.stamp_s,
                created=line.created,
                sequence=line.sequence,
            )
            self._summary("consolidated", record, prefix.stamp_s, "", "")
            return
        shape = shape_of(body)
        if shape in self.shapes or len(self.shapes) < MAX_SHAPES:
            self.shapes[shape] = self.shapes.get(shape, 0) + 1
        self.count("esa_tls.lines.unrecognised", shape=shape)

    def box_changed(self, box: Appliance) -> None:
        """Epoch or description changed (`correlate.Emit`)."""
        own = self.boxes[box.name]
        own.observer = box.observer()
        self._forget_prefixes(own)

    # ------------------------------------------------------------------------------------------------------------- summaries

    def connection(self, box: Appliance, entry: Connection, time_s: int) -> None:
        """A connection ended (`correlate.Emit`)."""
        leg = entry.leg
        record_id = summary_id(entry.first_s, box.name, leg.epoch, f"{leg.kind}CID", leg.number, 0)
        record = summaries.connection(
            box.name, entry, record_id=record_id, time_s=time_s, created=self.created, observer=self.boxes[box.name].observer
        )
        self._summary("connection", record, time_s, leg.outcome, "inbound" if leg.kind == "I" else "outbound")

    def delivery(self, box: Appliance, message: Message, attempt: Attempt, result: str, rids: list[int], time_s: int) -> None:
        """The RIDs of an attempt that had the same result (`correlate.Emit`)."""
        record_id = summary_id(attempt.first_s, box.name, message.epoch, "delivery", message.number, f"{attempt.ordinal}/{result}")
        record = summaries.delivery(
            box.name,
            message,
            attempt,
            result,
            rids,
            record_id=record_id,
            time_s=time_s,
            created=self.created,
            observer=self.boxes[box.name].observer,
        )
        self._summary("delivery", record, time_s, attempt.leg.outcome if attempt.leg else "", "outbound")

    def message(self, box: Appliance, entry: Message, time_s: int) -> None:
        """A message ended (`correlate.Emit`)."""
        record_id = summary_id(entry.first_s, box.name, entry.epoch, "MID", entry.number, 0)
        record = summaries.message(
            box.name, entry, record_id=record_id, time_s=time_s, created=self.created, observer=self.boxes[box.name].observer
        )
        self._summary("message", record, time_s, record["cisco_esa"]["posture"], "")

    def _summary(self, kind: str, record: dict[str, Any], time_s: int, outcome: str, direction: str) -> None:
        key = ("esa_tls.records", (("kind", kind), ("outcome", outcome), ("direction", direction)))
        self.counts[key] = self.counts.get(key, 0) + 1
        if self.expectations is not None:
            self.expectations.mark(kind, record)
        for each in self.encoders:
            if each.interleaved:
                self._encode_lines()
            each.summary(kind, record, time_s)

    def _encode_lines(self) -> None:
        """Lines that have left go to the encoders."""
        if self.leaving:
            for each in self.encoders:
                each.lines(self.leaving)
            self.leaving.clear()

    def count(self, name: str, n: int = 1, **labels: str) -> None:
        """A telemetry increment; drained by whoever runs the pipeline."""
        key = (name, tuple(labels.items()))
        self.counts[key] = self.counts.get(key, 0) + n
