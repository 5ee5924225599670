from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from esa_tls.core.fields import FIELDS
from esa_tls.core.messages import FINAL
from esa_tls.core.records import KINDS
from esa_tls.core.summaries import DELIVERY_RESULTS
from esa_tls.wire.splunk_cim import ACTIONS, CIM, cim_of

ROOT = Path(__file__).parents[3]

EMAIL = frozenset(
    {
        *(
            "action",
            "delay",
            "dest",
            "duration",
            "file_hash",
            "file_name",
            "file_size",
            "internal_message_id",
            "message_id",
            "message_info",
        ),
        *("orig_dest", "orig_recipient", "orig_src", "process", "process_id", "protocol", "recipient", "recipient_count"),
        *("recipient_domain", "recipient_status", "response_time", "retries", "return_addr", "size", "src", "src_user", "src_user_domain"),
        *("status_code", "subject", "tag", "url", "user", "vendor_product", "xdelay", "xref"),
    }
)
"""Fields of the data model Email (CIM 6)."""

NETWORK = frozenset(
    {"action", "app", "dest", "dest_ip", "dest_port", "direction", "dvc", "protocol", "src", "src_ip", "src_port", "transport"}
)
"""Of those of the data model Network Traffic."""


def golden() -> dict[str, list[dict[str, Any]]]:
    """Records of the golden files, by kind."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted((ROOT / "tests" / "golden").glob("*.expected.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            found[record["cisco_esa"]["record"]].append(record)
    return found


def test_names_are_those_of_the_models() -> None:
    """Each stands in the data model Email or Network Traffic."""
    assert {field.name for field in CIM} <= EMAIL | NETWORK


def test_names_hide_no_field_of_ours() -> None:
    """No name is that of an object at the top of a record."""
    ours = {field.path.partition(".")[0] for field in FIELDS}
    assert not ours & {field.name for field in CIM}


def test_paths_are_fields_of_ours() -> None:
    """Each path is in the table of fields, for one of the name's kinds at least; each kind of a name has a path."""
    kinds_of = {field.path: set(field.kinds) for field in FIELDS}
    for name in CIM:
        for path in name.paths:
            assert kinds_of[path] & set(name.kinds), (name.name, path)
        for kind in name.kinds if name.paths else ():
            assert any(kind in kinds_of[path] for path in name.paths), (name.name, kind)


def test_a_kind_has_a_name_once() -> None:
    """Which path is meant is never a question of order between rows."""
    for kind in KINDS:
        names = [field.name for field in CIM if kind in field.kinds]
        assert len(names) == len(set(names))


NOT_IN_GOLDEN = {"delivery": {"dest_port"}, "consolidated": {"dest"}}
"""None of these records has something for them."""


@pytest.mark.parametrize("kind", KINDS)
def test_records_get_their_names(kind: str) -> None:
    """On real records every name of the kind turns up."""
    records = golden()[kind]
    assert records
    seen = {name for record in records for name in cim_of(kind, record)}
    assert {field.name for field in CIM if kind in field.kinds} - seen == NOT_IN_GOLDEN.get(kind, set())


def test_a_delivery() -> None:
    """From the appliance to the server, to whom, and what came of it."""
    record = next(one for one in golden()["delivery"] if one["cisco_esa"]["delivery"]["result"] == "delivered")
    cim = cim_of("delivery", record)
    assert cim.items() >= {"action": "delivered", "direction": "outbound", "protocol": "smtp"}.items()
    assert cim["src"] == cim["dvc"] == record["host"]["name"]
    assert cim["dest"] == record["destination"]["ip"]
    assert [cim["src_user"]] == record["email"]["from"]["address"]
    assert [cim["recipient"]] == record["email"]["to"]["address"]
    assert cim["recipient_status"] == "delivered"


def test_a_list_of_several_stays_one() -> None:
    """Splunk makes a field with several values of it."""
    record = {"email": {"to": {"address": ["a@x", "b@x"]}, "from": {"address": ["c@x"]}}}
    cim = cim_of("delivery", record)
    assert (cim["recipient"], cim["src_user"]) == (["a@x", "b@x"], "c@x")


def message(*results: str) -> dict[str, Any]:
    """A message with these recipients."""
    return {"cisco_esa": {"recipients": [{"rid": rid, "result": result} for rid, result in enumerate(results)]}}


@pytest.mark.parametrize(
    ("results", "action"),
    [
        (("delivered", "bounced"), "delivered"),
        (("bounced", "quarantined"), "quarantined"),
        (("tls_blocked", "dropped"), "blocked"),
        (("dropped",), "deleted"),
        (("pending", "moved", "uncertain"), None),
        ((), None),
    ],
)
def test_the_action_of_a_message_is_the_best_that_happened(results: tuple[str, ...], action: str | None) -> None:
    """Delivered to somebody is delivered; what is no end yet is no action."""
    assert cim_of("message", message(*results)).get("action") == action


def test_actions_are_prescribed_and_known() -> None:
    """Only the model's values, and only for results that there are."""
    assert set(ACTIONS.values()) == {"delivered", "blocked", "quarantined", "deleted"}
    assert set(ACTIONS) <= set(DELIVERY_RESULTS) | FINAL | {"tls_blocked"}


@pytest.mark.parametrize(("policy", "action"), [("REJECT", "blocked"), ("TCPREFUSE", "blocked"), ("ACCEPT", "allowed"), (None, "allowed")])
def test_a_connection_is_allowed_or_blocked(policy: str | None, action: str) -> None:
    """By the host access table."""
    own = {} if policy is None else {"hat": {"policy": policy}}
    assert cim_of("connection", {"cisco_esa": own})["action"] == action


def test_what_is_no_object_is_no_value() -> None:
    """Records that somebody has changed on the way break nothing."""
    for kind in KINDS:
        cim = cim_of(kind, {"cisco_esa": "x", "host": ["a"], "source": None, "event": 3})
        assert cim.keys() <= {"vendor_product", "protocol", "action"}
