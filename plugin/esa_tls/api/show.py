"""Records for people: an entry that was looked up as a block, a record that was watched as a line.

All text from outside passes through `printable`; nothing of it is read as markup. What is absent is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from esa_tls.core.sentences import sentence
from esa_tls.offline.terminal import printable

__all__ = ["ending", "entry", "row"]

Record = Mapping[str, Any]

_STYLES = {
    "success": "green",
    "encrypted": "green",
    "failed": "bold red",
    "exposed": "bold red",
    "none": "yellow",
    "partial": "yellow",
    "blocked": "yellow",
    "open": "bold",
}


def _text(value: object, style: str | None = None) -> Text:
    return Text(printable(str(value)), style=style or "")


def _word(word: object) -> Text:
    return _text(word, _STYLES.get(str(word)))


# -- entries ---------------------------------------------------------------------------------------------------------------------
def entry(record: Record, *, is_open: bool) -> Iterator[RenderableType]:
    """A connection or message as a block."""
    own = record["cisco_esa"]
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    if own["record"] == "message":
        title = f"MID {own.get('mid')}"
        rows = _message_rows(record)
    else:
        title = str(own.get("connection", {}).get("id", "connection"))
        rows = _connection_rows(record)
    yield Text.assemble(
        (printable(title), "bold"),
        f"  {own['record']}, ",
        _word("open" if is_open else "gone"),
        f"  on {printable(own.get('appliance', ''))}",
    )
    for name, value in rows:
        if value:
            facts.add_row(f"  {name}", value)
    yield facts
    if own["record"] == "message":
        yield from _message_tables(own)
    yield Text("")


def _connection_rows(record: Record) -> Iterator[tuple[str, Text | None]]:
    own = record["cisco_esa"]
    facts = own.get("connection", {})
    inbound = own.get("direction") == "inbound"
    yield "direction", _some(own.get("direction"))
    yield "TLS", tls(own.get("tls", {}))
    yield "peer", _end(record.get("source" if inbound else "destination", {}))
    yield "local", _end(record.get("destination" if inbound else "source", {}))
    yield "sender group", _some(own.get("hat", {}).get("sender_group"))
    yield "policy", _some(own.get("hat", {}).get("policy"))
    yield "messages", _some(", ".join(f"MID {mid}" for mid in facts.get("mids", ())))
    yield "error", _some(facts.get("error", {}).get("reason"))
    yield from _times(record)
    yield "ended by", _some(facts.get("end"))


def _message_rows(record: Record) -> Iterator[tuple[str, Text | None]]:
    own = record["cisco_esa"]
    email = record.get("email", {})
    yield "from", _some(own.get("envelope", {}).get("from"))
    yield "subject", _some(email.get("subject"))
    yield "Message-ID", _some(email.get("message_id"))
    yield "mail flow", _some(own.get("mail_flow"))
    yield "parent", _some(f"MID {own['parent_mid']} ({own.get('child_kind', 'child')})" if "parent_mid" in own else None)
    reception = own.get("reception")
    if reception is not None:
        yield "received on", _some(reception.get("connection_id"))
        yield "", Text.assemble("TLS ", tls(reception.get("tls", {})))
        yield "received from", _end(reception.get("peer", {}))
    posture = _word(own.get("posture", ""))
    legs = [Text.assemble(f"{way} ", _word(own[f"posture_{way}"])) for way in ("in", "out") if own.get(f"posture_{way}")]
    if legs:
        posture = Text.assemble(posture, " (" if posture else "(", Text(", ").join(legs), ")")
    yield "posture", posture
    yield from _times(record)
    yield "ended by", _some(own.get("message", {}).get("end"))
    yield "reason", _some(own.get("message", {}).get("end_reason"))


def _message_tables(own: Record) -> Iterator[RenderableType]:
    deliveries, recipients = own.get("deliveries", ()), own.get("recipients", ())
    if deliveries:
        table = _table("DELIVERY", "RIDS", "RESULT", "TLS", "TO")
        for one in deliveries:
            rids = ",".join(map(str, one.get("rids", ())))
            table.add_row(
                "",
                _text(one.get("connection_id", "-")),
                _text(rids),
                _text(one.get("result", "")),
                tls(one.get("tls", {})),
                _end(one.get("peer", {})),
            )
        yield table
    if recipients:
        table = _table("RID", "RECIPIENT", "RESULT", "POSTURE", "TLS")
        for one in recipients:
            table.add_row(
                "",
                _text(one.get("rid", "")),
                _text(one.get("address", "-")),
                _text(one.get("result", "")),
                _word(one.get("posture", "")),
                _word(one.get("tls_outcome", "")),
            )
        yield table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("  ")  # indents it
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _times(record: Record) -> Iterator[tuple[str, Text | None]]:
    event = record.get("event", {})
    yield "began", _some(event.get("start", "before the first line seen"))
    yield "last line", _some(record.get("@timestamp"))


def _some(value: object) -> Text | None:
    return _text(value) if value not in (None, "") else None


def tls(found: Record) -> Text:
    """`success (line) TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384`."""
    text = Text.assemble(_word(found.get("outcome", "unknown")))
    if "evidence" in found:
        text.append(f" ({printable(found['evidence'])})", style="dim")
    parts = [
        found.get("protocol"),
        found.get("cipher"),
        "required" if found.get("required") else None,
        "broken" if found.get("broken") else None,
    ]
    failure = found.get("failure", {})
    parts += [str(failure["class"]).replace("_", " ") if "class" in failure else None, failure.get("reason")]
    if "in_clear" in found:
        parts.append("in clear text" if found["in_clear"] else "not in clear text")
    for part in parts:
        if part:
            text.append(f" {printable(str(part))}")
    return text


def _end(end: Record) -> Text | None:
    address = end.get("ip") or end.get("address")
    text = " ".join(str(part) for part in (end.get("domain"), f"[{address}]" if address else None) if part)
    return _some(f"{text}:{end['port']}" if text and "port" in end else text)


def ending(count: int, *, incomplete: bool) -> Iterator[RenderableType]:
    """What stands below the results."""
    if not count:
        yield Text("Nothing is known of that now." if not incomplete else "Nothing was found in the time there is for a search.")
    elif incomplete:
        yield Text("There may be more.")


# -- records as they happen ------------------------------------------------------------------------------------------------------
def row(record: Record) -> Text:
    """A record as a line: when, what, whose, TLS, and in a sentence."""
    own = record.get("cisco_esa", {})
    when = str(record.get("@timestamp", "")).replace("T", " ").removesuffix("Z")
    kind = str(own.get("record", "?"))
    found = own.get("tls", {})
    word = str(found.get("outcome") or own.get("posture") or "")
    way = {"inbound": "in ", "outbound": "out"}.get(str(own.get("direction", "")), "   ")
    evidence = f" ({found['evidence']})" if "evidence" in found else ""
    return Text.assemble(
        (printable(when), "dim"),
        " ",
        f"{printable(kind):<12} {printable(str(own.get('connection', {}).get('id', own.get('appliance', '')))):<24} {way} ",
        (f"{printable(word):<11}", _STYLES.get(word, "")),
        (f"{printable(evidence):<16}", "dim"),
        " ",
        printable(sentence(record)) if kind != "?" else "a record of a kind that this version does not know",
    )
