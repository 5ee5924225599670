"""Stories: the records of a message or connection and the lines that prove them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.unit.core.driver import at
from tests.unit.store.store_cases import LIMITS, MESSAGE, Made, Record, all_of, asked, filed, ids, made, simulated, writing

from esa_tls.store.answers import StoryLine
from esa_tls.store.story import connection_story, message_story


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    """A store with several parts."""
    path, traffic = tmp_path_factory.mktemp("kept") / "s", simulated(messages=300, id_resets=1)
    filed(path, traffic.rows, part_records=300)
    return path, traffic


def own(record: Record) -> Record:
    """`cisco_esa`."""
    part: Record = record["cisco_esa"]
    return part


def test_the_story_of_one_mail(tmp_path: Path) -> None:
    """Reception, message, delivery, its connection, and all 18 lines in order, each with where it belongs."""
    whole = made(*MESSAGE)
    filed(tmp_path / "s", whole.rows)
    told = asked(tmp_path / "s", message_story, "esa1", 0, 21, max_lines=100)
    assert told is not None
    inbound, outbound = sorted(whole.of("connection"), key=lambda record: own(record)["direction"])
    assert told.message == whole.of("message")[0]
    assert told.reception == inbound
    assert told.deliveries == whole.of("delivery")
    assert told.connections == {"esa1/0/DCID/31": outbound}
    assert ([], [], [], "kept", False) == (told.parents, told.children, told.consolidated, told.lines_kept, told.more_lines)
    assert [line.text for line in told.lines] == [line.decode() for line in MESSAGE]
    assert [line.sequence for line in told.lines] == list(range(1, 19))
    assert told.lines[2] == StoryLine(3, 1_763_942_400, MESSAGE[2].decode(), "tls-succeeded", "ICID/11", None, ())
    assert [(line.connection, line.mid) for line in told.lines if line.action == "delivery-started"] == [("DCID/31", 21)]


def lines_of(traffic: Made, record: Record) -> list[str]:
    """What the lines of a message's story must be, by a plain look through all line records."""
    part = own(record)
    mid, epoch, appliance = part["mid"], part["epoch"], part["appliance"]
    connections = {one["connection_id"] for one in part.get("deliveries", ()) if "connection_id" in one}
    connections |= {
        own(one)["connection"]["id"]
        for one in traffic.of("delivery")
        if own(one)["mid"] == mid and own(one)["epoch"] == epoch and own(one)["appliance"] == appliance and "connection" in own(one)
    }
    if "connection_id" in part.get("reception", {}):
        connections.add(part["reception"]["connection_id"])
    found = []
    for line in traffic.lines:
        about = own(line)
        if about["appliance"] != appliance:
            continue
        connection = about.get("connection", {}).get("id")
        if (about.get("mid") == mid and about["epoch"] == epoch) or ("mid" not in about and connection in connections):
            found.append((line["event"]["sequence"], line["event"]["original"]))
    return [text for _, text in sorted(found)]


def test_every_message_has_its_story(kept: tuple[Path, Made]) -> None:
    """Messages of a simulation with splits, bounces, quarantines and resets of ids: their records and lines, and nobody else's."""
    path, traffic = kept
    parents = children = deliveries = 0
    for record in traffic.of("message")[::9]:
        part = own(record)
        told = asked(path, message_story, part["appliance"], part["epoch"], part["mid"], max_lines=5_000)
        assert told is not None
        assert told.message == record
        assert [line.text for line in told.lines] == lines_of(traffic, record)
        same = [one for one in traffic.of("delivery") if all(own(one)[name] == part[name] for name in ("appliance", "epoch", "mid"))]
        assert sorted(ids(told.deliveries)) == sorted(ids(same))
        assert [own(one)["delivery"]["ordinal"] for one in told.deliveries] == sorted(own(one)["delivery"]["ordinal"] for one in same)
        assert [own(one)["mid"] for one in told.parents][:1] == ([part["parent_mid"]] if "parent_mid" in part else [])
        known = {own(one)["mid"] for one in traffic.of("message") if own(one)["appliance"] == part["appliance"]}
        assert {own(one)["mid"] for one in told.children} == set(part.get("child_mids", ())) & known
        if "connection_id" in part.get("reception", {}):
            assert told.reception is not None
            assert own(told.reception)["connection"]["id"] == part["reception"]["connection_id"]
        parents, children, deliveries = parents + len(told.parents), children + len(told.children), deliveries + len(told.deliveries)
    assert min(parents, children, deliveries) > 1


def test_every_connection_has_its_story(kept: tuple[Path, Made]) -> None:
    """A connection with its messages, deliveries and lines."""
    path, traffic = kept
    with_messages = with_deliveries = 0
    for record in traffic.of("connection")[::14]:
        name = own(record)["connection"]["id"]
        told = asked(path, connection_story, name, max_messages=1_000, max_lines=5_000)
        assert told is not None
        assert (told.id, told.connection, told.more) == (name, record, False)
        lines = [
            (line["event"]["sequence"], line["event"]["original"])
            for line in traffic.lines
            if own(line).get("connection", {}).get("id") == name
        ]
        assert [line.text for line in told.lines] == [text for _, text in sorted(lines)]
        if own(record)["direction"] == "inbound":
            received = [one for one in traffic.of("message") if own(one).get("reception", {}).get("connection_id") == name]
            assert sorted(ids(told.messages)) == sorted(ids(received))
            with_messages += bool(received)
        else:
            delivered = [one for one in traffic.of("delivery") if own(one).get("connection", {}).get("id") == name]
            assert sorted(ids(told.deliveries)) == sorted(ids(delivered))
            assert {own(one)["mid"] for one in told.messages} <= {own(one)["mid"] for one in delivered}
            with_deliveries += bool(told.messages)
    assert min(with_messages, with_deliveries) > 3


def test_limits_of_a_story(kept: tuple[Path, Made]) -> None:
    """More lines or messages than asked for are left out, and that is said."""
    path, traffic = kept
    record = max(traffic.of("connection"), key=lambda one: own(one)["connection"]["message_count"])
    told = asked(path, connection_story, own(record)["connection"]["id"], max_messages=1, max_lines=3)
    assert told is not None
    assert (len(told.messages), len(told.lines), told.more, told.more_lines) == (1, 3, True, True)
    assert [line.sequence for line in told.lines] == sorted(line.sequence for line in told.lines)


def test_lines_before_there_is_a_record(tmp_path: Path) -> None:
    """A message that has not ended is told by its lines alone."""
    whole = made(*MESSAGE[:10], batch_lines=10)
    lines = [(n, row) for n, row in whole.rows if row.cls == "line"]
    filed(tmp_path / "s", lines)
    told = asked(tmp_path / "s", message_story, "esa1", 0, 21, max_lines=100)
    assert told is not None
    assert (told.message, len(told.lines)) == (None, 7)
    connection = asked(tmp_path / "s", connection_story, "esa1/0/ICID/11", max_messages=5, max_lines=100)
    assert connection is not None
    assert (connection.connection, len(connection.lines)) == (None, 10)


def test_lines_that_were_filed_twice_are_shown_once(tmp_path: Path) -> None:
    """Rows that came again from a journal that began anew repeat no line in a story."""
    rows = made(*MESSAGE).rows
    filed(tmp_path / "s", rows)
    with writing(tmp_path / "s") as writer:  # as without a cursor
        writer.apply(rows)
    assert all_of(tmp_path / "s", "SELECT sum(lines) FROM part") == [(36,)]
    told = asked(tmp_path / "s", message_story, "esa1", 0, 21, max_lines=100)
    assert told is not None
    assert len(told.lines) == 18


def test_a_story_without_lines_says_why(tmp_path: Path) -> None:
    """Where lines are not kept by configuration, the story says so."""
    with writing(tmp_path / "s", msgspec.structs.replace(LIMITS, lines=False)) as writer:
        writer.apply(made(*MESSAGE).rows)
    told = asked(tmp_path / "s", message_story, "esa1", 0, 21, max_lines=100)
    assert told is not None
    assert (told.lines, told.lines_kept) == ([], "off")


@pytest.mark.parametrize(
    "name", ["", "esa1", "esa1/0/MID/21", "esa1/0/ICID/x", "esa1/0/ICID/" + "9" * 19, "esa2/0/ICID/11", "esa1/1/ICID/11", "\0/0/ICID/1"]
)
def test_connections_that_are_not_there(tmp_path: Path, name: str) -> None:
    """What is no connection id, or of no connection that is kept, has no story."""
    filed(tmp_path / "s", made(*MESSAGE).rows)
    assert asked(tmp_path / "s", connection_story, name, max_messages=5, max_lines=5) is None


def test_the_same_numbers_of_two_appliances_are_two_stories(tmp_path: Path) -> None:
    """Two appliances with the same MID and ICID: each story has its own records and lines only."""
    both = Made([(name, line) for line in MESSAGE for name in ("esa1", "esa2")])
    filed(tmp_path / "s", both.rows)
    for name in ("esa1", "esa2"):
        told = asked(tmp_path / "s", message_story, name, 0, 21, max_lines=100)
        assert told is not None
        assert told.message is not None
        assert own(told.message)["appliance"] == name
        assert (len(told.deliveries), len(told.lines)) == (1, 18)
    assert asked(tmp_path / "s", message_story, "esa3", 0, 21, max_lines=100) is None


def test_flags_and_hostile_lines_come_as_they_were(tmp_path: Path) -> None:
    """A line with markup, quotes and bytes that are no UTF-8 is shown as the core kept it, flags included."""
    odd = at(0, "MID 21 Subject '<script>alert(1)</script> \"quoted\" \\ \u2028 MID 99 queued for delivery'")
    raw = at(0, "MID 21 Subject ")[0] + b"'\xff\xfe'"
    late = at(4_000, "MID 21 Subject 'after the end'")
    whole = made(*MESSAGE[:7], *odd, raw, *MESSAGE[8:], *at(3_000, "Version: 15.0.0-104 SN: 1-2"), *late, batch_lines=3)
    filed(tmp_path / "s", whole.rows)
    told = asked(tmp_path / "s", message_story, "esa1", 0, 21, max_lines=100)
    assert told is not None
    texts = [line.text for line in told.lines]
    assert odd[0].decode() in texts
    assert raw.decode("utf-8", "replace") in texts
    flags = {line["event"]["original"]: tuple(own(line).get("flags", ())) for line in whole.lines}
    assert {line.text: line.flags for line in told.lines} == {text: flags[text] for text in texts}
    assert ("late",) in flags.values()
