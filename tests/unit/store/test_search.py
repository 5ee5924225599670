"""Searching: every filter against a plain look through all records, page by page, and texts of strangers."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.store.store_cases import MESSAGE, Made, Record, asked, filed, ids, looking, made, simulated, summary_row, writing

from esa_tls.store import search
from esa_tls.store.answers import Filter
from esa_tls.store.terms import key_of, question_of, terms_of
from esa_tls.store.view import Interrupted

Fits = Callable[[Record], bool]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    """A store with several parts, one of them being filled with runs and fresh keys, of two appliances one after the other."""
    path, traffic = tmp_path_factory.mktemp("kept") / "s", simulated(messages=400, id_resets=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("esa_tls.store.parts.RUN_KEYS", 700)
        filed(path, _backfilled(traffic), part_records=400)
    return path, traffic


def _backfilled(traffic: Made) -> list[Any]:
    """Rows mixed up by a few places, so that parts overlap in time."""
    chance = random.Random(1)
    mixed = sorted(enumerate(traffic.rows), key=lambda pair: pair[0] + chance.uniform(0, 12))
    return [(n, row) for n, (_, (_, row)) in enumerate(mixed, start=1)]


def pages(path: Path, wanted: Filter, *, limit: int = 7) -> Iterator[list[Any]]:
    """All pages of a search."""
    after = None
    for _ in range(10_000):
        page = asked(path, search.search, wanted, limit=limit, after=after)
        assert len(page.hits) <= limit
        assert not page.incomplete
        yield page.hits
        if page.next is None:
            return
        after = page.next
    pytest.fail("pages without end")


def found(path: Path, wanted: Filter, *, limit: int = 97) -> list[str]:
    """Ids of all that a search finds, in its order; nothing twice, the latest first."""
    hits = list(itertools.chain.from_iterable(pages(path, wanted, limit=limit)))
    times = [hit.time_s for hit in hits]
    assert times == sorted(times, reverse=True)
    names = [hit.id for hit in hits]
    assert len(set(names)) == len(names)
    assert all(hit.record["event"]["id"] == hit.id and hit.record["cisco_esa"]["record"] == hit.kind for hit in hits)
    return names


def expected(traffic: Made, fits: Fits) -> list[str]:
    """Ids of the records that fit."""
    return ids(record for record in traffic.records if fits(record))


def own(record: Record) -> Record:
    """`cisco_esa`."""
    part: Record = record["cisco_esa"]
    return part


def time_of(record: Record) -> int:
    """Seconds since 1970."""
    return int(dt.datetime.fromisoformat(record["@timestamp"]).timestamp())


def tls_of(record: Record) -> Record:
    """The TLS that a record's outcome is that of."""
    part = own(record)
    tls: Record = (part.get("reception", {}) if part["record"] == "message" else part).get("tls", {})
    return tls


def in_clear(record: Record) -> bool | None:
    """Whether mail really went in clear; of a message on any leg."""
    part = own(record)
    if part["record"] != "message":
        value: bool | None = part.get("tls", {}).get("in_clear")
        return value
    if "clear" in part or part.get("posture_in") == "exposed":
        return True
    return False if part["posture"] == "encrypted" else None


MIDDLE_S = 1_763_942_400 + 86_400

FILTERS: list[tuple[Filter, Fits]] = [
    (Filter(), lambda _: True),
    (Filter(kinds=frozenset({"message"})), lambda one: own(one)["record"] == "message"),
    (Filter(kinds=frozenset({"message", "delivery"})), lambda one: own(one)["record"] in ("message", "delivery")),
    (Filter(postures=frozenset({"exposed", "partial"})), lambda one: own(one).get("posture") in ("exposed", "partial")),
    (Filter(outcomes=frozenset({"failed"})), lambda one: tls_of(one).get("outcome") == "failed"),
    (
        Filter(outcomes=frozenset({"none", "unknown"}), kinds=frozenset({"message"})),
        lambda one: own(one)["record"] == "message" and tls_of(one).get("outcome") in ("none", "unknown"),
    ),
    (Filter(directions=frozenset({"outbound"})), lambda one: own(one).get("direction") == "outbound"),
    (Filter(flows=frozenset({"outgoing"})), lambda one: own(one).get("mail_flow") == "outgoing"),
    (
        Filter(failures=frozenset({"starttls_unexpected_response", "handshake"})),
        lambda one: tls_of(one).get("failure", {}).get("class") in ("starttls_unexpected_response", "handshake"),
    ),
    (Filter(results=frozenset({"bounced"})), lambda one: own(one).get("delivery", {}).get("result") == "bounced"),
    (
        Filter(results=frozenset({"delivered", "tls_blocked"})),
        lambda one: own(one).get("delivery", {}).get("result") in ("delivered", "tls_blocked"),
    ),
    (Filter(in_clear=True), lambda one: in_clear(one) is True),
    (Filter(expected=True), lambda one: own(one).get("tls", {}).get("expected") is True),
    (
        Filter(partners=frozenset({"Bank"}), in_clear=True),
        lambda one: in_clear(one) is True and "Bank" in own(one).get("tls", {}).get("partners", ()),
    ),
    (Filter(in_clear=False), lambda one: in_clear(one) is False),
    (Filter(appliances=frozenset({"esa2"})), lambda one: own(one)["appliance"] == "esa2"),
    (Filter(since_s=MIDDLE_S), lambda one: time_of(one) >= MIDDLE_S),
    (Filter(until_s=MIDDLE_S), lambda one: time_of(one) < MIDDLE_S),
    (
        Filter(since_s=MIDDLE_S, until_s=MIDDLE_S + 40_000, text="example.org", kinds=frozenset({"delivery"})),
        lambda one: (
            MIDDLE_S <= time_of(one) < MIDDLE_S + 40_000
            and own(one)["record"] == "delivery"
            and any(address.lower().endswith(("@example.org", ".example.org")) for address in _addresses(one) + _domains(one))
        ),
    ),
    (Filter(partners=frozenset({"bank"})), lambda _: False),
    (Filter(kinds=frozenset({"consolidated"})), lambda _: False),
    (Filter(appliances=frozenset({"nobody"})), lambda _: False),
    (Filter(outcomes=frozenset({"no word of ours"})), lambda _: False),
    (Filter(kinds=frozenset({"connection"}), postures=frozenset({"exposed"})), lambda _: False),
]
IMPOSSIBLE = 5
"""The last so many fit no record."""


def _addresses(record: Record) -> list[str]:
    envelope = own(record).get("envelope", {})
    return [*envelope.get("to", []), *([envelope["from"]] if "from" in envelope else [])]


def _domains(record: Record) -> list[str]:
    return [f"@{domain}" for domain in own(record).get("delivery", {}).get("domains", [])]


@pytest.mark.parametrize("at", range(len(FILTERS)))
def test_a_filter_finds_what_fits_and_nothing_else(kept: tuple[Path, Made], at: int) -> None:
    """Pages together hold exactly the records that fit, each once, the latest first."""
    path, traffic = kept
    wanted, fits = FILTERS[at]
    there = expected(traffic, fits)
    assert sorted(found(path, wanted)) == sorted(there)
    if at < len(FILTERS) - IMPOSSIBLE:
        assert 0 < len(there), "the filter was not tried on anything"


def test_pages_of_any_size_are_the_same_list(kept: tuple[Path, Made]) -> None:
    """Paging one by one, by sevens or at once gives the same order, with an index of the parts and without."""
    path, _ = kept
    for wanted in (Filter(kinds=frozenset({"message"}), since_s=MIDDLE_S), Filter(text="example.com", until_s=MIDDLE_S)):
        whole = found(path, wanted, limit=1_000)
        assert len(whole) > 30
        assert found(path, wanted, limit=7) == whole
        assert found(path, wanted, limit=1) == whole


def test_records_of_one_second_are_paged_in_order(tmp_path: Path) -> None:
    """Many records of the same second in several parts: each comes once, by filter and by text, whatever the size of a page."""
    record = made(*MESSAGE).of("message")[0]
    rows = []
    for n in range(120):
        record["event"]["id"] = f"{n:026x}"
        rows.append((n + 1, summary_row(record)))
    filed(tmp_path / "s", rows, part_records=25)
    order = [f"{n:026x}" for n in reversed(range(120))]
    for wanted in (Filter(), Filter(text="MID 21")):
        for limit in (1, 7, 24, 25, 26, 200):
            assert found(tmp_path / "s", wanted, limit=limit) == order


def test_records_that_come_meanwhile_do_not_move_a_page(tmp_path: Path) -> None:
    """While later records are filed, the following pages are what they would have been."""
    traffic = simulated(messages=150)
    half = len(traffic.rows) // 2
    path = tmp_path / "s"
    with writing(path, part_records=200) as writer:
        writer.apply(traffic.rows[:half])
        whole = found(path, Filter(), limit=1_000)
        first = asked(path, search.search, Filter(), limit=20, after=None)
        writer.apply(traffic.rows[half:])
        rest, after = [hit.id for hit in first.hits], first.next
        while after is not None:
            page = asked(path, search.search, Filter(), limit=20, after=after)
            rest += [hit.id for hit in page.hits]
            after = page.next
    assert [one for one in rest if one in set(whole)] == whole


# -- texts -----------------------------------------------------------------------------------------------------------------------
def texts(record: Record) -> dict[str, str]:
    """Everything by which a record has to be found, and as what it is understood."""
    part: Record = own(record)
    found_by: dict[str, str] = {}
    for name in ("mid", "icid", "dcid"):
        if name in part:
            found_by[f"{name.upper()} {part[name]}"] = name
            found_by[f"{part[name]}"] = name
    if "connection" in part:
        found_by[part["connection"]["id"]] = "icid" if "icid" in part else "dcid"
    if "message_id" in record.get("email", {}):
        found_by[record["email"]["message_id"]] = found_by[f" <{record['email']['message_id']}> "] = "message_id"
    for address in part.get("envelope", {}).get("to", []):
        found_by[address.upper()] = "recipient"
        found_by["@" + address.rpartition("@")[2]] = "domain"
        found_by[address.rpartition("@")[2].upper()] = "domain"
    if "from" in part.get("envelope", {}):
        found_by[f"<{part['envelope']['from']}>"] = "sender"
    for end in (
        record.get("destination" if part.get("direction") == "outbound" else "source", {}),
        part.get("reception", {}).get("peer", {}),
    ):
        if "ip" in end:
            found_by[end["ip"]] = "ip"
        if "domain" in end:
            found_by[end["domain"]] = "domain"
    found_by[record["event"]["id"]] = "record"
    return found_by


def test_each_record_is_found_by_everything_it_is_known_by(kept: tuple[Path, Made]) -> None:
    """MID, ICID, DCID, connection id, Message-ID, addresses, domains, peers and its own id lead to a record, in any writing."""
    path, traffic = kept
    chosen = random.Random(2).sample(traffic.records, 40)
    seen: set[str] = set()
    with looking(path) as view:
        for record in chosen:
            kind = frozenset({own(record)["record"]})
            for text, word in texts(record).items():
                page = search.search(
                    view, Filter(text=text, kinds=kind, since_s=time_of(record), until_s=time_of(record) + 1), limit=500, after=None
                )
                assert record["event"]["id"] in [hit.id for hit in page.hits], text
                assert word in page.understood, text
                seen.add(word)
    assert seen == {"mid", "icid", "dcid", "message_id", "recipient", "sender", "domain", "ip", "record"}


@pytest.mark.parametrize(
    "text",
    [
        "MID 99",
        "nobody@nowhere.example",
        "192.0.2.250",
        "esa9/0/ICID/11",
        "esa1/7/ICID/11",
        "f" * 26,
        "99999999999999999999",
        "x" * 5000,
        "'; DROP TABLE record; --",
        "%",
        "\0",
        "\ud800",
        "<>",
        "@",
        ".",
    ],
)
def test_what_nobody_has_finds_nothing(tmp_path: Path, text: str) -> None:
    """Unknown ids, odd and hostile texts find nothing, and harm nothing."""
    filed(tmp_path / "s", made(*MESSAGE).rows)
    page = asked(tmp_path / "s", search.search, Filter(text=text), limit=50, after=None)
    assert ([], None) == (page.hits, page.next)
    assert len(found(tmp_path / "s", Filter())) == 4


def test_a_connection_id_names_one_connection(kept: tuple[Path, Made]) -> None:
    """Appliance, epoch and number together: the same number of another appliance or life is not meant."""
    path, traffic = kept
    for record in traffic.of("connection")[::40]:
        part = own(record)
        hits = found(path, Filter(text=part["connection"]["id"], kinds=frozenset({"connection"})))
        assert hits == [record["event"]["id"]]


def test_the_domains_above_a_domain_find_it_too(tmp_path: Path) -> None:
    """`example.org` finds mail to `a.b.example.org`; `xample.org`, `org` and `b.example.com` do not."""
    record = made(*MESSAGE).of("message")[0]
    record["cisco_esa"]["envelope"]["to"] = ["x@A.b.Example.org"]
    filed(tmp_path / "s", [(1, summary_row(record))])
    for text, there in (
        ("a.b.example.org", 1),
        ("b.example.org", 1),
        ("EXAMPLE.ORG.", 1),
        ("xample.org", 0),
        ("org", 0),
        ("b.example.com", 0),
    ):
        assert len(found(tmp_path / "s", Filter(text=text))) == there, text


def test_keys_that_two_terms_share_mislead_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hashes collide, the record itself decides."""
    traffic = simulated(messages=60)
    for module in ("esa_tls.store.write", "esa_tls.store.view", "esa_tls.store.packing"):
        monkeypatch.setattr(f"{module}.key_of", lambda term: bytes(5) + key_of(term)[:1])
    filed(tmp_path / "s", traffic.rows, part_records=100)
    for record in traffic.of("message")[::7]:
        mid = own(record)["mid"]
        expected_ids = expected(traffic, lambda one, mid=mid: own(one).get("mid") == mid)  # type: ignore[misc]
        assert sorted(found(tmp_path / "s", Filter(text=f"MID {mid}"))) == sorted(expected_ids)


HOSTILE = [
    "<script>alert(1)</script>@example.org",
    'x"},{"a":"@example.org',
    "Robert'); DROP TABLE record;--@example.org",
    "\u202egro@example.org",
    "é" * 300 + "@example.org",
    "a\nMID 7@example.org",
]


@pytest.mark.parametrize("address", HOSTILE)
def test_texts_of_strangers_are_kept_and_found_as_they_are(tmp_path: Path, address: str) -> None:
    """An address, Subject and host name with code, quotes or control characters in it come back byte for byte, by their own text."""
    whole = made(*MESSAGE)
    record = whole.of("message")[0]
    record["cisco_esa"]["envelope"] = {"from": address, "to": [address]}
    record["email"] |= {"subject": address, "message_id": f"{address}.id"}
    record["cisco_esa"]["reception"]["peer"]["domain"] = address
    filed(tmp_path / "s", [(1, summary_row(record, *whole.of("connection")))])
    for text in (address, f"{address}.id", "MID 21"):
        page = asked(tmp_path / "s", search.search, Filter(text=text, kinds=frozenset({"message"})), limit=5, after=None)
        assert [hit.record for hit in page.hits] == [record], text


@given(st.text(max_size=60))
def test_any_text_is_understood_or_not_but_raises_nothing(text: str) -> None:
    """Every text becomes terms that have keys."""
    question = question_of(text)
    assert all(len(key_of(term)) == 6 for term in question.terms.values())


def test_a_record_has_the_terms_of_its_own_texts() -> None:
    """The terms of a record are those that a person's texts become: writing and asking cannot drift apart."""
    from esa_tls.store.parsed import decode_record

    for record in simulated(messages=40).records:
        terms = terms_of(decode_record(msgspec.json.encode(record)))
        for text, word in texts(record).items():
            if word != "record":
                assert question_of(text).terms[word] in terms, text


# -- limits ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("after", ["", "x", "1", "1.2.3", "1.-2", "1e5.3", "9" * 30 + ".1", "1.2; --"])
def test_a_place_that_is_none_is_refused(tmp_path: Path, after: str) -> None:
    """Only what a page gave is taken as the place where the next begins."""
    filed(tmp_path / "s", made(*MESSAGE).rows)
    with pytest.raises(ValueError, match="no place"):
        asked(tmp_path / "s", search.search, Filter(), limit=5, after=after)


@pytest.mark.parametrize("wanted", [Filter(), Filter(text="example.org")])
def test_a_search_that_takes_too_long_goes_on_where_it_was(
    kept: tuple[Path, Made], monkeypatch: pytest.MonkeyPatch, wanted: Filter
) -> None:
    """Out of time, a page holds what is certain and is marked; following `next` gives the whole list all the same."""
    path, _ = kept
    whole = found(path, wanted, limit=1_000)
    seen: list[str] = []
    after, incomplete = None, 0
    for _ in range(1_000):
        left = 2

        def interrupted(work: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Interrupted
                return work(*args)

            return counted

        with monkeypatch.context() as patch:
            patch.setattr(search, "_in_part", interrupted(search._in_part))
            patch.setattr(search, "_window", interrupted(search._window))
            page = asked(path, search.search, wanted, limit=500, after=after)
        seen += [hit.id for hit in page.hits]
        incomplete += page.incomplete
        after = page.next
        if after is None:
            break
    assert seen == whole
    assert incomplete > 1


def test_no_time_at_all_is_an_error(kept: tuple[Path, Made]) -> None:
    """A question that could not be begun is not answered with nothing."""
    path, _ = kept
    with pytest.raises(Interrupted), looking(path, within_s=-1) as view:
        search.tally(view, Filter())


# -- counts and look-ups ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("at", range(len(FILTERS)))
def test_a_tally_counts_what_a_search_finds(kept: tuple[Path, Made], at: int) -> None:
    """The sum of a tally is the number of records that fit."""
    path, traffic = kept
    wanted, fits = FILTERS[at]
    assert sum(one.number for one in asked(path, search.tally, wanted)) == len(expected(traffic, fits))


def test_a_tally_tells_the_records_apart(kept: tuple[Path, Made]) -> None:
    """Each combination of words is counted by itself, protocol and cipher included."""
    path, traffic = kept
    counted: dict[tuple[Any, ...], int] = {}
    for record in traffic.of("connection"):
        tls = tls_of(record)
        key = (
            own(record)["direction"],
            tls["outcome"],
            tls.get("failure", {}).get("class", ""),
            tls.get("protocol", ""),
            tls.get("cipher", ""),
        )
        counted[key] = counted.get(key, 0) + 1
    told: dict[tuple[Any, ...], int] = {}
    for one in asked(path, search.tally, Filter(kinds=frozenset({"connection"}))):
        key = (one.direction, one.outcome, one.failure, one.protocol, one.cipher)
        told[key] = told.get(key, 0) + one.number
    assert told == counted


LOOK_UPS: dict[str, tuple[str, Callable[[Record], list[Any]]]] = {
    "mid": ("message", lambda one: [own(one)["mid"]]),
    "icid": ("connection", lambda one: [own(one)["icid"]] if "icid" in own(one) else []),
    "dcid": ("connection", lambda one: [own(one)["dcid"]] if "dcid" in own(one) else []),
    "message_id": ("message", lambda one: [one["email"]["message_id"]] if "message_id" in one["email"] else []),
    "recipient": ("message", lambda one: [address.lower() for address in own(one).get("envelope", {}).get("to", [])]),
}
"""By -> kind of the records, what they are found by."""


def test_look_ups_find_ended_entries(kept: tuple[Path, Made]) -> None:
    """By MID, ICID, DCID, Message-ID and recipient come the records of messages and connections, and of nothing else."""
    path, traffic = kept
    for by, (kind, values_of) in LOOK_UPS.items():
        asked_for = 0
        for record in traffic.of(kind)[::25]:
            value = next(iter(values_of(record)), None)
            if value is None:
                continue
            asked_for += 1
            answer = asked(path, search.lookup, by, value, appliance=None, epoch=None, limit=1_000)
            there = ids(other for other in traffic.of(kind) if value in values_of(other))
            assert sorted(ids(answer.records)) == sorted(there)
            one = asked(path, search.lookup, by, value, appliance=own(record)["appliance"], epoch=own(record)["epoch"], limit=1_000)
            assert record["event"]["id"] in ids(one.records)
            assert all(
                own(other)["appliance"] == own(record)["appliance"] and own(other)["epoch"] == own(record)["epoch"] for other in one.records
            )
        assert asked_for > 2, by


def test_a_look_up_says_that_there_is_more(kept: tuple[Path, Made]) -> None:
    """Beyond the limit an answer is incomplete."""
    path, _ = kept
    answer = asked(path, search.lookup, "recipient", "postmaster0@d43-1.example.org", appliance=None, epoch=None, limit=1_000)
    most = max(len(answer.records), 1)
    assert not answer.incomplete
    if len(answer.records) > 1:
        assert asked(
            path, search.lookup, "recipient", "postmaster0@d43-1.example.org", appliance=None, epoch=None, limit=most - 1
        ).incomplete
