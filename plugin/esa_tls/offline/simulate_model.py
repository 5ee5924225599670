"""The simulated appliance: its clock, its counters, what is open on it, and the line it is writing.

An actor is a generator that acts, then yields the seconds until it acts again. One heap orders the actors of all appliances; an actor
says its lines while it acts, so a line's stamp is the second it is said in and stamps never go back. Each appliance has its own random
stream: one appliance more changes nothing for the others.

State here is what happened, set by the scenario that made it happen. No outcome is derived from lines.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from heapq import heappop, heappush
from random import Random
from typing import Final

import msgspec

from esa_tls.offline import simulate_truth as truth_records
from esa_tls.offline.simulate_settings import (
    ATTEMPT_SHARES,
    CONNECTION_SHARES,
    HOST_SHARES,
    MESSAGE_SHARES,
    SimulationSettings,
    merged_shares,
    reset_start,
)
from esa_tls.offline.simulate_text import Weighted, pretended_line

Actor = Generator[float, None, None]

# Whoever waits at least this long (s) is asleep in a queue or a quarantine; a reset of the ids does not wait for him.
LONG_WAIT_S: Final = 900.0

_WORK, _ASLEEP, _ROUTINE = range(3)


class LineTruth(msgspec.Struct):
    """Whose line it is: connection id, direction, and the outcome decided for it. No connection: all three None.

    ``outcome`` is None while the connection is undecided and is filled in when the simulator decides it, at the latest when the connection
    ends. ``open``: no rule of docs/correlation.md says whose the line is. ``reset_zone``: of the calm stretch after a reset.
    """

    connection: str | None = None
    direction: str | None = None
    outcome: str | None = None
    reset_zone: bool = False
    open: bool = False


class Connection:
    """An ICID or a DCID and everything that happened to it."""

    def __init__(self, world: World, *, kind: str, number: int, peer: str) -> None:
        self.world = world
        self.appliance = world.name
        self.epoch = world.epoch
        self.zone = world.zone
        self.kind = kind
        self.number = number
        self.id = f"{world.name}/{world.epoch}/{kind}/{number}"
        self.peer = peer
        self.outcome: str | None = None
        self.evidence: str | None = None
        self.required = False
        self.failure: str | None = None
        self.broken = False
        self.protocol: str | None = None
        self.cipher: str | None = None
        self.end: str | None = None
        self.lost = False
        self.start_seen = True
        self.policy: str | None = None
        self.group: str | None = None
        self.sbrs: float | None = None
        self.country: str | None = None
        self.flow: str | None = None
        self.host: Host | None = None
        # Of an ICID: how many messages the client brings. Of a DCID: how often it came back from idleness.
        self.brings = 0
        self.uses = 0
        self.open: list[str] = []
        self.undecided: list[LineTruth] = []

    @property
    def direction(self) -> str:
        """``inbound`` or ``outbound``."""
        return "inbound" if self.kind == "ICID" else "outbound"

    @property
    def in_clear(self) -> bool | None:
        """Whether mail started now goes in clear; None when nobody can know."""
        return None if self.outcome == "unknown" else self.outcome != "success"

    def say(self, text: str) -> None:
        """One line of this connection."""
        self.world.say(text, self)

    def decide(self, outcome: str, evidence: str) -> None:
        """From here on the outcome is this; lines that waited for it get it."""
        self.outcome = outcome
        self.evidence = evidence
        for line in self.undecided:
            line.outcome = outcome
        self.undecided.clear()

    def finish(self, end: str) -> None:
        """The connection is over, and its record is known."""
        self.end = end
        if self.world.truth is not None:
            self.world.truth(truth_records.connection_record(self))


class Recipient:
    """One RID: its address and the final word on it."""

    __slots__ = ("address", "host", "in_clear", "outcome", "result", "rid")

    def __init__(self, rid: int, *, address: str | None, host: Host) -> None:
        self.rid = rid
        self.address = address
        self.host = host
        self.result = "pending"
        self.outcome: str | None = None
        self.in_clear: bool | None = None


class Message:
    """A MID: where it came from, where it goes, and what is left to do."""

    def __init__(self, world: World, *, mid: int, reception: Connection | None, sender: str, sender_host: Host | None) -> None:
        self.world = world
        self.appliance = world.name
        self.epoch = world.epoch
        self.zone = world.zone
        self.mid = mid
        self.reception = reception
        self.made_here = False
        # The snapshot of the reception as it was when the message was started.
        self.outcome = None if reception is None else reception.outcome
        self.evidence = None if reception is None else reception.evidence
        self.in_clear = None if reception is None else reception.in_clear
        self.flow = None if reception is None else reception.flow
        self.sender = sender
        self.sender_host = sender_host
        self.recipients: list[Recipient] = []
        self.message_id: str | None = None
        self.subject: str | None = None
        self.subject_form: str | None = None
        self.parent_mid: int | None = None
        self.child_kind: str | None = None
        self.child_mids: list[int] = []
        self.attempts = 0
        self.plan = "normal"
        self.plain = world.zone
        self.unfinished = False
        self.start_seen = True
        self.end: str | None = None
        self.open: list[str] = []
        world.messages[mid] = self

    def common_open(self) -> list[str]:
        """Open paths of the message's own facts, on its record and on its deliveries."""
        return [path for path in self.open if path in _OPEN_ON_DELIVERIES]

    def say(self, text: str) -> None:
        """One line that names the MID only: it is its reception's, with the snapshot's outcome."""
        self.world.say(text, self.reception, self.outcome)

    def over(self) -> bool:
        """Whether its record is known."""
        return self.end is not None

    def waiting(self) -> list[Recipient]:
        """Recipients without a final word."""
        return [r for r in self.recipients if r.result == "pending"]

    def settle(
        self, recipients: list[Recipient], result: str, *, connection: Connection | None = None, in_clear: bool | None = None
    ) -> None:
        """The final word on some recipients, over ``connection`` if one took part."""
        for recipient in recipients:
            recipient.result = result
            if connection is not None:
                recipient.outcome = connection.outcome
                recipient.in_clear = in_clear

    def finish(self, end: str) -> None:
        """The message is over, and its record is known."""
        self.end = end
        self.world.messages.pop(self.mid, None)
        if self.world.truth is not None:
            self.world.truth(truth_records.message_record(self))


_OPEN_ON_DELIVERIES: Final = frozenset({"email.subject", "email.message_id", "cisco_esa.mail_flow", "cisco_esa.posture_in"})


class Job:
    """Some recipients of one message that share a domain, on their way to one host."""

    __slots__ = ("blocked", "domain", "host", "message", "recipients", "tries")

    def __init__(self, message: Message, *, host: Host, domain: str, recipients: list[Recipient]) -> None:
        self.message = message
        self.host = host
        self.domain = domain
        self.recipients = recipients
        self.tries = 0
        self.blocked = False


class Host:
    """A destination: its domains, how it takes STARTTLS, and the delivery connections to it."""

    __slots__ = ("address", "domains", "idle", "limit", "mode", "open", "queue")

    def __init__(self, *, mode: str, address: str, domains: tuple[str, ...], limit: int) -> None:
        self.mode = mode
        self.address = address
        self.domains = domains
        self.limit = limit
        self.idle: list[Connection] = []
        self.open = 0
        self.queue: deque[Job] = deque()


class World:
    """One appliance."""

    def __init__(
        self,
        settings: SimulationSettings,
        *,
        name: str,
        clock: Clock,
        quota: int,
        truth: truth_records.TruthSink | None,
        line_truths: bool,
    ) -> None:
        self.settings = settings
        self.name = name
        self.clock = clock
        self.quota = quota
        self.truth = truth
        self.random: Callable[[], float] = Random(f"{settings.seed}/{name}").random
        self.now = float(settings.start_s)
        self.epoch = 0
        self.zone = False
        self.generation = 0
        self.working = 0
        self.asleep = 0
        self.arrivals_done = False
        self.started = 0
        self.icid = settings.icid_start - 1
        self.dcid = settings.dcid_start - 1
        self.mid = settings.mid_start - 1
        self.rcid = 0
        self.messages: dict[int, Message] = {}
        self.connection_plans = Weighted(merged_shares(settings.connection_shares, CONNECTION_SHARES))
        self.message_plans = Weighted(merged_shares(settings.message_shares, MESSAGE_SHARES))
        self.attempt_plans = Weighted(merged_shares(settings.attempt_shares, ATTEMPT_SHARES))
        self.inside, self.outside, self.archive = _hosts(settings, self.random)
        self.out: list[bytes] = []
        self.notes: list[LineTruth] | None = [] if line_truths else None
        self.second = -1
        self._info = b""
        self._prefix = b""

    def say(self, text: str, connection: Connection | None = None, outcome: str | None = None) -> None:
        """One Info line of ``connection``; ``outcome`` given: a message's line, with the outcome of its snapshot."""
        self.out.append(self._info + text.encode("utf-8", "surrogateescape"))
        if self.notes is not None:
            self.notes.append(self._note(connection, outcome))

    def say_at(self, level: str, text: str, connection: Connection | None = None, outcome: str | None = None) -> None:
        """The same at another level."""
        self.out.append(self._prefix + f"{level}: {text}".encode("utf-8", "surrogateescape"))
        if self.notes is not None:
            self.notes.append(self._note(connection, outcome))

    def say_open(self, text: str) -> None:
        """One Info line of which no rule of docs/correlation.md says whose it is."""
        self.say(text)
        if self.notes is not None:
            self.notes[-1].open = True

    def say_bare(self, text: str) -> None:
        """A continuation: no prefix, no connection."""
        self.out.append(text.encode("utf-8", "surrogateescape"))
        if self.notes is not None:
            self.notes.append(LineTruth())

    def _note(self, connection: Connection | None, outcome: str | None) -> LineTruth:
        if connection is None:
            return LineTruth(reset_zone=self.zone)
        note = LineTruth(connection.id, connection.direction, outcome or connection.outcome, connection.zone)
        if note.outcome is None:
            connection.undecided.append(note)
        return note

    def spawn(self, actor: Actor, delay: float = 0.0, *, routine: bool = False) -> None:
        """Let ``actor`` act after ``delay`` s. A routine actor (status lines) keeps nobody waiting."""
        self.clock.push(self, actor, delay, _ROUTINE if routine else _WORK)

    def turn(self, second: int) -> None:
        """A new second: its stamp."""
        self.second = second
        parts = time.gmtime(second)
        if self.settings.form == "file":
            self._prefix = (
                f"{_DAYS[parts.tm_wday]} {_MONTHS[parts.tm_mon - 1]} {parts.tm_mday:2d} {clock_text(second)} {parts.tm_year} ".encode()
            )
        else:
            stamp = f"{_MONTHS[parts.tm_mon - 1]} {parts.tm_mday:2d} {clock_text(second)}"
            self._prefix = f"<166>{stamp} {self.name} {self.settings.log_name.format(appliance=self.name)}: ".encode()
        self._info = self._prefix + b"Info: "

    @property
    def prefix(self) -> bytes:
        """The stamp of the present second, with all that stands before the level."""
        return self._prefix

    def next_mid(self) -> int:
        """A MID never used in this epoch."""
        self.mid += 1
        return self.mid

    def pretended(self) -> str | None:
        """Hostile text, in the share of the cases that the settings ask for."""
        if self.random() >= self.settings.hostile:
            return None
        return pretended_line(self.random, icid=self.icid, dcid=self.dcid, mid=self.mid)

    def busy(self) -> bool:
        """Whether anybody acts again soon."""
        return self.working > 0

    def reset(self) -> None:
        """All counters start low; what slept in queues and quarantines is gone with the old installation."""
        for message in list(self.messages.values()):
            message.open += ["cisco_esa.posture", "cisco_esa.posture_out", "cisco_esa.recipients.result", "cisco_esa.recipients.posture"]
            message.finish("epoch_reset")
        self.generation += 1
        self.working = self.asleep = 0
        self.epoch += 1
        self.icid = self.dcid = self.mid = reset_start(self.settings, epoch=self.epoch) - 1
        for host in (*self.inside, *self.outside, self.archive):
            host.idle.clear()
            host.queue.clear()
            host.open = 0


class Clock:
    """The order in which actors act, over all appliances."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, World, int, int, Actor]] = []
        self._count = 0

    def push(self, world: World, actor: Actor, delay: float, care: int) -> None:
        """Put ``actor`` ``delay`` s ahead."""
        if care != _ROUTINE:
            care = _ASLEEP if delay >= LONG_WAIT_S else _WORK
            if care == _WORK:
                world.working += 1
            else:
                world.asleep += 1
        self._count += 1
        heappush(self._heap, (world.now + delay, self._count, world, world.generation, care, actor))

    def run(self) -> Iterator[World]:
        """Act until nobody is left; yields a world whenever it has said something (the caller takes ``out``)."""
        heap = self._heap
        while heap:
            now, _, world, generation, care, actor = heappop(heap)
            if generation != world.generation:
                actor.close()
                continue
            if care == _WORK:
                world.working -= 1
            elif care == _ASLEEP:
                world.asleep -= 1
            world.now = now
            second = int(now)
            if second != world.second:
                world.turn(second)
            delay = next(actor, None)
            if delay is not None:
                self.push(world, actor, delay, care)
            if world.out:
                yield world


_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_OUTSIDE_HOSTS: Final = 48


def clock_text(second: int) -> str:
    """``HH:MM:SS`` in UTC."""
    rest = second % 86_400
    return f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"


def stamp_text(second: float) -> str:
    """A whole stamp as lines carry it in their text (``pending till``)."""
    parts = time.gmtime(second)
    return f"{_DAYS[parts.tm_wday]} {_MONTHS[parts.tm_mon - 1]} {parts.tm_mday:2d} {clock_text(int(second))} {parts.tm_year}"


def _hosts(settings: SimulationSettings, random: Callable[[], float]) -> tuple[list[Host], list[Host], Host]:
    """The site's own servers, those of the world, and the archive that copies go to."""
    limit = max(8, int(settings.rate / settings.appliances))
    modes = Weighted(merged_shares(settings.host_shares, HOST_SHARES))
    inside = [
        Host(mode="tls", address="203.0.113.10", domains=("example.com", "corp.example.com"), limit=limit),
        Host(mode="clear", address="203.0.113.11", domains=("old.example.com",), limit=limit),
        Host(mode="tls", address="203.0.113.12", domains=("lab.example.com", "shop.example.com"), limit=limit),
    ]
    # One host of each mode is certain while its share is above zero; chance decides the rest.
    certain = [mode for mode, share in merged_shares(settings.host_shares, HOST_SHARES).items() if share > 0]
    outside = []
    for n in range(_OUTSIDE_HOSTS):
        domains = tuple(f"d{n}-{i}.example.org" for i in range(1 + n % 3))
        address = f"2001:db8::{n:x}:25" if n % 11 == 7 else f"198.51.100.{n + 10}"
        mode = certain[n] if n < len(certain) else modes.pick(random())
        outside.append(Host(mode=mode, address=address, domains=domains, limit=limit))
    return inside, outside, Host(mode="tls", address="203.0.113.99", domains=("archive.example.com",), limit=limit)
