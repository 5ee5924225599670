"""core/expected.py: which records the operator's lists are about. Outcomes are never touched."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from esa_tls.core.expected import Expectations, Partner

BANK = Partner(
    "Bank", domains=("bank.example", "*.bank.example"), hosts=("mx.bank.example", "*.relay.example"), networks=("198.51.100.0/24",)
)


def connection(direction: str = "inbound", **own: Any) -> dict[str, Any]:
    """A connection record with one end."""
    end = own.pop("end", {})
    tls = {"outcome": "none", "evidence": "absence"}
    return {
        "cisco_esa": {"direction": direction, "tls": tls, "connection": {"end": "close"}, **own},
        "source" if direction == "inbound" else "destination": end,
    }


def delivery(domains: list[str], peer: dict[str, Any] | None = None) -> dict[str, Any]:
    """A delivery record."""
    own = {"tls": {"outcome": "success", "in_clear": False}, "delivery": {"domains": domains}}
    return {"cisco_esa": own, "destination": peer or {}}


def message(**own: Any) -> dict[str, Any]:
    """A message received from a@bank.example and delivered to two domains."""
    return {
        "cisco_esa": {
            "envelope": {"from": "a@bank.example"},
            "reception": {"icid": 1, "tls": {"outcome": "none", "in_clear": True}},
            "recipients": [{"rid": 0, "domain": "else.example"}, {"rid": 1, "domain": "x.bank.example"}],
            "deliveries": [
                {"rids": [0], "dcid": 5, "tls": {"outcome": "success"}},
                {"rids": [1], "dcid": 6, "tls": {"outcome": "none", "in_clear": True}},
                {"rids": [1], "result": "quarantined"},
            ],
            **own,
        }
    }


def marked(kind: str, record: dict[str, Any], *partners: Partner, groups: tuple[str, ...] = ()) -> dict[str, Any]:
    """What stands under `cisco_esa.tls` afterwards."""
    Expectations(partners or (BANK,), sender_groups=groups).mark(kind, record)
    tls: dict[str, Any] = record["cisco_esa"].get("tls", {})
    return tls


@pytest.mark.parametrize(
    "end",
    [
        {"domain": "mx.bank.example"},
        {"domain": "MX.Bank.Example."},
        {"domain": "a.b.relay.example"},
        {"ip": "198.51.100.7"},
        {"ip": "198.51.100.7", "domain": "unknown"},
    ],
)
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_a_connection_with_a_partners_host_is_marked(direction: str, end: dict[str, Any]) -> None:
    """By name, by what is below a name, by address; the rest of its TLS stays."""
    tls = marked("connection", connection(direction, end=end))
    assert tls == {"outcome": "none", "evidence": "absence", "expected": True, "partners": ["Bank"]}


@pytest.mark.parametrize(
    "end", [{"domain": "relay.example"}, {"domain": "xmx.bank.example"}, {"ip": "198.51.101.7"}, {"ip": "2001:db8::1"}, {}]
)
def test_others_are_not_marked(end: dict[str, Any]) -> None:
    """`*.NAME` is not NAME, a longer name is another, another network is another."""
    assert "expected" not in marked("connection", connection(end=end))


def test_a_sender_group_or_the_domain_it_was_made_for_marks_a_connection() -> None:
    """A listed group alone gives no partner; the domain of `for example.org` does."""
    assert marked("connection", connection(hat={"sender_group": "PARTNERS"}), groups=("PARTNERS",))["expected"] is True
    assert "partners" not in marked("connection", connection(hat={"sender_group": "PARTNERS"}), groups=("PARTNERS",))
    assert "expected" not in marked("connection", connection(hat={"sender_group": "OTHERS"}), groups=("PARTNERS",))
    made_for = connection("outbound")
    made_for["cisco_esa"]["connection"]["for_domain"] = "bank.example"
    assert marked("connection", made_for)["partners"] == ["Bank"]


def test_a_delivery_is_marked_for_any_of_its_domains_or_its_server() -> None:
    """All partners it is about are named once."""
    other = Partner("Other", domains=("other.example",), hosts=("mx.bank.example",))
    record = delivery(["x.example", "bank.example", "OTHER.example"], {"domain": "mx.bank.example"})
    assert marked("delivery", record, BANK, other) == {
        "outcome": "success",
        "in_clear": False,
        "expected": True,
        "partners": ["Bank", "Other"],
    }
    assert "expected" not in marked("delivery", delivery(["x.example"]))


def test_a_delivery_without_a_connection_stays_without_tls() -> None:
    """A quarantine has none: nothing is expected of it."""
    record = delivery(["bank.example"])
    del record["cisco_esa"]["tls"]
    assert marked("delivery", record) == {}


def test_a_message_is_marked_where_a_leg_is() -> None:
    """The reception for its sender, the delivery for its recipient, and the message for either; other legs are not."""
    record = message()
    assert marked("message", record) == {"expected": True, "partners": ["Bank"]}
    own = record["cisco_esa"]
    assert own["reception"]["tls"] == {"outcome": "none", "in_clear": True, "expected": True, "partners": ["Bank"]}
    assert ["expected" in one.get("tls", {}) for one in own["deliveries"]] == [False, True, False]
    only_out = message(envelope={"from": "a@else.example"})
    assert marked("message", only_out)["expected"] is True
    assert "expected" not in only_out["cisco_esa"]["reception"]["tls"]
    assert marked("message", message(envelope={}, recipients=[])) == {}


def test_shared_parts_are_copied_not_changed() -> None:
    """Records share the TLS of their connection: a mark on one must not show on another."""
    for kind, record in (
        ("connection", connection(end={"ip": "198.51.100.1"})),
        ("delivery", delivery(["bank.example"])),
        ("message", message()),
    ):
        own = record["cisco_esa"]
        shared = [part for part in (own.get("tls"), own.get("reception"), *own.get("deliveries", ())) if part is not None]
        before = deepcopy(shared)
        marked(kind, record)
        assert shared == before


def test_consolidated_records_are_left_alone() -> None:
    """What they say is theirs."""
    record: dict[str, Any] = {"cisco_esa": {"record": "consolidated"}}
    assert marked("consolidated", record) == {}


def test_a_network_that_is_none_is_an_error() -> None:
    """Told when the lists are made, not when mail comes."""
    with pytest.raises(ValueError, match="300"):
        Expectations([Partner("x", networks=("300.1.1.1/8",))])
