"""What is said of the TLS of one connection, why it is believed, and the lines that prove it.

An outcome that a line says is proven by that line. An outcome that rests on the absence of a line is proven by the lines around the place
where it would be: the first of the connection and the one that started the mail.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from esa_tls.offline.explain_search import TLS_ACTIONS, Kept, Key
from esa_tls.offline.explain_words import cipher_words, counted, failure_words

MAX_PROOF_LINES = 8
"""Lines shown under one statement."""

START_ACTIONS = frozenset({"message-started", "delivery-started"})
END_ACTIONS = frozenset({"connection-closed", "connection-killed", "connection-exited"})
BAD_END_ACTIONS = frozenset(
    {"connection-lost", "connection-disconnected", "connection-error", "receiving-failed", "connection-killed", "connection-exited"}
)


class Statement(msgspec.Struct):
    """One sentence, and the lines of the log that prove it. `tone`: `good`, `bad`, `doubt` or empty."""

    text: str
    lines: list[str] = []
    tone: str = ""


def texts(kept: Iterable[Kept]) -> list[str]:
    """The lines as they stand in the log, not too many."""
    lines = [one.text for one in kept]
    if len(lines) > MAX_PROOF_LINES:
        return [*lines[: MAX_PROOF_LINES - 1], f"... and {len(lines) - MAX_PROOF_LINES + 1:,} lines more"]
    return lines


def tls_statements(connection: Key, lines: list[Kept], tls: dict[str, Any], *, mail: Kept | None) -> list[Statement]:
    """What is known of the TLS of a connection, and why.

    `lines` are the connection's, `tls` the record's; `mail` is the line that started the mail in question.
    """
    about = [kept for kept in lines if kept.action in TLS_ACTIONS]
    match tls.get("outcome"):
        case "success":
            return _success(tls, about)
        case "failed":
            wanted = ("starttls-not-supported", "tls-failed", "tls-required-failed")
            text = f"TLS failed: {failure_words(tls.get('failure', {}))}."
            if tls.get("required"):
                text += " Mail that has to go under TLS does not go over this connection."
            return [Statement(text, texts(kept for kept in about if kept.action in wanted), "bad")]
        case "none":
            return _none(connection, tls, lines, mail)
        case _:
            return [_unknown(connection, lines)]


def _success(tls: dict[str, Any], about: list[Kept]) -> list[Statement]:
    proof = [kept for kept in about if kept.action == "tls-succeeded"][:2]
    words = cipher_words(tls)
    text = f"TLS was established{': ' + words if words else ''}. The appliance says so."
    if not proof:
        proof = [kept for kept in about if kept.action == "tls-data-read"][:1]
        text = "TLS was established: the appliance read data through it."
    if tls.get("verified"):
        proof += [kept for kept in about if kept.action == "certificate-verified"][:1]
        text += " The certificate was verified."
    said = [Statement(text, texts(proof), "good")]
    up = proof[0].sequence if proof else 0
    failures = [kept for kept in about if kept.action in ("tls-failed", "tls-required-failed")]
    before = [kept for kept in failures if kept.sequence < up]
    after = [kept for kept in failures if kept.sequence > up]
    if before:
        said.append(Statement("An earlier try on the same connection had failed.", texts(before)))
    if after and tls.get("broken"):
        reason = after[0].value("reason")
        said.append(Statement(f"The session broke after it had been up{f' ({reason})' if reason else ''}.", texts(after), "doubt"))
    return said


def _none(connection: Key, tls: dict[str, Any], lines: list[Kept], mail: Kept | None) -> list[Statement]:
    if tls.get("evidence") == "line":
        said = [kept for kept in lines if kept.action == "starttls-not-supported"]
        return [Statement("No TLS: the server does not offer STARTTLS. The appliance says so.", texts(said), "bad")]
    opened = next((kept for kept in lines if kept.action == "connection-opened"), None)
    last = mail or next((kept for kept in lines if kept.action in START_ACTIONS or kept.action in END_ACTIONS), None)
    what = "the end of the connection" if last is not None and last.action in END_ACTIONS else "the start of the mail"
    first_sequence, last_sequence = (opened.sequence if opened else 0), (last.sequence if last else 0)
    between = [kept for kept in lines if first_sequence < kept.sequence < last_sequence]
    out_of_order = [kept for kept in between if kept.action in TLS_ACTIONS]
    nothing = f"no line about TLS between it and {what}"
    if out_of_order:
        nothing = f"a line about TLS only after {what}, by its time"
    elif len(between) > 1:
        nothing = f"none of the {counted(len(between), 'line')} between it and {what} is about TLS"
    who = "The client did not start TLS" if connection.kind == "I" else "TLS was not used"
    proof = texts(kept for kept in (opened, *out_of_order, last) if kept is not None)
    if tls.get("evidence") == "absence_lossy":
        doubt = (
            f"{who}, as far as this log tells: it has the first line of the connection, and {nothing}. But lines may be missing or late "
            "here (they came by syslog, or are said to be lossy, or the appliance's clock jumped): likely, not proven."
        )
        statements = [Statement(doubt, proof, "doubt")]
    else:
        sure = f"{who}: the log has the connection from its first line on and in order, and {nothing}."
        statements = [Statement(sure, proof, "bad")]
    later = [kept for kept in lines if kept.action == "tls-succeeded" and kept.sequence > last_sequence]
    if later:
        statements.append(Statement("TLS was established on the same connection later; that is for later messages.", texts(later)))
    return statements


def _unknown(connection: Key, lines: list[Kept]) -> Statement:
    name = f"{'ICID' if connection.kind == 'I' else 'DCID'} {connection.number}"
    ended = [kept for kept in lines if kept.action in BAD_END_ACTIONS]
    proof = lines[-1:]
    why = "neither a line about TLS nor mail came"
    if not lines:
        why = f"the log has no line of {name} itself"
    elif not any(kept.action == "connection-opened" for kept in lines):
        why = f"the log has no beginning of {name}, so a line about TLS may have been there. This is its first line"
        proof = lines[:1]
    elif ended:
        why = "the connection ended out of order before a line about TLS and before any mail"
        proof = ended[:2]
    return Statement(f"Whether TLS was used cannot be told: {why}.", texts(proof), "doubt")
