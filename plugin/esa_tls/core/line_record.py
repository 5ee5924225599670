"""The `line` record: what a line says beside its prefix and its leg, and the record as nested dicts.

`line_dict` is the reference; the encoders splice the same from cached pieces.
"""

from __future__ import annotations

from typing import Any, Final

from mypy_extensions import mypyc_attr

from esa_tls.core.connections import Leg
from esa_tls.core.facts import Fact
from esa_tls.core.prefix import Prefix
from esa_tls.core.prefix_facts import PrefixFacts
from esa_tls.core.records import ACTIONS, TLS_ACTIONS, facts_of, triple, triple_on_line


@mypyc_attr(acyclic=True, free_list_len=1)
class Line:
    """A line on its way into a record: what is left to say beside its prefix and its leg."""

    def __init__(
        self,
        text: str,
        fact: Fact,
        record_hash: str,
        sequence: int,
        created: str,
        flags: tuple[str, ...] = (),
        raw_base64: str | None = None,
    ) -> None:
        self.text = text
        self.fact = fact
        self.record_hash = record_hash
        self.sequence = sequence
        self.created = created
        self.flags = flags
        self.raw_base64 = raw_base64


@mypyc_attr(acyclic=True)
class Hold:
    """A line that cannot leave yet: its connection is undecided, or (`Appliance.candidate`) its stamp is.

    Of a candidate: `again`: the line was seen before and changes nothing; `left`: its record could not wait and has left.
    """

    def __init__(self, line: Line, prefix: PrefixFacts, epoch: int, *, again: bool = False, left: bool = False) -> None:
        self.line = line
        self.prefix = prefix
        self.epoch = epoch
        self.again = again
        self.left = left


def own_of(prefix: Prefix, line: Line) -> dict[str, Any]:
    """What a line's record has under `cisco_esa`, but for the triple and the line's own facts."""
    facts = prefix.facts
    own: dict[str, Any] = {"record": "line", "appliance": facts.appliance, "epoch": prefix.epoch}
    if facts.time_source != "line":
        own["time_source"] = facts.time_source
    if facts.log_name:
        own["log_name"] = facts.log_name
    flags = facts.flags + line.flags
    if flags:
        own["flags"] = sorted(set(flags))
    if line.raw_base64 is not None:
        own["raw_base64"] = line.raw_base64
    return own


def log_of(prefix: Prefix) -> dict[str, Any]:
    """What a line's record has under `log`."""
    facts = prefix.facts
    log: dict[str, Any] = {}
    if facts.level:
        log["level"] = facts.level
    if facts.file_path:
        log["file"] = {"path": facts.file_path}
    syslog: dict[str, Any] = {}
    if facts.priority is not None:
        syslog["priority"] = facts.priority
    if facts.appname:
        syslog["appname"] = facts.appname
    if syslog:
        log["syslog"] = syslog
    return log


def action_key(fact: Fact) -> str:
    """The action whose category and types hold: a HAT decision that refuses is another one."""
    if fact.action == "hat-decided" and fact.values and str(fact.values.get("policy", "")).upper() in ("REJECT", "TCPREFUSE"):
        return "hat-denied"
    return fact.action


def categories(key: str) -> dict[str, Any]:
    """ECS's category and types of a line: only of lines about a connection. All others would be `email` or `host` with `info`."""
    category, types = ACTIONS[key]
    return {} if types == ("info",) else {"category": [category], "type": list(types)}


def line_dict(prefix: Prefix, line: Line, leg: Leg | None) -> dict[str, Any]:
    """The `line` record as nested dicts: the reference for all splices. What a line leaves out that summaries have: docs/records.md."""
    fact = line.fact
    key = action_key(fact)
    record: dict[str, Any] = {
        "@timestamp": prefix.iso,
        "event": {
            "id": prefix.time_id + line.record_hash,
            "action": fact.action,
            **categories(key),
            "sequence": line.sequence,
            "created": line.created,
            "original": line.text,
        },
        "host": {"name": prefix.appliance},
    }
    own = own_of(prefix, line)
    record["cisco_esa"] = own
    if leg is not None and key in TLS_ACTIONS:
        leg_own, beside = triple(prefix.appliance, leg)
        own.update(leg_own)
        record.update(beside)
    elif leg is not None:
        own.update(triple_on_line(prefix.appliance, leg))
    if fact.mid is not None:
        own["mid"] = fact.mid
    if fact.rids:
        own["rids"] = list(fact.rids[:100])
    log = log_of(prefix)
    if log:
        record["log"] = log
    facts_own, facts_beside = facts_of(fact) or ({}, {})
    own.update(facts_own)
    record.update(facts_beside)
    return record


Leaving = tuple[Prefix, Line, Leg | None]
"""A line on its way out: what encoders get, many at a time."""

NO_LINE: Final = Line("", Fact("unrecognised"), "", 0, "")
"""Stands for a line where only its prefix counts."""
