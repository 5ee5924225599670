"""From lines and records to a story: one section per hop, each statement with the lines that prove it.

The records decide what is said (outcome, evidence, results, posture); the lines are shown as proof. Where a statement rests on lines that
are not there, the proof is the lines around the place where they would be.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from esa_tls.offline.explain_search import TLS_ACTIONS, Kept, Key, Search
from esa_tls.offline.explain_words import (
    CHILDREN,
    ENDS,
    FLOWS,
    MESSAGE_ENDS,
    RESULTS,
    cipher_words,
    counted,
    failure_words,
    leg_words,
    listed,
    peer_words,
    rids_words,
)

MAX_PROOF_LINES = 8
"""Lines shown under one statement."""

MAX_MAILS = 50
"""Mails told one by one in the story of a connection."""

INHERITING = frozenset({"split", "rewritten", "copy", "reinjected"})

_CHILD_ACTIONS = frozenset({"message-split", "message-rewritten", "message-copied", "bounce-generated", "message-reinjected"})
_START_ACTIONS = frozenset({"message-started", "delivery-started"})
_END_ACTIONS = frozenset({"connection-closed", "connection-killed", "connection-exited"})
_BAD_END_ACTIONS = frozenset(
    {"connection-lost", "connection-disconnected", "connection-error", "receiving-failed", "connection-killed", "connection-exited"}
)
_QUARANTINE_ACTIONS = frozenset(
    {"message-quarantined", "quarantine-tagged", "quarantine-released", "quarantine-deleted", "rpc-delivery-rejected"}
)
_STOP_ACTIONS = frozenset(
    {"message-aborted", "message-dropped", "message-bounced", "recipient-dropped", "recipient-bounced", "recipients-deleted"}
)


class Statement(msgspec.Struct):
    """One sentence, and the lines of the log that prove it. `tone`: `good`, `bad`, `doubt` or empty."""

    text: str
    lines: list[str] = []
    tone: str = ""


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
        keys = [*search.main, *search.context]
        self._several = len({(key.appliance, key.epoch) for key in keys}) > 1
        self._epochs = len({key.epoch for key in keys}) > 1

    def name(self, key: Key) -> str:
        """`MID 90 on esa1`."""
        word = {"I": "ICID", "D": "DCID", "M": "MID"}[key.kind]
        epoch = f", life {key.epoch + 1} of its counters" if self._epochs else ""
        return f"{word} {key.number} on {key.appliance}{epoch}"

    def at(self, record_time: str | None) -> str:
        """A record's time in the zone of the stamps."""
        if not record_time:
            return ""
        return f"{dt.datetime.fromisoformat(record_time).astimezone(self.zone):%Y-%m-%d %H:%M:%S}"

    def stamp(self, kept: Kept) -> str:
        """A line's time in the zone of the stamps."""
        return f"{dt.datetime.fromtimestamp(kept.stamp_s, tz=self.zone):%Y-%m-%d %H:%M:%S}"

    # -- why a TLS outcome is believed -----------------------------------------------------------------------------------------------

    def tls(self, connection: Key, tls: dict[str, Any], *, mail: Kept | None, inbound: bool) -> list[Statement]:
        """What is known of the TLS of a connection, and why. `mail`: the line that started the mail in question."""
        lines = self.search.lines_of(connection)
        about = [kept for kept in lines if kept.action in TLS_ACTIONS]
        outcome, evidence = tls.get("outcome"), tls.get("evidence")
        failures = [kept for kept in about if kept.action in ("tls-failed", "tls-required-failed")]
        if outcome == "success":
            return self._tls_success(tls, about, failures)
        if outcome == "failed":
            said = [kept for kept in about if kept.action == "starttls-not-supported"]
            text = f"TLS failed: {failure_words(tls.get('failure', {}))}."
            if tls.get("required"):
                text += " Mail that has to go under TLS does not go over this connection."
            return [Statement(text, _texts(said + failures), "bad")]
        if outcome == "none":
            return self._tls_none(tls, lines, mail, inbound=inbound)
        return [self._tls_unknown(connection, lines, evidence)]

    @staticmethod
    def _tls_success(tls: dict[str, Any], about: list[Kept], failures: list[Kept]) -> list[Statement]:
        proof = [kept for kept in about if kept.action == "tls-succeeded"] or [kept for kept in about if kept.action == "tls-data-read"][:1]
        verified = [kept for kept in about if kept.action == "certificate-verified"]
        words = cipher_words(tls)
        text = f"TLS was established{': ' + words if words else ''}. The appliance says so."
        if proof and proof[0].action == "tls-data-read":
            text = "TLS was established: the appliance read data through it."
        if tls.get("verified"):
            text += " The certificate was verified."
        said = [Statement(text, _texts(proof[:2] + verified[:1]), "good")]
        last = proof[-1].sequence if proof else 0
        before = [kept for kept in failures if kept.sequence < last]
        after = [kept for kept in failures if kept.sequence > last]
        if before:
            said.append(Statement("An earlier try on the same connection had failed.", _texts(before)))
        if after and tls.get("broken"):
            reason = after[0].value("reason")
            said.append(Statement(f"The session broke after it had been up{f' ({reason})' if reason else ''}.", _texts(after), "doubt"))
        return said

    def _tls_none(self, tls: dict[str, Any], lines: list[Kept], mail: Kept | None, *, inbound: bool) -> list[Statement]:
        if tls.get("evidence") == "line":
            said = [kept for kept in lines if kept.action == "starttls-not-supported"]
            return [Statement("No TLS: the server does not offer STARTTLS. The appliance says so.", _texts(said), "bad")]
        opened = [kept for kept in lines if kept.action == "connection-opened"][:1]
        last = mail or next((kept for kept in lines if kept.action in _START_ACTIONS or kept.action in _END_ACTIONS), None)
        proof = _texts([*opened, *([last] if last else [])])
        what = "the end of the connection" if last is not None and last.action in _END_ACTIONS else "the start of the mail"
        number = sum(opened[0].sequence < kept.sequence < last.sequence for kept in lines) if opened and last is not None else 0
        between = (
            f"none of the {counted(number, 'line')} between it and {what} is about TLS"
            if number > 1
            else f"no line about TLS between it and {what}"
        )
        who = "The client did not start TLS" if inbound else "TLS was not used"
        if tls.get("evidence") == "absence_lossy":
            why = (
                f"{who}, as far as this log tells: it has the first line of the connection, and {between}. But lines may be missing or late "
                "here (they came by syslog, or are said to be lossy, or the appliance's clock jumped): likely, not proven."
            )
            return [Statement(why, proof, "doubt")]
        return [Statement(f"{who}: the log has the connection from its first line on and in order, and {between}.", proof, "bad")]

    @staticmethod
    def _tls_unknown(connection: Key, lines: list[Kept], evidence: str | None) -> Statement:
        word = "ICID" if connection.kind == "I" else "DCID"
        opened = any(kept.action == "connection-opened" for kept in lines)
        ended = [kept for kept in lines if kept.action in _BAD_END_ACTIONS]
        if not lines:
            return Statement(f"Whether TLS was used cannot be told: the log has no line of {word} {connection.number} itself.", [], "doubt")
        if not opened:
            why = f"the log has no beginning of {word} {connection.number}, so a line about TLS may have been there. This is its first line"
            return Statement(f"Whether TLS was used cannot be told: {why}.", _texts(lines[:1]), "doubt")
        if ended:
            why = "the connection ended out of order before a line about TLS and before any mail"
            return Statement(f"Whether TLS was used cannot be told: {why}.", _texts(ended[:2]), "doubt")
        del evidence
        return Statement("Whether TLS was used cannot be told: neither a line about TLS nor mail came.", _texts(lines[-1:]), "doubt")

    # -- connections -----------------------------------------------------------------------------------------------------------------

    def connected(self, connection: Key, record: dict[str, Any] | None) -> list[Statement]:
        """Who connected to whom, and what the appliance thought of it."""
        lines = self.search.lines_of(connection)
        opened = [kept for kept in lines if kept.action == "connection-opened"][:1]
        own = (record or {}).get("cisco_esa", {})
        peer = peer_words((record or {}).get("source" if connection.kind == "I" else "destination", {}))
        said: list[Statement] = []
        if connection.kind == "I":
            interface = (record or {}).get("observer", {}).get("ingress", {}).get("interface", {}).get("name")
            text = f"{peer or 'A client'} connected{f' to interface {interface}' if interface else ''}: ICID {connection.number}."
            if opened or peer:
                said.append(Statement(text, _texts(opened)))
            hat = own.get("hat", {})
            words = [f"policy {hat['policy']}"] if hat.get("policy") else []
            words += [f"sender group {hat['sender_group']}"] if hat.get("sender_group") else []
            words += [f"reputation {hat['sbrs']:g}"] if "sbrs" in hat else []
            words += [str(hat["country"])] if hat.get("country") else []
            if words:
                flow = f": {FLOWS[own['mail_flow']]}" if own.get("mail_flow") else ""
                decided = [kept for kept in lines if kept.action in ("hat-decided", "reputation-scored", "hat-reject-delayed")]
                said.append(Statement(f"{_first_upper(', '.join(words))}{flow}.", _texts(decided)))
        else:
            domain = own.get("connection", {}).get("for_domain")
            text = f"The appliance connected to {peer or 'a server'}{f' for {domain}' if domain else ''}: DCID {connection.number}."
            if opened or peer:
                said.append(Statement(text, _texts(opened)))
        return said

    def connection_story(self, key: Key) -> Story:
        """The story of an ICID or DCID."""
        inbound = key.kind == "I"
        lines = self.search.lines_of(key)
        record = next(iter(self.search.records_of(key, "connection")), None)
        own = (record or {}).get("cisco_esa", {})
        tls = own.get("tls", {"outcome": "unknown", "evidence": "gap"})
        facts = own.get("connection", {})
        mails = self._mails(key, lines)
        first = next((kept for kept in lines if kept.action in _START_ACTIONS), None)
        peer = peer_words((record or {}).get("source" if inbound else "destination", {})) or ("a client" if inbound else "a server")
        number = facts.get("message_count", 0)
        summary = (
            f"{'From' if inbound else 'To'} {peer}: {_TLS_SHORT[tls['outcome']]}; {counted(number, 'message') if number else 'no mail'}."
        )
        story = Story(self.name(key), summary, _TONES.get(tls["outcome"], ""), records=[] if record is None else [record])
        story.sections.append(Section("Connection", self.stamp(lines[0]) if lines else "", self.connected(key, record)))
        about = self.tls(key, tls, mail=first, inbound=inbound)
        if "contradiction" in own.get("flags", []):
            about.append(
                Statement("A line about TLS came after the outcome had been decided; what is said here is the corrected one.", [], "doubt")
            )
        story.sections.append(Section("TLS", "", about))
        if mails or number:
            story.sections.append(Section(f"Mail on it ({number:,})", "", mails))
        refused = [
            kept for kept in lines if kept.action in ("sender-verification", "recipient-rejected", "receiving-failed", "connection-error")
        ]
        if refused:
            story.sections.append(
                Section("Refused or failed", "", [Statement(_trouble_words(kept), [kept.text]) for kept in refused[:MAX_PROOF_LINES]])
            )
        ends = [kept for kept in lines if kept.action in _END_ACTIONS or kept.action in _BAD_END_ACTIONS]
        end = facts.get("end")
        words = ENDS.get(end, end or "not known")
        text = f"{_first_upper(words)}{', after it had been lost' if end == 'close' and facts.get('lost') else ''}."
        at = self.at(record["event"]["end"]) if record and end != "stream_end" else ""
        story.sections.append(Section("End", at, [Statement(text, _texts(ends))]))
        return story

    def _mails(self, key: Key, lines: list[Kept]) -> list[Statement]:
        """The mail on a connection, one statement each."""
        said: list[Statement] = []
        numbers = dict.fromkeys(kept.fact.mid for kept in lines if kept.fact.mid is not None and kept.action not in TLS_ACTIONS)
        for number in list(numbers)[:MAX_MAILS]:
            assert number is not None
            mid = Key(key.appliance, key.epoch, "M", number)
            record = next(iter(self.search.records_of(mid, "message")), None)
            started = [kept for kept in lines if kept.fact.mid == number and kept.action in _START_ACTIONS]
            own = (record or {}).get("cisco_esa", {})
            envelope = _envelope_words(own)
            text = f"MID {number}{': ' + envelope if envelope else ''}."
            if key.kind == "I":
                in_clear = own.get("reception", {}).get("tls", {}).get("in_clear")
                text += f" Received {leg_words(in_clear)}; {self._fate_words(own)}."
            else:
                deliveries = [one for one in self.search.records_of(mid, "delivery") if one["cisco_esa"].get("dcid") == key.number]
                told = [_delivery_short(one["cisco_esa"]) for one in deliveries]
                in_clear = deliveries[0]["cisco_esa"]["tls"].get("in_clear") if deliveries else None
                text += f" {_first_upper(listed(told)) or 'Nothing was sent'}."
            said.append(Statement(text, _texts(started[:1]), "" if in_clear is None else "bad" if in_clear else "good"))
        if len(numbers) > MAX_MAILS:
            said.append(Statement(f"And {counted(len(numbers) - MAX_MAILS, 'message')} more; `explain --mid` tells of each."))
        return said

    # -- messages --------------------------------------------------------------------------------------------------------------------

    def message_story(self, key: Key, *, asked: bool) -> Story:
        """The story of a MID."""
        lines = self.search.lines_of(key)
        record = next(iter(self.search.records_of(key, "message")), None)
        events = self.search.records_of(key, "consolidated")
        story = Story(self.name(key), "", asked=asked)
        if record is None:
            story.summary = "The log has lines that name it, but none that says where it came from or where it went."
            story.tone = "doubt"
            if lines:
                story.sections.append(Section("Lines", self.stamp(lines[0]), [Statement("What the log says.", _texts(lines))]))
        else:
            story.records.append(record)
            own = record["cisco_esa"]
            story.summary, story.tone = self.message_summary(own)
            story.sections.append(self._received(key, own, lines))
            processed = self._processed(key, own, lines)
            if processed.statements:
                story.sections.append(processed)
            deliveries = sorted(self.search.records_of(key, "delivery"), key=lambda one: one["cisco_esa"]["delivery"]["ordinal"])
            story.records += deliveries
            ordinals = dict.fromkeys(one["cisco_esa"]["delivery"]["ordinal"] for one in deliveries)
            story.sections += [
                self._attempt(key, ordinal, [one for one in deliveries if one["cisco_esa"]["delivery"]["ordinal"] == ordinal], lines)
                for ordinal in ordinals
            ]
            story.sections.append(self._outcome(record, lines))
        if events:
            story.records += events
            story.sections.append(_consolidated(events))
        return story

    def message_summary(self, own: dict[str, Any]) -> tuple[str, str]:
        """The whole in a sentence, and its tone."""
        reception = own.get("reception")
        kind = own.get("child_kind")
        if reception is None:
            came = f"{_first_upper(CHILDREN[kind])} MID {own.get('parent_mid')}, made on the appliance" if kind else "Made on the appliance"
        else:
            in_clear = reception.get("tls", {}).get("in_clear")
            peer = peer_words(reception.get("peer", {}))
            came = (
                "How it was received is not known"
                if in_clear is None
                else f"Received {leg_words(in_clear)}{f' from {peer}' if peer else ''}"
            )
        posture = own["posture"]
        tone = {"encrypted": "good", "exposed": "bad", "partial": "bad", "blocked": "bad"}.get(posture, "doubt")
        return f"{came}; {self._fate_words(own)}.", tone

    def _fate_words(self, own: dict[str, Any]) -> str:
        """What became of the recipients, by number."""
        recipients = own.get("recipients", [])
        if not recipients:
            return (
                "it has no recipient that is known"
                if own.get("message", {}).get("end") != "aborted"
                else "given up before it had a recipient"
            )
        groups: dict[str, list[str]] = {}
        for one in recipients:
            groups.setdefault(_recipient_fate(one), []).append(one.get("domain", ""))
        total = own.get("recipient_count", len(recipients))
        words = []
        children = listed([f"MID {mid}" for mid in own.get("child_mids", [])], limit=4)
        for fate, domains in groups.items():
            number = (
                "its recipient"
                if total == 1
                else f"all {total:,} recipients"
                if len(domains) == total
                else f"{len(domains):,} of {total:,} recipients"
            )
            known = list(dict.fromkeys(domain for domain in domains if domain))
            where = fate.replace("another message", children) if children else fate
            words.append(f"{where} {number}" + (f" ({listed(known, limit=3)})" if known else ""))
        return listed(words)

    def _received(self, key: Key, own: dict[str, Any], lines: list[Kept]) -> Section:
        started = next((kept for kept in lines if kept.action == "message-started" and kept.fact.mid == key.number), None)
        tied = started or next((kept for kept in lines if kept.fact.mid == key.number and kept.fact.icid), None)
        section = Section("Received", self.stamp(lines[0]) if lines else "")
        said = section.statements
        reception = own.get("reception")
        kind, parent = own.get("child_kind"), own.get("parent_mid")
        made = [kept for kept in lines if kept.action in _CHILD_ACTIONS and kept.fact.mid == key.number]
        if kind is not None:
            section.title = "Where it comes from"
            said.append(Statement(f"{_first_upper(CHILDREN[kind])} MID {parent}.", _texts(made[:1])))
        if reception is None:
            said.append(Statement("Made on the appliance: it was not received over a connection.", _texts([started] if started else [])))
        elif reception.get("icid"):
            connection = Key(key.appliance, key.epoch, "I", reception["icid"])
            if kind in INHERITING and not (tied and tied.fact.icid):
                came = reception.get("tls", {}).get("in_clear")
                peer = peer_words(reception.get("peer", {}))
                text = f"It carries on what was received over ICID {reception['icid']}{f' from {peer}' if peer else ''}, {leg_words(came)}."
                said.append(Statement(text, [], _clear_tone(came)))
            else:
                record = next(iter(self.search.records_of(connection, "connection")), None)
                said += self.connected(connection, record)
            said += self.tls(connection, reception["tls"], mail=self._start_of(connection, tied), inbound=True)
            in_clear = reception["tls"].get("in_clear")
            if tied is not None and tied.fact.icid:
                text = f"Then the message was started: it was received {leg_words(in_clear)}."
                if in_clear and reception["tls"]["outcome"] == "failed":
                    text = "The message was started all the same: it was received in CLEAR TEXT."
                said.append(Statement(text, [tied.text], _clear_tone(in_clear)))
        else:
            text = "The log does not show how it was received: the line that starts it is missing."
            said.append(Statement(text, _texts(lines[:1]), "doubt"))
        if "contradiction" in own.get("flags", []):
            said.append(
                Statement("A line about TLS came after the outcome had been decided; what is said here is the corrected one.", [], "doubt")
            )
        said += _envelope_statements(own, lines)
        return section

    def _start_of(self, connection: Key, tied: Kept | None) -> Kept | None:
        """The line that started mail on the connection: this message's own, or for a child the first one."""
        if tied is not None and tied.fact.icid == connection.number:
            return tied
        return next((kept for kept in self.search.lines_of(connection) if kept.action == "message-started"), None)

    def _processed(self, key: Key, own: dict[str, Any], lines: list[Kept]) -> Section:
        """Scanning, quarantine, children."""
        section = Section("On the appliance")
        said = section.statements
        if own.get("mail_policy"):
            flow = FLOWS.get(own.get("mail_flow", ""), "")
            proof = [kept for kept in lines if kept.action in ("policy-matched", "message-split") and kept.fact.mid == key.number]
            said.append(Statement(f"Mail policy {own['mail_policy']}{f', {flow}' if flow else ''}.", _texts(proof[:1])))
        verdicts = [kept for kept in lines if kept.action in ("engine-verdict", "authentication-verdict") and kept.value("engine")]
        if verdicts:
            words = dict.fromkeys(f"{kept.value('engine')} {kept.value('verdict') or ''}".strip() for kept in verdicts)
            said.append(Statement(f"Scanned: {listed(list(words), limit=12)}."))
        for kept in lines:
            if kept.action in _QUARANTINE_ACTIONS:
                said.append(Statement(f"{self.stamp(kept)}: {_quarantine_words(kept)}.", [kept.text]))
            elif kept.action in _CHILD_ACTIONS and kept.value("parent") == key.number:
                kind = str(kept.value("child_kind") or _KIND_OF[kept.action])
                said.append(Statement(f"{self.stamp(kept)}: MID {kept.fact.mid} came of it, {CHILDREN[kind]} this one.", [kept.text]))
            elif kept.action in _STOP_ACTIONS:
                said.append(Statement(f"{self.stamp(kept)}: {_trouble_words(kept)}", [kept.text]))
        return section

    def _attempt(self, key: Key, ordinal: int, records: list[dict[str, Any]], lines: list[Kept]) -> Section:
        first = records[0]
        own = first["cisco_esa"]
        dcid = own.get("dcid")
        rids = sorted(rid for one in records for rid in one["cisco_esa"]["rids"])
        mine = [kept for kept in lines if kept.fact.mid == key.number]
        here = [kept for kept in mine if kept.fact.dcid == dcid and (not kept.fact.rids or set(kept.fact.rids) & set(rids))]
        begun = self.at(first["event"].get("start")) or (self.stamp(here[0]) if here and dcid is not None else "")
        if dcid is None:
            section = Section(f"Delivery attempt {ordinal}: into the spam quarantine, {rids_words(rids)}", begun)
            proof = [kept for kept in mine if kept.action.startswith("rpc-")]
            section.statements.append(
                Statement("Handed to the spam quarantine; that is no SMTP connection and has no TLS outcome.", _texts(proof))
            )
            return section
        connection = Key(key.appliance, key.epoch, "D", dcid)
        record = next(iter(self.search.records_of(connection, "connection")), None)
        peer = peer_words(first.get("destination", {}))
        section = Section(f"Delivery attempt {ordinal}: DCID {dcid}{f' to {peer}' if peer else ''}, {rids_words(rids)}", begun)
        said = section.statements
        said += self.connected(connection, record)
        started = next((kept for kept in here if kept.action == "delivery-started"), None)
        said += self.tls(connection, own["tls"], mail=started, inbound=False)
        in_clear = own["tls"].get("in_clear")
        if started is not None:
            text = f"Then the delivery was started: the mail went {leg_words(in_clear)}."
            if in_clear and own["tls"]["outcome"] == "failed":
                text = "TLS had failed, and the delivery was started all the same: the mail went in CLEAR TEXT."
            said.append(Statement(text, [started.text], _clear_tone(in_clear)))
        for one in records:
            said += self._result(one, here, mine)
        return section

    def _result(self, record: dict[str, Any], here: list[Kept], mine: list[Kept]) -> list[Statement]:
        own = record["cisco_esa"]
        facts = own["delivery"]
        rids = own["rids"]
        result = facts["result"]
        wanted = _RESULT_ACTIONS.get(result, ())
        proof = [kept for kept in here if kept.action in wanted and (not kept.fact.rids or set(kept.fact.rids) & set(rids))]
        first = min((kept.sequence for kept in here), default=0)
        last = max((kept.sequence for kept in here), default=0)
        answers = [
            kept
            for kept in mine
            if kept.action in ("delivery-response", "delivery-pending", "delivery-bounced", "delivery-delayed")
            and kept.fact.dcid is None
            and kept.sequence > first
            and set(kept.fact.rids or ()) & set(rids)
        ]
        after = [kept for kept in answers if kept.sequence > last][:2] or answers[:2]
        if result == "delivered":
            after = [kept for kept in after if kept.action == "delivery-response"][:1]
        text = f"{_first_upper(rids_words(rids))}: {_result_words(own)}."
        tone = {"delivered": "", "bounced": "bad", "tls_blocked": "bad", "connection_error": "bad"}.get(result, "doubt")
        return [Statement(text, _texts([*proof, *(kept for kept in after if kept not in proof)]), tone)]

    def _outcome(self, record: dict[str, Any], lines: list[Kept]) -> Section:
        own = record["cisco_esa"]
        end = own["message"]["end"]
        section = Section("Outcome", self.at(record["event"]["end"]) if end != "stream_end" else "")
        reception = own.get("reception", {}).get("tls", {}).get("in_clear") if "reception" in own else False
        for one in own.get("recipients", []):
            address = one.get("address")
            text = f"RID {one['rid']}{f' <{address}>' if address else ''}: {_recipient_words(one, reception, received='reception' in own)}."
            section.statements.append(Statement(text, [], _POSTURE_TONES.get(one["posture"], "")))
        number = own.get("recipient_count", 0) - len(own.get("recipients", []))
        if number > 0:
            section.statements.append(Statement(f"And {counted(number, 'recipient')} more, which records do not list."))
        reason = own["message"].get("end_reason")
        finished = [kept for kept in lines if kept.action in ("message-finished", "message-aborted")]
        section.statements.append(
            Statement(f"The message: {MESSAGE_ENDS.get(end, end)}{f' ({reason})' if reason else ''}.", _texts(finished))
        )
        return section


# -- words for facts ---------------------------------------------------------------------------------------------------------------
_TLS_SHORT = {
    "success": "TLS was established",
    "failed": "TLS FAILED",
    "none": "NO TLS",
    "unknown": "whether TLS was used cannot be told",
}
_TONES = {"success": "good", "failed": "bad", "none": "bad", "unknown": "doubt"}
_POSTURE_TONES = {"encrypted": "good", "exposed": "bad", "blocked": "bad", "unknown": "doubt"}
_KIND_OF = {
    "message-split": "split",
    "message-rewritten": "rewritten",
    "message-copied": "copy",
    "bounce-generated": "bounce",
    "message-reinjected": "reinjected",
}
_RESULT_ACTIONS: dict[str, tuple[str, ...]] = {
    "delivered": ("delivery-done",),
    "bounced": ("delivery-bounced",),
    "delayed": ("delivery-delayed",),
    "tls_blocked": ("delivery-delayed", "delivery-bounced"),
    "uncertain": ("delivery-uncertain",),
    "connection_error": ("connection-error",),
}


def _texts(kept: Iterable[Kept]) -> list[str]:
    lines = [one.text for one in kept]
    if len(lines) > MAX_PROOF_LINES:
        return [*lines[: MAX_PROOF_LINES - 1], f"... and {len(lines) - MAX_PROOF_LINES + 1:,} lines more"]
    return lines


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _clear_tone(in_clear: bool | None) -> str:  # noqa: FBT001 (three values)
    return "doubt" if in_clear is None else "bad" if in_clear else "good"


def _envelope_words(own: dict[str, Any]) -> str:
    envelope = own.get("envelope", {})
    sender, to = envelope.get("from"), envelope.get("to", [])
    words = f"from <{sender}>" if sender else ""
    return f"{words}{' ' if words and to else ''}{'to ' + listed([f'<{one}>' for one in to], limit=3) if to else ''}"


def _envelope_statements(own: dict[str, Any], lines: list[Kept]) -> list[Statement]:
    said = []
    words = _envelope_words(own)
    if words:
        said.append(Statement(f"{_first_upper(words)}."))
    subject = next((kept.value("subject") for kept in lines if kept.action == "subject"), None)
    message_id = next((kept.value("message_id") for kept in lines if kept.action == "message-id"), None)
    facts = [f'subject "{subject}"'] if subject else []
    facts += [f"Message-ID <{message_id}>"] if message_id else []
    facts += [f"{own['size_bytes']:,} bytes"] if "size_bytes" in own else []
    if facts:
        said.append(Statement(f"{_first_upper(', '.join(facts))}."))
    said += [Statement(_trouble_words(kept), [kept.text]) for kept in lines if kept.action == "recipient-rejected"][:MAX_PROOF_LINES]
    return said


def _quarantine_words(kept: Kept) -> str:
    name = kept.value("quarantine")
    reason = kept.value("reason")
    because = f" ({reason})" if reason else ""
    where = f' "{name}"' if name else ""
    match kept.action:
        case "message-quarantined":
            return f"put into quarantine{where}{because}"
        case "quarantine-tagged":
            return "marked for quarantine"
        case "quarantine-released":
            return f"released from {f'quarantine{where}' if name else 'all quarantines'}{because}"
        case "quarantine-deleted":
            return f"deleted from {f'quarantine{where}' if name else 'all quarantines'}{because}"
        case _:
            return "the spam quarantine did not take it"


def _trouble_words(kept: Kept) -> str:
    values = kept.fact.values or {}
    reason = values.get("reason")
    because = f": {reason}" if reason else ""
    match kept.action:
        case "recipient-rejected":
            return f"Recipient <{values.get('address', '')}> was refused{f' by {by}' if (by := values.get('by')) else ''}."
        case "sender-verification":
            return f"Sender <{values.get('address', '')}> was {values.get('result', 'checked')}{because}."
        case "receiving-failed":
            return f"Receiving failed{because}."
        case "connection-error":
            return f"The connection failed{because}."
        case "message-aborted":
            return f"the message was given up{because}."
        case "message-dropped":
            return f"the message was dropped{because}."
        case "message-bounced":
            return f"the message was bounced{because}."
        case "recipients-deleted":
            return f"{rids_words(kept.fact.rids or (0,))} deleted by an administrator."
        case _:
            word = "bounced" if kept.action == "recipient-bounced" else "dropped"
            return f"{rids_words(kept.fact.rids or (0,))} {word}{because}."


def _result_words(own: dict[str, Any]) -> str:
    facts = own["delivery"]
    response, reason, retry = facts.get("response"), facts.get("reason"), facts.get("retry_at")
    answer = f', the server answered "{response}"' if response else ""
    because = f" ({reason})" if reason else ""
    again = f", to be tried again {retry}" if retry else ""
    match facts["result"]:
        case "delivered":
            return f"accepted by the server{answer}"
        case "bounced":
            return f"refused for good{because}{answer}"
        case "delayed":
            return f"put off{because}{answer}{again}"
        case "tls_blocked":
            return f"not sent, because TLS had failed{because}{again}"
        case "uncertain":
            return "the connection was lost after the data, so it may have been delivered or not"
        case "connection_error":
            return f"the connection failed before a result{because}{again}"
        case "unknown":
            return "what became of it is not in the log"
        case other:
            return RESULTS.get(other, other) + because


def _delivery_short(own: dict[str, Any]) -> str:
    result = own["delivery"]["result"]
    clear = own["tls"].get("in_clear")
    how = "" if result == "tls_blocked" else f", {leg_words(clear)}"
    return (
        f"{rids_words(own['rids'])} {'with a result that is not in the log' if result == 'unknown' else RESULTS.get(result, result)}{how}"
    )


def _recipient_fate(one: dict[str, Any]) -> str:
    result, in_clear = one["result"], one.get("in_clear")
    if result in ("delivered", "uncertain"):
        word = "delivered" if result == "delivered" else "perhaps delivered"
        return f"{word} {leg_words(in_clear)} to" if in_clear is not None else f"{word}, TLS not known, to"
    return {
        "tls_blocked": "not sent for want of TLS to",
        "bounced": "bounced for",
        "deleted": "deleted for",
        "dropped": "dropped for",
        "quarantined": "quarantined for",
        "moved": "went on in another message for",
        "pending": "not yet delivered to",
    }.get(result, f"{result} for")


def _recipient_words(one: dict[str, Any], reception_in_clear: bool | None, *, received: bool) -> str:  # noqa: FBT001 (three values)
    result, posture, out = one["result"], one["posture"], one.get("in_clear")
    words = RESULTS.get(result, result)
    if result not in ("delivered", "uncertain"):
        return words
    if posture == "encrypted":
        return f"{words}, under TLS {'on both legs' if received else 'on the way out'}"
    if posture == "exposed":
        legs = [leg for leg, clear in (("in", received and reception_in_clear), ("out", out)) if clear]
        return f"{words}, in CLEAR TEXT on the way {' and '.join(legs)}"
    missing = [leg for leg, clear in (("in", reception_in_clear if received else False), ("out", out)) if clear is None]
    return f"{words}; whether under TLS cannot be told for the way {' and '.join(missing)}"


def _consolidated(events: list[dict[str, Any]]) -> Section:
    said = []
    for event in events:
        own = event["cisco_esa"]
        legs = []
        for name, tls in (("in", own.get("reception", {}).get("tls", {})), ("out", own.get("delivery_tls", {}))):
            words = cipher_words(tls)
            legs.append(f"TLS {name}: {tls.get('outcome', 'unknown')}{f' ({words})' if words else ''}")
        action = event.get("event", {}).get("action", "")
        original = event.get("event", {}).get("original")
        said.append(
            Statement(
                f"A consolidated event says {action}; {', '.join(legs)}. A field that is absent proves nothing.",
                [original] if original else [],
            )
        )
    return Section("Consolidated event log", "", said)
