"""The simulator: same seed same bytes, every scenario there, a truth that agrees with itself and the lines, disorder leaves it alone."""

from __future__ import annotations

import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from esa_tls.errors import ConfigError
from esa_tls.offline.simulate import (
    ABSENCE_COUNTS,
    ATTEMPT_SHARES,
    CONNECTION_SHARES,
    HOST_SHARES,
    MESSAGE_SHARES,
    LineTruth,
    SimulationSettings,
    shuffle_batches,
    simulate,
    write_simulation,
)

BIG = SimulationSettings(seed=11, messages=5_000, appliances=2, messages_per_second=25.0, id_resets=1, quarantine_days=1.0)
MONTHS = {name: n for n, name in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1)}
STAMP = re.compile(
    rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (\w{3}) ([ \d]\d) (\d\d):(\d\d):(\d\d) (\d{4}) ((?:Info|Warning|Debug): .*)$", re.DOTALL
)


class Run:
    """One simulation in memory."""

    def __init__(self, settings: SimulationSettings) -> None:
        self.truth: list[dict[str, Any]] = []
        self.notes: list[LineTruth] = []
        self.lines = list(simulate(settings, truth=self.truth.append, line_truth=self.notes.append))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record["cisco_esa"] for record in self.truth if record["cisco_esa"]["record"] == kind]


@cache
def big() -> Run:
    """The 5,000 messages that most tests look at."""
    return Run(BIG)


def stamped(lines: list[tuple[str, bytes]]) -> Iterator[tuple[str, tuple[int, ...], int, str]]:
    """Appliance, stamp as a sortable tuple, the same in seconds of its month, and body; continuations are left out."""
    for name, line in lines:
        match = STAMP.match(line)
        if match is None:
            assert line.startswith(b"\t")
            continue
        month, day, hour, minute, second, year, body = match.groups()
        parts = (int(year), MONTHS[month.decode()], int(day), int(hour), int(minute), int(second))
        seconds = ((parts[1] * 31 + parts[2]) * 24 + parts[3]) * 3600 + parts[4] * 60 + parts[5]
        yield name, parts, seconds, body.decode()


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    """What tells two records of a kind apart."""
    kind = record["record"]
    zone = "zone" if record.get("reset_zone") else record["epoch"]
    number = record.get("icid", record.get("dcid")) if kind == "connection" else record["mid"]
    rest: tuple[Any, ...] = (record["direction"],) if kind == "connection" else ()
    if kind == "delivery":
        rest = (record["delivery"]["ordinal"], record["delivery"]["result"])
    return (kind, record["appliance"], zone, number, *rest)


def test_the_same_seed_gives_the_same_bytes_and_truth() -> None:
    """Two runs of the same settings cannot be told apart; another seed differs."""
    settings = SimulationSettings(seed=5, messages=300, appliances=2)
    first, second = Run(settings), Run(settings)

    assert first.lines == second.lines
    assert first.truth == second.truth
    assert Run(SimulationSettings(seed=6, messages=300, appliances=2)).lines != first.lines


def test_truth_on_or_off_changes_no_line() -> None:
    """Collecting the truth draws no random number."""
    settings = SimulationSettings(seed=5, messages=200)

    assert Run(settings).lines == list(simulate(settings))


def test_one_appliance_more_changes_nothing_for_the_others() -> None:
    """Each appliance has a random stream of its own."""
    one = [line for name, line in simulate(SimulationSettings(messages=100, messages_per_second=5.0)) if name == "esa1"]
    two = [line for name, line in simulate(SimulationSettings(messages=200, messages_per_second=10.0, appliances=2)) if name == "esa1"]

    assert one == two


def test_stamps_never_go_back_within_an_appliance() -> None:
    """Each appliance's stamps are non-decreasing, over the reset of its ids too."""
    last: dict[str, tuple[int, ...]] = {}
    for name, stamp, _, _ in stamped(big().lines):
        assert stamp >= last.get(name, stamp)
        last[name] = stamp
    assert set(last) == {"esa1", "esa2"}


def test_appliances_are_interleaved() -> None:
    """Lines come in order of time over all appliances, not box by box."""
    changes = sum(a != b for (a, _), (b, _) in pairwise(big().lines))

    assert changes > 1_000


def test_exactly_the_messages_asked_for_are_received() -> None:
    """Received messages are those with a reception of their own; log head and calm stretches come on top."""
    settings = SimulationSettings(seed=3, messages=777, log_head=False, appliances=3)
    received = [m for m in Run(settings).of("message") if "parent_mid" not in m]

    assert len(received) == 777


SHAPES = {
    # row of docs/log-lines.md: anchored shape
    "1": r"Info: New SMTP ICID \d+ interface .+ \([\d.]+\) address [\da-f.:]+ reverse dns host .+ verified (yes|no)$",
    "4": r"Info: ICID \d+ ACCEPT SG \w+ match sbrs\[-1\.0:10\.0\] SBRS 3\.4 country United States$",
    "5": r"Info: ICID \d+ RELAY SG RELAYLIST match 192\.0\.2\.0/24 SBRS not enabled$",
    "6": r"Info: ICID \d+ ACCEPT SG None match  SBRS None$",
    "8": r"Info: ICID 0 TCPREFUSE SG BLACKLIST match sbrs\[-10\.0:-0\.5\] SBRS -9\.9$",
    "9": r"Info: ICID \d+ TLS success protocol \S+ cipher [\w-]+$",
    "10": r"Info: ICID \d+ TLS success$",
    "11": r"Info: ICID \d+ TLS failed$",
    "12": r"Info: ICID \d+ TLS failed: \[Errno 54\] Connection reset by peer$",
    "14": r"Info: ICID \d+ TLS was required but remote host did not initiate it$",
    "15": r"Info: ICID \d+ lost$",
    "16": r"Info: ICID \d+ close$",
    "17": r"Info: SMTP server connection killed ICID: \d+$",
    "18": r"Info: ICID \d+ disconnected address [\da-f.:]+, (no messages injected within timeout period|exceeded .+ time)$",
    "19": r"Info: ICID \d+ Connection from \S+ on interface .+ \(\S+\) lost after 139 seconds \(DNS query took 139 seconds\), before any",
    "20": r"Info: ICID \d+ Receiving Failed: (Connection limit exceeded|Message size exceeds limit)$",
    "21": r"Warning: System limit reached: connection limit for IP \S+ on listener Incoming ICID \d+: max: 1$",
    "22": r"Info: ICID \d+ Delayed HAT REJECT continuing session for recipient logging \(\S+\)$",
    "23": r"Info: SMTP Auth: \(ICID \d+\) succeeded for user: anna using AUTH mechanism: LOGIN with profile: ldap1$",
    "24": r"Info: SMTP Auth \(ICID \d+\) was required but remote host did not initiate it$",
    "25": r"Info: ICID \d+ Address: <\S+> sender rejected, envelope sender domain does not exist$",
    "27": r"Info: ICID \d+ Unknown command: .+$",
    "30": r"Debug: MID \d+ ICID \d+ TLS read 126 bytes \(0\.0 seconds\)$",
    "31": r"Info: New SMTP DCID \d+ interface [\d.]+ address [\da-f.:]+ port 25$",
    "33": r"Info: DCID \d+ TLS success protocol \S+ cipher [\w-]+$",
    "34": r"Info: DCID \d+ TLS success protocol \S+ cipher [\w-]+ for \S+$",
    "35": r"Info: DCID \d+ TLS success protocol \S+ cipher [\w-]+ CN=\S+$",
    "36": r"Info: DCID \d+ TLS success CN: <Messaging Gateway Appliance Demo Cert>$",
    "37": r"Info: DCID \d+ TLS failed: STARTTLS unexpected response$",
    "37 bare": r"Info: DCID \d+ TLS failed$",
    "38": r"Info: DCID \d+ IP \S+ TLS failed: STARTTLS unexpected response$",
    "39": r"Info: DCID \d+ IP \S+ TLS was required but could not be successfully negotiated$",
    "40": r"Info: DCID \d+ STARTTLS command not supported\.?$",
    "42": r"Info: Connection Error: DCID \d+ domain: \S+ IP: \S+ port: 25 details: .+ interface: \S+ reason: network error$",
    "44": r"Info: Delivery start DCID \d+ MID \d+ to RID \[\d+(, \d+)*\]$",
    "45": r"Info: Message done DCID \d+ MID \d+ to RID \[\d+(, \d+)*\]$",
    "45 headers": r"Info: Message done DCID \d+ MID \d+ to RID \[\d+(, \d+)*\] \[\('.+\)\]$",
    "46": r"Info: MID \d+ RID \[\d+(, \d+)*\] Response '.+'$",
    "46 old": r"Info: MID \d+ RID \[\d+(, \d+)*\] Response [^'\"].*$",
    "47": r"Info: Bounced: DCID [1-9]\d* MID \d+ to RID \d+ - 5\.\d\.\d - .+ \('\d+', \['.+'\]\) \[\]$",
    "47 no connection": r"Info: Bounced: DCID 0 MID \d+ to RID \d+ - 5\.1\.2 - Bad destination host .+ \[\]$",
    "49": r"Info: Delayed: DCID \d+ MID \d+ to RID \d+ - 4\.\d\.\d - .+ \[\]$",
    "50": r"Info: MID \d+ to RID \[\d+(, \d+)*\] pending till \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}( \[Default\])?$",
    "52": r"Info: Possible Delivery: DCID: \d+ MID \d+ to \[\d+(, \d+)*\]$",
    "53": r"Info: Deleted: MID \d+ to \[\d+(, \d+)*\]$",
    "54": r"Info: DCID \d+ close$",
    "55": r"Info: SMTP client connection killed DCID: \d+$",
    "56": r"Info: Start MID \d+ ICID [1-9]\d*$",
    "56 internal": r"Info: Start MID \d+ ICID 0$",
    "57": r"Info: MID \d+ ICID \d+ From: <.*>$",
    "58": r"Info: MID \d+ ICID \d+ RID \d+ To: <.+@\S+>$",
    "59": r"Info: MID \d+ ICID \d+ To: <\S+> Rejected by (RAT|LDAPACCEPT|Injection Control|Receiving Control)$",
    "61": r"Info: MID \d+ Message-ID '<.+@.+>'$",
    "62 repr": r"Info: MID \d+ Subject '.*'$",
    "62 double": r"Info: MID \d+ Subject \".*\"$",
    "62 none": r"Info: MID \d+ Subject [^'\"].*$",
    "63": r"Info: MID \d+ ready \d+ bytes from <.*>$",
    "64": r"Info: MID \d+ matched all recipients for per-recipient policy .+ in the (inbound|outbound) table$",
    "65": r"Info: MID \d+ interim verdict using engine: CASE spam negative$",
    "66": r"Info: MID \d+ antivirus (negative|positive '.+')$",
    "67": r"Info: MID \d+ AMP file reputation verdict : .+$",
    "68": r"Info: MID \d+ DKIM: pass signature verified \(d=\S+ s=s1 i=@\S+\)$",
    "69": r"Info: MID \d+ SDR: Tracker Header : \w+$",
    "73": r"Info: MID \d+ quarantined to \"(Policy|Outbreak)\" \(.+\)$",
    "74": r"Info: MID \d+ released from quarantine \"Policy\" \(manual\) t=\d+$",
    "74 deleted": r"Info: MID \d+ deleted from quarantine \"Policy\" \((manual|expired)\)$",
    "75": r"Info: ISQ: Quarantined MID \d+$",
    "76": r"Info: RPC Delivery start RCID \d+ MID \d+ to local IronPort Spam Quarantine$",
    "77": r"Info: MID \d+ queued for delivery$",
    "78": r"Info: Message finished MID \d+ done$",
    "79": r"Info: Message aborted MID \d+ (Receiving aborted( by sender)?|(Dropped|Bounced) by .+)$",
    "82": r"Info: LDAP: Drop query q1\.ldapaccept MID \d+ RID \d+ address .+$",
    "86": r"Info: MID \d+ was split creating MID \d+ due to a per-recipient policy VIP Users in the (inbound|outbound) table$",
    "87": r"Info: MID \d+ rewritten to MID \d+ by .+$",
    "88 copy": r"Info: MID \d+ (was )?generated based on MID \d+ by (bcc|bcc-scan|antivirus).*$",
    "88 notify": r"Info: MID \d+ generated based on MID \d+ by notify filter '.+'$",
    "89": r"Info: MID \d+ (was )?generated for bounce of MID \d+$",
    "90": r"Info: ISQ: Reinjected MID \d+ as MID \d+$",
    "status": r"Info: Status: CPULd \d+ .* CrtMID \d+ CrtICID \d+ CrtDCID \d+ .*$",
    "version": r"Info: Version: 14\.0\.0-698 SN: \w+-\w+$",
    "up": r"Info: System is coming up\.$",
}


@pytest.mark.parametrize("row", SHAPES)
def test_every_line_shape_occurs(row: str) -> None:
    """Each shape of docs/log-lines.md that the simulator knows is among 5,000 messages' lines."""
    shape = re.compile(SHAPES[row])

    assert any(shape.match(body) for _, _, _, body in bodies())


@cache
def bodies() -> list[tuple[str, tuple[int, ...], int, str]]:
    """The stamped lines of the big run."""
    return list(stamped(big().lines))


def test_every_outcome_end_and_result_occurs() -> None:
    """The closed lists of docs/records.md are covered: ends, outcomes, results, child kinds, postures."""
    run = big()
    connections, deliveries, messages = run.of("connection"), run.of("delivery"), run.of("message")
    recipients = [r for m in messages for r in m.get("recipients", ())]
    inbound = [c for c in connections if c["direction"] == "inbound"]
    outbound = [c for c in connections if c["direction"] == "outbound"]

    assert {c["connection"]["end"] for c in inbound} == {"close", "lost", "killed", "disconnected", "timeout"}
    assert {c["connection"]["end"] for c in outbound} == {"close", "killed", "error", "timeout"}
    assert {c["tls"]["outcome"] for c in inbound} == {c["tls"]["outcome"] for c in outbound} == {"success", "failed", "none", "unknown"}
    assert {(c["tls"]["outcome"], c["tls"].get("broken", False)) for c in inbound} >= {("success", True), ("success", False)}
    assert any(c["tls"]["outcome"] == "success" and c["tls"].get("required") for c in inbound)
    assert any(c["tls"]["outcome"] == "none" and "failure" in c["tls"] for c in inbound)
    assert {c["tls"]["evidence"] for c in connections} == {"line", "absence", "gap"}
    assert {d["delivery"]["result"] for d in deliveries} == {
        "delivered", "bounced", "delayed", "uncertain", "tls_blocked", "connection_error", "quarantined",
    }  # fmt: skip
    assert {m.get("child_kind") for m in messages} == {None, "split", "rewritten", "copy", "bounce", "notify", "reinjected"}
    assert {m["message"]["end"] for m in messages} == {"finished", "aborted", "settled", "epoch_reset"}
    assert {m["posture"] for m in messages} == {"encrypted", "exposed", "blocked", "partial", "undelivered", "continued", "unknown"}
    assert {r["result"] for r in recipients} == {
        "delivered", "bounced", "deleted", "dropped", "quarantined", "moved", "tls_blocked", "uncertain", "pending",
    }  # fmt: skip
    assert {m.get("mail_flow") for m in messages} >= {"incoming", "outgoing", "internal"}
    assert any(m["reception"]["tls"] == {"outcome": "failed", "evidence": "line", "in_clear": True} for m in messages if "reception" in m)


@pytest.mark.parametrize("scenario", CONNECTION_SHARES)
def test_each_client_scenario_can_be_had_alone(scenario: str) -> None:
    """A share table with one entry gives only that scenario, and it runs to an end."""
    shares = dict.fromkeys(CONNECTION_SHARES, 0.0) | {scenario: 1.0, "tls_success": 1.0}
    run = Run(SimulationSettings(messages=20, connection_shares=shares))

    assert run.of("connection")
    assert all(note.outcome is not None for note in run.notes if note.connection is not None)


@pytest.mark.parametrize("plan", ATTEMPT_SHARES)
def test_each_attempt_plan_comes_to_an_end(plan: str) -> None:
    """Even when every attempt goes that way, every message is ended by its last recipient."""
    shares = dict.fromkeys(ATTEMPT_SHARES, 0.0) | {plan: 1.0}
    run = Run(SimulationSettings(messages=40, attempt_shares=shares))

    assert {m["message"]["end"] for m in run.of("message")} <= {"finished", "aborted", "settled"}


@pytest.mark.parametrize("mode", HOST_SHARES)
def test_each_host_mode_comes_to_an_end(mode: str) -> None:
    """Even when every host outside takes STARTTLS that way, nothing waits for ever."""
    shares = dict.fromkeys(HOST_SHARES, 0.0) | {mode: 1.0}
    run = Run(SimulationSettings(messages=60, host_shares=shares))

    assert {m["message"]["end"] for m in run.of("message")} <= {"finished", "aborted", "settled"}


def test_no_two_records_are_of_the_same_thing() -> None:
    """Connections, messages and (attempt, result) pairs each have one record."""
    counts = Counter(key(record["cisco_esa"]) for record in big().truth)

    assert [k for k, n in counts.items() if n > 1] == []


def test_every_delivery_is_of_a_known_message_and_connection() -> None:
    """Its MID has a message record, its DCID a connection record, and its RIDs are that message's."""
    run = big()
    messages = {key(m)[1:]: m for m in run.of("message")}
    dcids = {key(c)[1:-1] for c in run.of("connection") if c["direction"] == "outbound"}
    for delivery in run.of("delivery"):
        zone = "zone" if delivery.get("reset_zone") else delivery["epoch"]
        message = messages[delivery["appliance"], zone, delivery["mid"]]
        assert set(delivery["rids"]) <= {r["rid"] for r in message["recipients"]}
        assert ("dcid" in delivery) == ("direction" in delivery) == ("tls" in delivery)
        if "dcid" in delivery:
            assert (delivery["appliance"], zone, delivery["dcid"]) in dcids
            if zone != "zone":
                assert delivery["connection"]["id"] == f"{delivery['appliance']}/{zone}/DCID/{delivery['dcid']}"


def test_the_last_word_on_a_recipient_is_in_a_delivery() -> None:
    """A delivered, bounced, blocked or uncertain RID has a delivery record that says so, with the same leg."""
    run = big()
    told: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for delivery in run.of("delivery"):
        for rid in delivery["rids"]:
            told[*key(delivery)[1:4], rid].append(delivery)
    seen = 0
    for message in run.of("message"):
        for recipient in message.get("recipients", ()):
            if recipient["result"] in ("delivered", "uncertain", "tls_blocked"):
                last = told[*key(message)[1:4], recipient["rid"]][-1]
                assert last["delivery"]["result"] == recipient["result"]
                assert last["tls"].get("in_clear") == recipient.get("in_clear")
                assert last["tls"]["outcome"] == recipient["tls_outcome"]
                seen += 1
    assert seen > 4_000


def test_ordinals_count_the_attempts_of_a_message() -> None:
    """The ordinals of a message's deliveries are 1 to n without a gap, but for attempts cut off by a reset."""
    ordinals: dict[tuple[Any, ...], set[int]] = defaultdict(set)
    for record in big().truth:
        if record["cisco_esa"]["record"] == "delivery" and not record.get("optional"):
            ordinals[key(record["cisco_esa"])[1:4]].add(record["cisco_esa"]["delivery"]["ordinal"])

    assert all(numbers == set(range(1, len(numbers) + 1)) for numbers in ordinals.values())


def expected_posture(message: dict[str, Any], *, in_counts: bool) -> str:
    """docs/correlation.md 3.6 again, from the recipients alone."""
    legs: list[str] = []
    received = "reception" in message
    way_in = message["reception"]["tls"].get("in_clear") if received else None
    for recipient in message.get("recipients", ()):
        if recipient["result"] == "moved":
            continue
        if recipient["result"] in ("delivered", "uncertain"):
            clear = [recipient.get("in_clear"), *([way_in] if received and in_counts else [])]
            legs.append("exposed" if True in clear else "encrypted" if None not in clear else "unknown")
        else:
            legs.append({"tls_blocked": "blocked", "pending": "unknown"}.get(recipient["result"], "undelivered"))
    if not legs:
        return "continued" if message.get("recipients") else "undelivered"
    if "exposed" in legs and "encrypted" in legs:
        return "partial"
    return min(legs, key=("exposed", "unknown", "blocked", "encrypted", "undelivered").index)


def test_postures_follow_from_the_recipients() -> None:
    """An independent fold over the recipients gives the same posture and posture_out."""
    for message in big().of("message"):
        assert message["posture"] == expected_posture(message, in_counts=True)
        assert message["posture_out"] == expected_posture(message, in_counts=False)


def test_children_inherit_the_reception_of_their_ancestor() -> None:
    """Splits, rewrites, copies and releases have their parent's reception; bounces and notifications have none and are internal."""
    run = big()
    messages = {key(m)[1:]: m for m in run.of("message")}
    for message in messages.values():
        if "parent_mid" not in message:
            continue
        if message["child_kind"] in ("bounce", "notify"):
            assert "reception" not in message
            assert message["mail_flow"] == "internal"
            continue
        zone = "zone" if message.get("reset_zone") else message["epoch"]
        parent = messages[message["appliance"], zone, message["parent_mid"]]
        assert message["reception"] == parent["reception"]
        assert (message["mid"] in parent.get("child_mids", ())) == (message["child_kind"] != "reinjected")


def test_children_keep_the_snapshot_and_not_the_connections_later_state() -> None:
    """Mail that came in clear before a late STARTTLS stays in clear when a user releases it, long after the connection was under TLS."""
    run = Run(
        SimulationSettings(
            messages=200,
            connection_shares=dict.fromkeys(CONNECTION_SHARES, 0.0) | {"late_starttls": 1.0},
            message_shares=dict.fromkeys(MESSAGE_SHARES, 0.0) | {"spam_quarantine": 1.0},
        )
    )
    released = Counter(m["reception"]["tls"]["in_clear"] for m in run.of("message") if m.get("child_kind") == "reinjected")

    assert min(released[True], released[False]) > 10
    assert {c["tls"]["outcome"] for c in run.of("connection") if c["direction"] == "inbound" and c["connection"]["start_seen"]} == {
        "success"
    }


def test_open_paths_name_fields_of_the_records() -> None:
    """Every open path, and every path whose absence counts, lies below cisco_esa or email."""
    for record in big().truth:
        for path in record.get("open", ()):
            assert path.split(".")[0] in ("cisco_esa", "email")
    assert all(path.split(".")[0] in ("cisco_esa", "email") for path in ABSENCE_COUNTS)


def test_tls_lines_and_outcomes_agree() -> None:
    """Whoever has a success line is a success, whoever has none is not; ids are read from fixed places only."""
    success = re.compile(r"Info: (ICID|DCID) (\d+) TLS success")
    said = {(name, m[1], int(m[2])) for name, _, _, body in bodies() if (m := success.match(body))}
    known = {
        (c["appliance"], "ICID" if c["direction"] == "inbound" else "DCID", c.get("icid", c.get("dcid"))) for c in big().of("connection")
    }
    told = {
        (c["appliance"], "ICID" if c["direction"] == "inbound" else "DCID", c.get("icid", c.get("dcid")))
        for c in big().of("connection")
        if c["tls"]["outcome"] == "success"
    }

    assert said == told
    assert len(known) > len(told)


def test_a_late_starttls_is_never_in_the_second_of_a_start() -> None:
    """On a connection whose mail started in clear, the TLS success line is at least a second younger than that start."""
    pattern = re.compile(r"Info: (?:Start MID \d+ ICID (\d+)$|ICID (\d+) TLS (success|failed))")
    started: dict[tuple[str, str], int] = {}
    tls: set[tuple[str, str]] = set()
    late = 0
    for name, _, second, body in bodies():
        match = pattern.match(body)
        if match is None or match[1] == "0":
            continue
        if match[1]:
            started.setdefault((name, match[1]), second)
        elif (name, match[2]) in started and (name, match[2]) not in tls:
            assert second > started[name, match[2]]
            late += 1
        if match[2] and match[3] == "success":
            tls.add((name, match[2]))
    assert late > 20


def test_connections_speak_at_least_every_quarter_of_an_hour() -> None:
    """No connection is silent for 15 min before its last line, so none is given up while it lives."""
    pattern = re.compile(r"Info: (?:New SMTP |Start MID \d+ |Delivery start |Message done )?(ICID|DCID) ([1-9]\d*)")
    last: dict[tuple[str, str, str], int] = {}
    for name, _, second, body in bodies():
        match = pattern.match(body)
        if match is not None:
            where = (name, match[1], match[2])
            assert second - last.get(where, second) < 900
            last[where] = second


def test_blocked_attempts_have_no_delivery_start() -> None:
    """tls_blocked: TLS failed on that DCID, and no Delivery start names it; all others over a DCID have one."""
    pattern = re.compile(r"Info: Delivery start DCID (\d+) MID (\d+) ")
    starts = {(name, int(m[1]), int(m[2])) for name, _, _, body in bodies() if (m := pattern.match(body))}
    for delivery in big().of("delivery"):
        if "dcid" in delivery:
            where = (delivery["appliance"], delivery["dcid"], delivery["mid"])
            assert (where in starts) == (delivery["delivery"]["result"] != "tls_blocked")


def test_a_reset_starts_low_after_a_silence_and_is_calm_at_first() -> None:
    """New ids are below half and over 100 below the old, after 20 min of silence; at least 40 records of each kind lie in the zone."""
    pattern = re.compile(r"Info: (New SMTP ICID|New SMTP DCID|Start MID) (\d+)")
    highest: dict[tuple[str, str], int] = {}
    resets: Counter[tuple[str, str]] = Counter()
    quiet: dict[str, int] = {}
    last: dict[str, int] = {}
    for name, _, second, body in bodies():
        if second - last.get(name, second) >= 1_200:
            quiet[name] = quiet.get(name, 0) + 1
        last[name] = second
        match = pattern.match(body)
        if match is None:
            continue
        where, number = (name, match[1]), int(match[2])
        if number < highest.get(where, 0) / 2 and number < highest[where] - 100:
            resets[where] += 1
            highest[where] = number
            assert quiet[name] == resets[where]
        highest[where] = max(highest.get(where, 0), number)
    zones = Counter((r["appliance"], r["record"], r.get("direction")) for r in (t["cisco_esa"] for t in big().truth) if r.get("reset_zone"))

    assert len(resets) == 6
    assert set(resets.values()) == {1}
    assert all(zones[name, *rest] >= 40 for name in ("esa1", "esa2") for rest in (("connection", "inbound"), ("message", None)))
    assert {r["epoch"] for r in big().of("message") if not r.get("reset_zone")} == {0, 1}
    assert all("epoch" not in r and "id" not in r["connection"] for r in big().of("connection") if r.get("reset_zone"))


def test_hostile_text_does_not_change_the_truth_of_anybody_else() -> None:
    """With every text hostile, the lines still agree with the outcomes, and pretended lines are inside text."""
    run = Run(SimulationSettings(seed=2, messages=300, hostile=1.0))
    inside = [body for _, _, _, body in stamped(run.lines) if re.search(r"^Info: .*Info: ", body)]
    success = re.compile(r"Info: ICID (\d+) TLS success")
    said = {int(m[1]) for _, _, _, body in stamped(run.lines) if (m := success.match(body))}

    assert len(inside) > 300
    assert said == {c["icid"] for c in run.of("connection") if c["direction"] == "inbound" and c["tls"]["outcome"] == "success"}


def test_line_truths_name_the_connection_of_a_line() -> None:
    """ICID and DCID lines are their connection's; lines saying ICID 0 and RPC lines are nobody's; Responses are the DCID's."""
    run = big()
    assert len(run.notes) == len(run.lines)
    for (name, line), note in zip(run.lines, run.notes, strict=True):
        match = STAMP.match(line)
        body = "" if match is None else match[7].decode()
        owner = re.match(r"Info: (?:New SMTP |Delivery start |Message done |Start MID \d+ |MID \d+ )?(ICID|DCID) (\d+) ", body)
        if owner is not None and owner[2] != "0":
            assert note.connection is not None
            assert note.connection.startswith(f"{name}/")
            assert note.connection.endswith(f"/{owner[1]}/{owner[2]}")
        if re.match(r"Info: MID \d+ (RID \[[\d, ]+\] Response |to RID \[[\d, ]+\] pending )", body):
            assert note.direction == "outbound"
        if re.match(r"Info: MID \d+ (ready|queued) ", body) and note.connection is not None:
            assert note.direction == "inbound"
        if body.startswith("Info: RPC ") or re.match(r"Info: (Start )?MID \d+ ICID 0\b", body):
            assert note.connection is None
        assert (note.connection is None) == (note.direction is None) == (note.outcome is None)


def test_loss_and_shuffling_leave_the_truth_alone() -> None:
    """The truth file is the same byte for byte; the lines are fewer, or the same in another order inside their second."""
    settings = SimulationSettings(seed=4, messages=400)

    def written(*, shuffle: bool, loss: float) -> tuple[list[bytes], str]:
        out, truth = io.BytesIO(), io.StringIO()
        counts = write_simulation(settings, out, truth, shuffle_in_second=shuffle, loss=loss)
        lines = out.getvalue().splitlines()
        assert counts.lines == len(lines)
        assert counts.truth_records == truth.getvalue().count("\n")
        return lines, truth.getvalue()

    plain, truth = written(shuffle=False, loss=0.0)
    shuffled, shuffled_truth = written(shuffle=True, loss=0.0)
    lossy, lossy_truth = written(shuffle=False, loss=0.1)
    assert truth == shuffled_truth == lossy_truth
    assert plain == [line for _, line in simulate(settings)]
    assert shuffled != plain
    assert sorted(shuffled) == sorted(plain)
    assert [line[:24] for line in shuffled if line[:1] != b"\t"] == [line[:24] for line in plain if line[:1] != b"\t"]
    assert 0.05 < 1 - len(lossy) / len(plain) < 0.15
    assert not Counter(lossy) - Counter(plain)
    assert write_simulation(settings, io.BytesIO()).truth_records == 0
    assert written(shuffle=True, loss=0.1) == written(shuffle=True, loss=0.1)


def test_files_of_appliances_and_line_truths() -> None:
    """One file an appliance holds that appliance's lines in order; line truths come one a line, all decided."""
    settings = SimulationSettings(seed=4, messages=100, appliances=2)
    files = {name: io.BytesIO() for name in settings.names}
    notes = io.StringIO()

    counts = write_simulation(settings, files, lines_truth=notes)

    lines = list(simulate(settings))
    assert {name: f.getvalue() for name, f in files.items()} == {
        name: b"".join(line + b"\n" for owner, line in lines if owner == name) for name in settings.names
    }
    decoded = [msgspec.json.decode(line) for line in notes.getvalue().splitlines()]
    assert counts.lines == len(decoded) == len(lines)
    assert [d["appliance"] for d in decoded] == [name for name, _ in lines]
    assert all(d["outcome"] is not None for d in decoded if d["connection"] is not None)


def test_the_syslog_form_names_host_and_log_and_can_say_everything_twice() -> None:
    """PRI, stamp without year, host, log name; the second subscription repeats each body under its own name."""
    settings = SimulationSettings(seed=4, messages=60, appliances=2, form="syslog", log_name="{appliance}_mail", second_log_name="audit")
    shape = re.compile(rb"<166>\w{3} [ \d]\d \d\d:\d\d:\d\d (esa\d) (\w+): (?:Info|Warning|Debug): ")
    seen: dict[tuple[str, str], Counter[bytes]] = defaultdict(Counter)
    for name, line in simulate(settings):
        match = shape.match(line)
        assert match is not None
        assert match[1].decode() == name
        seen[name, match[2].decode()][line.replace(b" " + match[2] + b": ", b" ", 1)] += 1

    assert set(seen) == {("esa1", "esa1_mail"), ("esa1", "audit"), ("esa2", "esa2_mail"), ("esa2", "audit")}
    assert all(seen[name, f"{name}_mail"] == seen[name, "audit"] for name in settings.names)


def test_batches_come_late_but_complete() -> None:
    """Every line comes once, order inside a batch is kept, some batches are late and none by more than asked."""
    batches = list(shuffle_batches(range(1_000), batch_lines=10, seed=1, late_share=0.3, latest=4))
    order = [batch[0] // 10 for batch in batches]

    assert sorted(n for batch in batches for n in batch) == list(range(1_000))
    assert all(batch == list(range(batch[0], batch[0] + 10)) for batch in batches)
    assert order != sorted(order)
    for position, number in enumerate(order):
        assert sum(1 for other in order[:position] if other > number) <= 4
    assert order == [batch[0] // 10 for batch in shuffle_batches(range(1_000), batch_lines=10, seed=1, late_share=0.3, latest=4)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": 0},
        {"hostile": 1.5},
        {"messages_per_second": 0.0},
        {"span_s": -1.0},
        {"quarantine_days": 60.0},
        {"second_log_name": "audit"},
        {"connection_shares": {"no_such": 1.0}},
        {"attempt_shares": {"delivered": -1.0}},
        {"host_shares": dict.fromkeys(HOST_SHARES, 0.0)},
        {"id_resets": 2, "mid_start": 1_000},
    ],
)
def test_settings_that_cannot_be_simulated_are_refused(wrong: dict[str, Any]) -> None:
    """A wrong value is a ConfigError at once, not odd traffic later."""
    with pytest.raises(ConfigError, match="simulate: "):
        SimulationSettings(**wrong)


def test_appliances_that_could_not_be_told_apart_are_refused() -> None:
    """Two appliances of the file form do not go into one file."""
    with pytest.raises(ConfigError, match="syslog form"):
        write_simulation(SimulationSettings(messages=2, appliances=2), io.BytesIO())


def test_span_sets_the_rate() -> None:
    """``span_s`` spreads the messages over that time."""
    run = Run(SimulationSettings(messages=500, span_s=5_000.0, log_head=False, quarantine_days=0.02))
    starts = [second for _, _, second, body in stamped(run.lines) if re.match(r"Info: Start MID \d+ ICID [1-9]", body)]

    assert 3_500 < starts[-1] - starts[0] < 6_500


def test_several_resets_are_each_visible() -> None:
    """Two resets give the epochs 0, 1 and 2, each starting below half of the one before."""
    run = Run(SimulationSettings(messages=300, id_resets=2, quarantine_days=0.05))

    assert {m["epoch"] for m in run.of("message") if not m.get("reset_zone")} == {0, 1, 2}
