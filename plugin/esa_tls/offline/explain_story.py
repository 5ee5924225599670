"""From lines and records to a story: one section per hop, each statement with the lines that prove it.

The records decide what is said (outcome, evidence, results, posture); the lines are shown as proof.
"""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from esa_tls.offline.explain_lines import (
    CHILD_KINDS,
    QUARANTINE_ACTIONS,
    RESULT_ACTIONS,
    child_kind,
    envelope_statements,
    quarantine_words,
    scanned_words,
    stops,
    trouble_words,
)
from esa_tls.offline.explain_search import TLS_ACTIONS, Kept, Key, Search
from esa_tls.offline.explain_tls import BAD_END_ACTIONS, END_ACTIONS, MAX_PROOF_LINES, START_ACTIONS, Statement, texts, tls_statements
from esa_tls.offline.explain_words import (
    CHILDREN,
    ENDS,
    FLOWS,
    MESSAGE_ENDS,
    cipher_words,
    counted,
    delivery_words,
    envelope_words,
    fate_words,
    first_upper,
    leg_words,
    listed,
    peer_words,
    recipient_words,
    result_words,
    rids_words,
)

MAX_MAILS = 50
"""Mails told one by one in the story of a connection."""

_CORRECTED = Statement("A line about TLS came after the outcome had been decided; what is said here is the corrected one.", [], "doubt")
_TLS_SHORT = {
    "success": "TLS was established",
    "failed": "TLS FAILED",
    "none": "NO TLS",
    "unknown": "whether TLS was used cannot be told",
}
_TLS_TONES = {"success": "good", "failed": "bad", "none": "bad", "unknown": "doubt"}
_POSTURE_TONES = {"encrypted": "good", "exposed": "bad", "partial": "bad", "blocked": "bad"}
_RESULT_TONES = {"delivered": "", "bounced": "bad", "tls_blocked": "bad", "connection_error": "bad"}


class Section(msgspec.Struct):
    """One hop. `at`: when it began, in the zone of the stamps; empty if not known."""

    title: str
    at: str = ""
    statements: list[Statement] = []


class Story(msgspec.Struct):
    """One message or connection. `summary` is the whole in a sentence; `records` are what the story was told from."""

    title: str
    summary: str
    tone: str = ""
    asked: bool = True
    sections: list[Section] = []
    records: list[dict[str, Any]] = []


class Teller:
    """Tells what a search has found. `zone`: of the times shown."""

    def __init__(self, search: Search, zone: ZoneInfo) -> None:
        self.search = search
        self.zone = zone
        self._epochs = len({key.epoch for key in (*search.main, *search.context)}) > 1

    def name(self, key: Key) -> str:
        """`MID 90 on esa1`."""
        word = {"I": "ICID", "D": "DCID", "M": "MID"}[key.kind]
        epoch = f", life {key.epoch + 1} of its counters" if self._epochs else ""
        return f"{word} {key.number} on {key.appliance}{epoch}"

    def at(self, record_time: str | None) -> str:
        """A record's time in the zone of the stamps."""
        return f"{dt.datetime.fromisoformat(record_time).astimezone(self.zone):%Y-%m-%d %H:%M:%S}" if record_time else ""

    def stamp(self, lines: list[Kept]) -> str:
        """The time of the first of the lines, in the zone of the stamps."""
        return f"{dt.datetime.fromtimestamp(lines[0].stamp_s, tz=self.zone):%Y-%m-%d %H:%M:%S}" if lines else ""

    def _record(self, key: Key, kind: str) -> dict[str, Any]:
        """The one record of this kind; empty if there is none."""
        return next(iter(self.search.records_of(key, kind)), {})

    # -- connections -----------------------------------------------------------------------------------------------------------------

    def connection_story(self, key: Key) -> Story:
        """The story of an ICID or DCID."""
        inbound = key.kind == "I"
        lines = self.search.lines_of(key)
        record = self._record(key, "connection")
        own = record.get("cisco_esa", {})
        tls = own.get("tls", {"outcome": "unknown", "evidence": "gap"})
        facts = own.get("connection", {})
        number = facts.get("message_count", 0)
        peer = _peer(record, inbound=inbound) or ("a client" if inbound else "a server")
        mail = counted(number, "message") if number else "no mail"
        story = Story(self.name(key), f"{'From' if inbound else 'To'} {peer}: {_TLS_SHORT[tls['outcome']]}; {mail}.")
        story.tone = _TLS_TONES.get(tls["outcome"], "")
        story.records = [record] if record else []
        story.sections.append(Section("Connection", self.stamp(lines), self._connected(key, record, lines)))
        first = next((kept for kept in lines if kept.action in START_ACTIONS), None)
        about = tls_statements(key, lines, tls, mail=first)
        story.sections.append(Section("TLS", "", about + ([_CORRECTED] if "contradiction" in own.get("flags", []) else [])))
        if mails := self._mails(key, lines):
            story.sections.append(Section(f"Mail on it ({number:,})" if number else "Mail that was to go over it", "", mails))
        trouble = ("sender-verification", "recipient-rejected", "receiving-failed", "connection-error")
        refused = [Statement(trouble_words(kept), [kept.text]) for kept in lines if kept.action in trouble]
        if refused:
            story.sections.append(Section("Refused or failed", "", refused[:MAX_PROOF_LINES]))
        story.sections.append(self._connection_end(record, facts, lines))
        return story

    def _connection_end(self, record: dict[str, Any], facts: dict[str, Any], lines: list[Kept]) -> Section:
        end = facts.get("end", "not known")
        lost = ", after it had been lost" if end == "close" and facts.get("lost") else ""
        ends = [kept for kept in lines if kept.action in END_ACTIONS or kept.action in BAD_END_ACTIONS]
        at = self.at(record["event"]["end"]) if record and end != "stream_end" else ""
        return Section("End", at, [Statement(f"{first_upper(ENDS.get(end, end))}{lost}.", texts(ends))])

    @staticmethod
    def _connected(key: Key, record: dict[str, Any], lines: list[Kept]) -> list[Statement]:
        """Who connected to whom, and what the appliance thought of it."""
        inbound = key.kind == "I"
        opened = [kept for kept in lines if kept.action == "connection-opened"][:1]
        own = record.get("cisco_esa", {})
        peer = _peer(record, inbound=inbound)
        if inbound:
            interface = record.get("observer", {}).get("ingress", {}).get("interface", {}).get("name")
            text = f"{peer or 'A client'} connected{f' to interface {interface}' if interface else ''}: ICID {key.number}."
        else:
            domain = own.get("connection", {}).get("for_domain")
            text = f"The appliance connected to {peer or 'a server'}{f' for {domain}' if domain else ''}: DCID {key.number}."
        said = [Statement(text, texts(opened))] if opened or peer else []
        hat = own.get("hat", {})
        words = [f"policy {hat['policy']}"] if hat.get("policy") else []
        words += [f"sender group {hat['sender_group']}"] if hat.get("sender_group") else []
        words += [f"reputation {hat['sbrs']:g}"] if "sbrs" in hat else []
        words += [str(hat["country"])] if hat.get("country") else []
        if words:
            flow = f": {FLOWS[own['mail_flow']]}" if own.get("mail_flow") else ""
            decided = [kept for kept in lines if kept.action in ("hat-decided", "reputation-scored", "hat-reject-delayed")]
            said.append(Statement(f"{first_upper(', '.join(words))}{flow}.", texts(decided)))
        return said

    def _mails(self, key: Key, lines: list[Kept]) -> list[Statement]:
        """The mail on a connection, one statement each."""
        said: list[Statement] = []
        numbers = list(dict.fromkeys(kept.fact.mid for kept in lines if kept.fact.mid is not None and kept.action not in TLS_ACTIONS))
        for number in numbers[:MAX_MAILS]:
            mid = Key(key.appliance, key.epoch, "M", number)
            own = self._record(mid, "message").get("cisco_esa", {})
            envelope = envelope_words(own)
            if key.kind == "I":
                in_clear = own.get("reception", {}).get("tls", {}).get("in_clear")
                fate = f"Received {leg_words(in_clear)}; {fate_words(own)}"
            else:
                sent = [one["cisco_esa"] for one in self.search.records_of(mid, "delivery") if one["cisco_esa"].get("dcid") == key.number]
                in_clear = sent[0]["tls"].get("in_clear") if sent else None
                fate = first_upper(listed([delivery_words(one) for one in sent])) or "Nothing was sent"
            started = [kept for kept in lines if kept.fact.mid == number and kept.action in START_ACTIONS]
            tone = "" if in_clear is None else _clear_tone(in_clear)
            said.append(Statement(f"MID {number}{': ' + envelope if envelope else ''}. {fate}.", texts(started[:1]), tone))
        if len(numbers) > MAX_MAILS:
            said.append(Statement(f"And {counted(len(numbers) - MAX_MAILS, 'message')} more; `explain --mid` tells of each."))
        return said

    # -- messages --------------------------------------------------------------------------------------------------------------------

    def message_story(self, key: Key, *, asked: bool) -> Story:
        """The story of a MID."""
        lines = self.search.lines_of(key)
        record = self._record(key, "message")
        events = self.search.records_of(key, "consolidated")
        story = Story(self.name(key), "", asked=asked)
        if record:
            own = record["cisco_esa"]
            story.summary = f"{_came_words(own)}; {fate_words(own)}."
            story.tone = _POSTURE_TONES.get(own["posture"], "doubt")
            deliveries = sorted(self.search.records_of(key, "delivery"), key=lambda one: int(one["cisco_esa"]["delivery"]["ordinal"]))
            story.records = [record, *deliveries]
            story.sections.append(self._received(key, own, lines))
            processed = self._processed(key, own, lines)
            if processed.statements:
                story.sections.append(processed)
            for ordinal in dict.fromkeys(one["cisco_esa"]["delivery"]["ordinal"] for one in deliveries):
                these = [one for one in deliveries if one["cisco_esa"]["delivery"]["ordinal"] == ordinal]
                story.sections.append(self._attempt(key, ordinal, these, lines))
            story.sections.append(self._outcome(record, lines))
        else:
            story.summary = "The log has lines that name it, but none that says where it came from or where it went."
            if events:
                story.summary = "Only the consolidated event log names it."
            story.tone = "doubt"
            if lines:
                story.sections.append(Section("Lines", self.stamp(lines), [Statement("What the log says.", texts(lines))]))
        if events:
            story.records += events
            story.sections.append(Section("Consolidated event log", "", [self._event(event) for event in events]))
        return story

    def _received(self, key: Key, own: dict[str, Any], lines: list[Kept]) -> Section:
        section = Section("Received", self.stamp(lines))
        said = section.statements
        mine = [kept for kept in lines if kept.fact.mid == key.number]
        tied = next((kept for kept in mine if kept.action == "message-started"), None) or next(
            (kept for kept in mine if kept.fact.icid), None
        )
        kind = own.get("child_kind")
        if kind is not None:
            section.title = "Where it comes from"
            made = [kept for kept in mine if kept.action in CHILD_KINDS]
            said.append(Statement(f"{first_upper(CHILDREN[kind])} MID {own['parent_mid']}.", texts(made[:1])))
        reception = own.get("reception")
        if reception is None:
            said.append(Statement("Made on the appliance: it was not received over a connection.", texts([tied] if tied else [])))
        elif reception.get("icid"):
            said += self._reception(key, reception, tied)
        else:
            said.append(
                Statement("The log does not show how it was received: the line that starts it is missing.", texts(lines[:1]), "doubt")
            )
        if "contradiction" in own.get("flags", []):
            said.append(_CORRECTED)
        said += envelope_statements(own, mine)
        return section

    def _reception(self, key: Key, reception: dict[str, Any], tied: Kept | None) -> list[Statement]:
        """The leg on which it came, by itself or as a child of what came."""
        connection = Key(key.appliance, key.epoch, "I", reception["icid"])
        lines = self.search.lines_of(connection)
        in_clear = reception["tls"].get("in_clear")
        if tied is not None and tied.fact.icid == connection.number:
            said = self._connected(connection, self._record(connection, "connection"), lines)
            said += tls_statements(connection, lines, reception["tls"], mail=tied)
            text = f"Then the message was started: it was received {leg_words(in_clear)}."
            if in_clear and reception["tls"]["outcome"] == "failed":
                text = "The message was started all the same: it was received in CLEAR TEXT."
            return [*said, Statement(text, [tied.text], _clear_tone(in_clear))]
        peer = peer_words(reception.get("peer", {}))
        text = f"It carries on what was received over ICID {reception['icid']}{f' from {peer}' if peer else ''}, {leg_words(in_clear)}."
        first = next((kept for kept in lines if kept.action == "message-started"), None)
        return [Statement(text, [], _clear_tone(in_clear)), *tls_statements(connection, lines, reception["tls"], mail=first)]

    def _processed(self, key: Key, own: dict[str, Any], lines: list[Kept]) -> Section:
        """Scanning, quarantine, children."""
        section = Section("On the appliance")
        said = section.statements
        if own.get("mail_policy"):
            flow = FLOWS.get(own.get("mail_flow", ""), "")
            proof = [kept for kept in lines if kept.action in ("policy-matched", "message-split") and kept.fact.mid == key.number]
            said.append(Statement(f"Mail policy {own['mail_policy']}{f', {flow}' if flow else ''}.", texts(proof[:1])))
        if scanned := scanned_words(lines):
            said.append(Statement(f"Scanned: {listed(scanned, limit=12)}."))
        for kept in lines:
            at = self.stamp([kept])
            if kept.action in QUARANTINE_ACTIONS:
                said.append(Statement(f"{at}: {quarantine_words(kept)}.", [kept.text]))
            elif kept.action in CHILD_KINDS and kept.value("parent") == key.number:
                said.append(Statement(f"{at}: MID {kept.fact.mid} came of it, {CHILDREN[child_kind(kept)]} this one.", [kept.text]))
            elif stops(kept):
                said.append(Statement(f"{at}: {trouble_words(kept)}", [kept.text]))
        return section

    def _attempt(self, key: Key, ordinal: int, records: list[dict[str, Any]], lines: list[Kept]) -> Section:
        first = records[0]
        own = first["cisco_esa"]
        dcid = own.get("dcid")
        rids = sorted(rid for one in records for rid in one["cisco_esa"]["rids"])
        mine = [kept for kept in lines if kept.fact.mid == key.number]
        begun = self.at(first["event"].get("start"))
        if dcid is None:
            proof = [kept for kept in mine if kept.action.startswith("rpc-")]
            text = "Handed to the spam quarantine; that is no SMTP connection and has no TLS outcome."
            title = f"Delivery attempt {ordinal}: into the spam quarantine, {rids_words(rids)}"
            return Section(title, begun, [Statement(text, texts(proof))])
        here = [kept for kept in mine if kept.fact.dcid == dcid and (not kept.fact.rids or set(kept.fact.rids) & set(rids))]
        connection = Key(key.appliance, key.epoch, "D", dcid)
        connection_lines = self.search.lines_of(connection)
        peer = peer_words(first.get("destination", {}))
        title = f"Delivery attempt {ordinal}: DCID {dcid}{f' to {peer}' if peer else ''}, {rids_words(rids)}"
        section = Section(title, begun or self.stamp(here))
        said = section.statements
        said += self._connected(connection, self._record(connection, "connection"), connection_lines)
        started = next((kept for kept in here if kept.action == "delivery-started"), None)
        said += tls_statements(connection, connection_lines, own["tls"], mail=started)
        in_clear = own["tls"].get("in_clear")
        if started is not None:
            text = f"Then the delivery was started: the mail went {leg_words(in_clear)}."
            if in_clear and own["tls"]["outcome"] == "failed":
                text = "TLS had failed, and the delivery was started all the same: the mail went in CLEAR TEXT."
            said.append(Statement(text, [started.text], _clear_tone(in_clear)))
        said += [self._result(one, here, mine, connection_lines) for one in records]
        return section

    @staticmethod
    def _result(record: dict[str, Any], here: list[Kept], mine: list[Kept], connection_lines: list[Kept]) -> Statement:
        """What became of one delivery record's recipients; `here`: the message's lines on this connection, `mine`: all of its lines."""
        own = record["cisco_esa"]
        rids, result = set(own["rids"]), own["delivery"]["result"]
        wanted = RESULT_ACTIONS.get(result, ())
        proof = [kept for kept in here if kept.action in wanted and (not kept.fact.rids or rids & set(kept.fact.rids))]
        if result == "connection_error":
            proof = [kept for kept in connection_lines if kept.action in wanted][:1]
        answering = ("delivery-response",) if result == "delivered" else ("delivery-pending", "delivery-bounced", "delivery-delayed")
        last = max((kept.sequence for kept in here), default=0)
        answers = [
            kept
            for kept in mine
            if kept.action in answering and kept.fact.dcid is None and rids & set(kept.fact.rids or ()) and kept not in here
        ]
        # The answer has no DCID: it is the first one after the lines of this connection (or, where order is not kept, any).
        answer = next((kept for kept in answers if kept.sequence > last), None) or next(iter(answers), None)
        # The lines, not the record: one attempt's answers may be about some of its recipients only.
        said = [*proof, *([answer] if answer is not None else [])]
        values = {
            name: next((value for kept in said if (value := kept.value(name)) is not None), None)
            for name in ("response", "code", "reason", "retry_at")
        }
        words = result_words(result, response=values["response"], code=values["code"], reason=values["reason"], retry=values["retry_at"])
        text = f"{first_upper(rids_words(own['rids']))}: {words}."
        return Statement(text, texts(said), _RESULT_TONES.get(result, "doubt"))

    def _outcome(self, record: dict[str, Any], lines: list[Kept]) -> Section:
        own = record["cisco_esa"]
        end = own["message"]["end"]
        section = Section("Outcome", self.at(record["event"]["end"]) if end != "stream_end" else "")
        received_in_clear = own.get("reception", {}).get("tls", {}).get("in_clear")
        for one in own.get("recipients", []):
            address = one.get("address")
            words = recipient_words(one, received_in_clear, received="reception" in own)
            tone = _POSTURE_TONES.get(one["posture"], "doubt" if one["posture"] == "unknown" else "")
            section.statements.append(Statement(f"RID {one['rid']}{f' <{address}>' if address else ''}: {words}.", [], tone))
        number = own.get("recipient_count", 0) - len(own.get("recipients", []))
        if number > 0:
            section.statements.append(Statement(f"And {counted(number, 'recipient')} more, which records do not list."))
        reason = own["message"].get("end_reason")
        finished = [kept for kept in lines if kept.action in ("message-finished", "message-aborted")]
        because = f" ({reason})" if reason else ""
        section.statements.append(Statement(f"The message: {MESSAGE_ENDS.get(end, end)}{because}.", texts(finished)))
        return section

    def _event(self, event: dict[str, Any]) -> Statement:
        """A consolidated event."""
        own = event["cisco_esa"]
        legs = []
        for way, tls in (("in", own.get("reception", {}).get("tls", {})), ("out", own.get("delivery_tls", {}))):
            words = cipher_words(tls)
            legs.append(f"TLS {way}: {tls.get('outcome', 'not told')}{f' ({words})' if words else ''}")
        facts = own.get("cef", {})
        details = f" ({facts['action_details']})" if facts.get("action_details") else ""
        text = f"{facts.get('action', 'An event')}{details}; {', '.join(legs)}. A field that is not there proves nothing."
        line = self.search.event_lines.get(event["event"]["id"])
        return Statement(text, [line] if line is not None else [])


def _peer(record: dict[str, Any], *, inbound: bool) -> str:
    return peer_words(record.get("source" if inbound else "destination", {}))


def _clear_tone(in_clear: bool | None) -> str:  # noqa: FBT001 (three values)
    return "doubt" if in_clear is None else "bad" if in_clear else "good"


def _came_words(own: dict[str, Any]) -> str:
    """How a message came to be there."""
    reception, kind = own.get("reception"), own.get("child_kind")
    if reception is None:
        return f"{first_upper(CHILDREN[kind])} MID {own['parent_mid']}, made on the appliance" if kind else "Made on the appliance"
    in_clear = reception.get("tls", {}).get("in_clear")
    if in_clear is None:
        return "How it was received is not known"
    peer = peer_words(reception.get("peer", {}))
    return f"Received {leg_words(in_clear)}{f' from {peer}' if peer else ''}"
