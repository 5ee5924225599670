"""The table of every output field (schema version 1): docs, the typed schema and the stores' templates are made from it.

The names are spelt where the records are built (`records.py`, `records_consolidated.py`, `encode.py`); a test walks every record that
the tests produce and finds each of its paths here, with a value of the type said. Paths are dotted; `many` = always an array.
Fields of the objects in a nested list (`cisco_esa.deliveries[]`, `cisco_esa.recipients[]`) have the list's path in front.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from esa_tls.core.records_consolidated import CEF_NAMES

Type = Literal["keyword", "text", "long", "float", "boolean", "date", "ip", "nested"]


class Field(msgspec.Struct, frozen=True):
    """One field. `kinds`: the records that may have it. `text` is not indexed as a whole."""

    path: str
    type: Type
    kinds: tuple[str, ...]
    meaning: str
    many: bool = False

    @property
    def name(self) -> str:
        """The path as the manual shows it: `[]` behind it = always an array."""
        return f"{self.path}[]" if self.many else self.path


_ALL: Final = ("line", "connection", "delivery", "message", "consolidated")
_LINE, _CONNECTION, _DELIVERY, _MESSAGE, _CONSOLIDATED = ((kind,) for kind in _ALL)
_SUMMARIES: Final = _ALL[1:]
_TRIPLE: Final = ("line", "connection", "delivery")
_MAIL: Final = ("line", "delivery", "message", "consolidated")


_IF_ABOUT_TLS: Final = "; on lines: only on those about TLS"
"""What says the triple in other words, or describes the session, is not repeated on every line of a connection (docs/records.md)."""


def _tls(prefix: str, kinds: tuple[str, ...], of: str, *, in_clear: bool) -> tuple[Field, ...]:
    where = _IF_ABOUT_TLS if "line" in kinds else ""
    fields = (
        Field(f"{prefix}.outcome", "keyword", kinds, f"{of}: `success`, `failed`, `none`, `unknown`; `pending` on lines only"),
        Field(f"{prefix}.evidence", "keyword", kinds, "why it is believed: `line`, `absence`, `absence_lossy`, `gap`"),
        Field(f"{prefix}.required", "boolean", kinds, "true when a line said that TLS was required"),
        Field(f"{prefix}.failure.class", "keyword", kinds, "what failed, of a closed list"),
        Field(f"{prefix}.failure.reason", "keyword", kinds, f"the reason as logged{where}"),
        Field(f"{prefix}.broken", "boolean", kinds, "true: the TLS session failed after it had been up"),
        Field(f"{prefix}.protocol", "keyword", kinds, f"as logged{where}"),
        Field(f"{prefix}.cipher", "keyword", kinds, f"as logged (OpenSSL name){where}"),
        Field(f"{prefix}.verified", "boolean", kinds, f"whether the certificate was verified, when a line said so{where}"),
        Field(f"{prefix}.dane", "keyword", kinds, f"DANE status, when a line said so{where}"),
    )
    clear = Field(
        f"{prefix}.in_clear", "boolean", kinds, "mail went in clear on this leg (true), under TLS (false); absent: unknown or no mail"
    )
    return (*fields, clear) if in_clear else fields


def _expected(prefix: str, kinds: tuple[str, ...]) -> tuple[Field, ...]:
    return (
        Field(f"{prefix}.expected", "boolean", kinds, "true: the operator's lists (`require_tls`) say that it has to go under TLS"),
        Field(f"{prefix}.partners", "keyword", kinds, "the partners of these lists that it is about", many=True),
    )


def _end(end: str) -> tuple[Field, ...]:
    kinds = _TRIPLE + _CONSOLIDATED
    return (
        Field(f"{end}.ip", "ip", kinds, "address of this end; the peer is the source inbound, the destination outbound"),
        Field(f"{end}.address", "keyword", kinds, "the same, if it is no IP address (masked)"),
        Field(f"{end}.domain", "keyword", kinds, "its name (PTR)"),
        Field(f"{end}.port", "long", _TRIPLE, "its port"),
    )


FIELDS: Final[tuple[Field, ...]] = (
    Field(
        "@timestamp", "date", _ALL, "line: the (innermost) time it carries; summaries: the time of the line that ended it, or the deadline"
    ),
    Field("event.id", "keyword", _ALL, "deterministic, 26 characters, time-ordered"),
    Field("event.category", "keyword", _ALL, "`network`, `email` or `host`; on lines: only on those about a connection", many=True),
    Field(
        "event.type",
        "keyword",
        _ALL,
        "`connection` with `start`, `end`, `protocol`, `allowed`, `denied`, `info`; or `info`; on lines: only on those about a connection",
        many=True,
    ),
    Field("event.action", "keyword", _ALL, "what happened, of a closed list"),
    Field("event.outcome", "keyword", _SUMMARIES, "`success`, `failure`, `unknown`; clear text is no failure"),
    Field("event.sequence", "long", _ALL, "counter of the appliance's lines, never resets; summaries: of the last line"),
    Field("event.created", "date", _ALL, "when the sidecar received the deciding line"),
    Field("event.start", "date", ("connection", "delivery", "message"), "absent if the beginning was not seen"),
    Field("event.end", "date", ("connection", "delivery", "message"), "the same as `@timestamp`"),
    Field("event.duration", "long", ("connection", "delivery", "message"), "nanoseconds; absent if the beginning was not seen"),
    Field("event.original", "text", _LINE, "the line, byte for byte"),
    Field("observer.hostname", "keyword", _SUMMARIES, "syslog host of the appliance"),
    Field("observer.serial_number", "keyword", _ALL, "from `Version: ... SN: ...` lines; on lines: only on those"),
    Field("observer.version", "keyword", _ALL, "AsyncOS version; on lines: only on those that say it"),
    Field("observer.ingress.interface.name", "keyword", ("line", "connection"), "listener's interface of an inbound connection"),
    Field("observer.egress.interface.name", "keyword", ("line", "connection"), "interface of an outbound connection"),
    Field("host.name", "keyword", _ALL, "the appliance"),
    Field("cisco_esa.record", "keyword", _ALL, "`line`, `connection`, `delivery`, `message`, `consolidated`"),
    Field("cisco_esa.appliance", "keyword", _ALL, "the appliance"),
    Field("cisco_esa.epoch", "long", _ALL, "the life of its id counters"),
    Field(
        "cisco_esa.flags",
        "keyword",
        _ALL,
        "`late`, `duplicate`, `contradiction`, `truncated`, `reconstructed`, `continuation`, `bad_time`, `year_inferred`",
        many=True,
    ),
    Field("related.ip", "ip", _SUMMARIES, "addresses in the record", many=True),
    Field("related.hosts", "keyword", _SUMMARIES, "hosts and domains in the record", many=True),
    Field("related.user", "keyword", _SUMMARIES, "mail addresses in the record", many=True),
    # the triple
    Field("cisco_esa.connection.id", "keyword", _TRIPLE, "`{appliance}/{epoch}/ICID/{n}` or `.../DCID/{n}`"),
    Field("cisco_esa.direction", "keyword", _TRIPLE, "`inbound` (ICID), `outbound` (DCID)"),
    *_tls("cisco_esa.tls", _TRIPLE, "the connection's TLS", in_clear=True),
    *_expected("cisco_esa.tls", ("connection", "delivery", "message")),
    Field("cisco_esa.icid", "long", ("line", "connection", "consolidated"), "reception connection"),
    Field("cisco_esa.dcid", "long", _ALL[:3] + _CONSOLIDATED, "delivery connection"),
    Field("cisco_esa.mid", "long", _MAIL, "message"),
    Field("cisco_esa.rids", "long", ("line", "delivery"), "recipients, at most 100", many=True),
    Field("network.direction", "keyword", _TRIPLE, f"`ingress` (ICID), `egress` (DCID){_IF_ABOUT_TLS}"),
    Field("tls.established", "boolean", _TRIPLE, f"success: true; failed, none: false{_IF_ABOUT_TLS}"),
    Field("tls.version_protocol", "keyword", _TRIPLE, f"`tls`, `ssl`{_IF_ABOUT_TLS}"),
    Field("tls.version", "keyword", _TRIPLE, f"such as `1.2`{_IF_ABOUT_TLS}"),
    Field("tls.cipher", "keyword", _TRIPLE, f"IANA name{_IF_ABOUT_TLS}"),
    Field("tls.client.x509.subject.common_name", "keyword", _TRIPLE, f"the client's, inbound{_IF_ABOUT_TLS}"),
    Field("tls.server.x509.subject.common_name", "keyword", _TRIPLE, f"the server's, outbound{_IF_ABOUT_TLS}"),
    # line
    Field("cisco_esa.raw_base64", "text", _LINE, "the bytes of a line that is not UTF-8"),
    Field("log.level", "keyword", _LINE, "`Critical`, `Warning`, `Info`, `Debug`, `Trace`"),
    Field("log.file.path", "keyword", _LINE, "as the sender says"),
    Field("log.syslog.priority", "long", _LINE, "PRI of the outermost syslog prefix"),
    Field("log.syslog.appname", "keyword", _LINE, "tag of the outermost syslog prefix"),
    Field("cisco_esa.log_name", "keyword", _LINE, "name of the log subscription"),
    Field("cisco_esa.time_source", "keyword", _LINE, "where `@timestamp` is from: `sender` or `received`; absent: the line carries it"),
    # connection
    *(field for end in ("source", "destination") for field in _end(end)),
    Field(
        "cisco_esa.connection.end",
        "keyword",
        _CONNECTION,
        "`close`, `lost`, `killed`, `disconnected`, `error`, `timeout`, `evicted`, `epoch_reset`, `stream_end`",
    ),
    Field("cisco_esa.connection.lost", "boolean", _CONNECTION, "the peer dropped it"),
    Field("cisco_esa.connection.start_seen", "boolean", _CONNECTION, "its beginning was seen"),
    Field("cisco_esa.connection.mids", "long", _CONNECTION, "messages on it, at most 100", many=True),
    Field("cisco_esa.connection.message_count", "long", _CONNECTION, "how many messages it carried"),
    Field("cisco_esa.connection.for_domain", "keyword", _CONNECTION, "domain named by its TLS or error line"),
    Field("cisco_esa.connection.error.reason", "keyword", _CONNECTION, "from `Connection Error` and `Receiving Failed`"),
    Field("cisco_esa.connection.error.details", "keyword", _CONNECTION, "the same"),
    Field("cisco_esa.hat.policy", "keyword", ("line", "connection", "consolidated"), "mail flow policy"),
    Field("cisco_esa.hat.sender_group", "keyword", ("line", "connection", "consolidated"), "sender group"),
    Field("cisco_esa.hat.rule", "keyword", ("line", "connection"), "rule that matched"),
    Field("cisco_esa.hat.sbrs", "float", ("line", "connection", "consolidated"), "reputation score, when a number"),
    Field("cisco_esa.hat.country", "keyword", ("line", "connection", "consolidated"), "country of the sender"),
    Field("cisco_esa.mail_flow", "keyword", _ALL, "`incoming`, `outgoing`, `internal`; another thing than direction"),
    # delivery
    Field(
        "cisco_esa.delivery.result",
        "keyword",
        _DELIVERY,
        "`delivered`, `bounced`, `delayed`, `uncertain`, `deleted`, `tls_blocked`, `connection_error`, `quarantined`, `unknown`",
    ),
    Field("cisco_esa.delivery.ordinal", "long", _DELIVERY, "n-th attempt seen"),
    Field("cisco_esa.delivery.attempt", "long", _DELIVERY, "n-th attempt, if the message's beginning was seen"),
    Field("cisco_esa.delivery.response", "keyword", ("line", "delivery"), "the server's answer"),
    Field("cisco_esa.delivery.code", "long", ("line", "delivery"), "SMTP code"),
    Field("cisco_esa.delivery.enhanced_code", "keyword", ("line", "delivery"), "enhanced status code"),
    Field("cisco_esa.delivery.reason", "keyword", _DELIVERY, "why it was bounced or delayed, in the appliance's words"),
    Field("cisco_esa.delivery.retry_at", "keyword", ("line", "delivery"), "next try, as printed"),
    Field("cisco_esa.delivery.domains", "keyword", _DELIVERY, "domains of its recipients", many=True),
    Field("cisco_esa.posture_in", "keyword", ("delivery", "message"), "posture of the reception alone; absent: nothing was received"),
    # mail
    Field("email.local_id", "keyword", ("delivery", "message", "consolidated"), "the MID"),
    Field("email.message_id", "keyword", _MAIL, "Message-ID without angle brackets"),
    Field("email.subject", "keyword", _MAIL, "subject as printed"),
    Field("email.from.address", "keyword", _MAIL, "envelope sender", many=True),
    Field("email.to.address", "keyword", _MAIL, "envelope recipients", many=True),
    Field("cisco_esa.envelope.from", "keyword", _MAIL[1:], "envelope sender"),
    Field("cisco_esa.envelope.to", "keyword", _MAIL[1:], "envelope recipients, at most 100", many=True),
    # message
    Field("cisco_esa.posture", "keyword", _MESSAGE, "`encrypted`, `exposed`, `blocked`, `partial`, `undelivered`, `continued`, `unknown`"),
    Field("cisco_esa.posture_out", "keyword", _MESSAGE, "posture of the deliveries alone"),
    Field("cisco_esa.clear.recipient_count", "long", _MESSAGE, "recipients whose delivery went in clear"),
    Field("cisco_esa.clear.domains", "keyword", _MESSAGE, "their domains", many=True),
    Field("cisco_esa.size_bytes", "long", ("line", "message"), "size"),
    Field("cisco_esa.mail_policy", "keyword", ("line", "message", "consolidated"), "per-recipient policy"),
    Field(
        "cisco_esa.message.end", "keyword", _MESSAGE, "`finished`, `aborted`, `settled`, `timeout`, `evicted`, `epoch_reset`, `stream_end`"
    ),
    Field("cisco_esa.message.end_reason", "keyword", _MESSAGE, "why it was aborted, dropped or bounced"),
    Field("cisco_esa.parent_mid", "long", ("line", "message"), "the message it was made from"),
    Field("cisco_esa.child_mids", "long", _MESSAGE, "messages made from it, at most 100", many=True),
    Field("cisco_esa.child_kind", "keyword", ("line", "message"), "`split`, `rewritten`, `copy`, `bounce`, `notify`, `reinjected`"),
    Field("cisco_esa.reception.connection_id", "keyword", _MESSAGE, "connection it was received on"),
    Field("cisco_esa.reception.icid", "long", _MESSAGE, "the same, as a number"),
    *_tls("cisco_esa.reception.tls", ("message", "consolidated"), "TLS of the reception when the message was started", in_clear=True),
    *_expected("cisco_esa.reception.tls", _MESSAGE),
    Field("cisco_esa.reception.peer.ip", "ip", _MESSAGE, "who sent it"),
    Field("cisco_esa.reception.peer.address", "keyword", _MESSAGE, "the same, if it is no IP address"),
    Field("cisco_esa.reception.peer.domain", "keyword", _MESSAGE, "its PTR name"),
    Field("cisco_esa.reception.hat.sender_group", "keyword", _MESSAGE, "sender group"),
    Field("cisco_esa.deliveries", "nested", _MESSAGE, "one per attempt and result, in order, at most 100", many=True),
    Field("cisco_esa.deliveries.connection_id", "keyword", _MESSAGE, "connection of the attempt"),
    Field("cisco_esa.deliveries.dcid", "long", _MESSAGE, "the same, as a number"),
    Field("cisco_esa.deliveries.rids", "long", _MESSAGE, "recipients, at most 100", many=True),
    Field("cisco_esa.deliveries.result", "keyword", _MESSAGE, "as in `cisco_esa.delivery.result`"),
    *_tls("cisco_esa.deliveries.tls", _MESSAGE, "TLS of the attempt", in_clear=True),
    *_expected("cisco_esa.deliveries.tls", _MESSAGE),
    Field("cisco_esa.deliveries.peer.ip", "ip", _MESSAGE, "the server"),
    Field("cisco_esa.deliveries.peer.address", "keyword", _MESSAGE, "the same, if it is no IP address"),
    Field("cisco_esa.deliveries.peer.domain", "keyword", _MESSAGE, "its name"),
    Field("cisco_esa.deliveries.peer.port", "long", _MESSAGE, "its port"),
    Field("cisco_esa.deliveries.response", "keyword", _MESSAGE, "the server's answer"),
    Field("cisco_esa.delivery_count", "long", _MESSAGE, "number of deliveries, also beyond 100"),
    Field("cisco_esa.recipients", "nested", _MESSAGE, "the final word per recipient, at most 100", many=True),
    Field("cisco_esa.recipients.rid", "long", _MESSAGE, "recipient"),
    Field("cisco_esa.recipients.address", "keyword", _MESSAGE, "its address"),
    Field("cisco_esa.recipients.domain", "keyword", _MESSAGE, "its domain"),
    Field(
        "cisco_esa.recipients.result",
        "keyword",
        _MESSAGE,
        "`delivered`, `bounced`, `deleted`, `dropped`, `quarantined`, `moved`, `tls_blocked`, `uncertain`, `pending`",
    ),
    Field("cisco_esa.recipients.posture", "keyword", _MESSAGE, "its posture; `moved` went on with a child"),
    Field("cisco_esa.recipients.tls_outcome", "keyword", _MESSAGE, "TLS of the connection it was delivered (or blocked) on"),
    Field("cisco_esa.recipients.in_clear", "boolean", _MESSAGE, "whether its delivery went in clear"),
    Field("cisco_esa.recipient_count", "long", _MESSAGE, "number of recipients, also beyond 100"),
    # consolidated
    *_tls("cisco_esa.delivery_tls", _CONSOLIDATED, "TLS of the delivery as the line says it", in_clear=False),
    Field("cisco_esa.cef.product", "keyword", _CONSOLIDATED, "model of the appliance"),
    *(
        Field(f"cisco_esa.cef.{name}", "keyword", _CONSOLIDATED, "as printed: " + ", ".join(f"`{key}`" for key in keys))
        for name, keys in {
            name: [key for key, other in CEF_NAMES.items() if other == name] for name in dict.fromkeys(CEF_NAMES.values())
        }.items()
    ),
)
"""Every field, in the order of the docs."""
