"""An appliance's life: it comes up, clients arrive, its ids start low again, and in the end it falls silent.

Around a reset of the ids: everything that is short ends, what sleeps in queues and quarantines is gone with the old installation, nothing
is said for longer than any connection may be silent, and then comes a calm stretch in which one plain mail follows the other, so that every
reader has found out about the reset before the real traffic goes on.
"""

from __future__ import annotations

import math
from typing import Final

from esa_tls.offline.simulate_inbound import inbound, messages_of, tls_up
from esa_tls.offline.simulate_model import Actor, Connection, Message, Recipient, World
from esa_tls.offline.simulate_reception import receive
from esa_tls.offline.simulate_truth import delivery_record

_STATUS_EVERY_S: Final = 300.0
_STATUS_PER_ROLLOVER: Final = 12
# Silence and calm around a reset: longer than the 15 min after which a connection is given up, and twice the 20 ids that confirm a reset.
_DRAIN_POLL_S: Final = 5.0
_SILENCE_S: Final = 1_500.0
_CALM_MAILS: Final = 45
# Long enough after the last line for every timer of a reader that goes by the stamps.
_LAST_STATUS_LINES: Final = 6
_MESSAGES_PER_CONNECTION: Final = 1.05


def appliance_life(world: World) -> Actor:
    """All of it. Routine actors run beside it."""
    _say_log_start(world)
    if world.settings.log_head:
        _log_head(world)
    world.spawn(_status(world), _STATUS_EVERY_S, routine=True)
    eras = world.settings.id_resets + 1
    for era in range(eras):
        if era:
            yield from _id_reset(world)
        goal = world.quota * (era + 1) // eras
        rate = world.settings.rate / world.settings.appliances / _MESSAGES_PER_CONNECTION
        while world.started < goal:
            scenario = world.connection_plans.pick(world.random())
            messages = messages_of(world, scenario)
            if messages > goal - world.started:
                # Scenarios bring all their messages or none; the last connections are plain ones.
                scenario, messages = "tls_success", goal - world.started
            world.started += messages
            world.spawn(inbound(world, scenario=scenario, messages=messages))
            yield -math.log(1.0 - world.random()) / rate
    world.arrivals_done = True


def _say_log_start(world: World) -> None:
    serial = f"421F{sum(world.name.encode()):08X}-C9AE{len(world.name):04X}"
    world.say("Begin Logfile")
    world.say(f"Version: 14.0.0-698 SN: {serial}")
    world.say("Time offset from UTC: 0 seconds")


def _status(world: World) -> Actor:
    """Status lines for as long as anybody works or sleeps, then a few more so that time goes on in the log."""
    left = _LAST_STATUS_LINES
    count = 0
    while left:
        if world.arrivals_done and not world.working and not world.asleep:
            left -= 1
        count += 1
        world.say(
            f"Status: CPULd {int(world.random() * 90)} DskIO 0 RAMUtil 12 QKUsd 141 CrtMID {world.mid} CrtICID {world.icid} "
            f"CrtDCID {world.dcid} InjMsg {world.started} WorkQ {world.working} QuarMsgs {world.asleep} LogAvail 66G EuQ 0 EuqRls 0"
        )
        if count % 5 == 0:
            world.say("SenderBase upload: 734 hosts totaling 201887 bytes")
        if count % _STATUS_PER_ROLLOVER == 0:
            world.say("End Logfile")
            _say_log_start(world)
        yield _STATUS_EVERY_S
    world.say("End Logfile")


def _id_reset(world: World) -> Actor:
    """The end of one installation and the calm beginning of the next."""
    while world.busy():
        yield _DRAIN_POLL_S
    world.reset()
    yield _SILENCE_S
    world.say("System is coming up.")
    _say_log_start(world)
    world.spawn(_status(world), _STATUS_EVERY_S, routine=True)
    world.zone = True
    for _ in range(_CALM_MAILS):
        world.spawn(inbound(world, scenario="tls_success", messages=1))
        yield 1.0
        while world.busy():
            yield 1.0
    world.zone = False
    yield 60.0


def _log_head(world: World) -> None:
    """What was under way before the log began: connections and messages whose first lines are missing."""
    settings = world.settings
    if min(settings.icid_start, settings.dcid_start, settings.mid_start) <= 10:
        return
    for back, tls in ((1, False), (2, True)):
        connection = Connection(world, kind="ICID", number=settings.icid_start - back, peer="")
        world.spawn(_headless_inbound(world, connection, tls=tls))
    for back, told in ((1, False), (2, True)):
        connection = Connection(world, kind="DCID", number=settings.dcid_start - back, peer="")
        world.spawn(_headless_delivery(world, connection, mid=settings.mid_start - back, told=told))


def _headless_inbound(world: World, connection: Connection, *, tls: bool) -> Actor:
    """A reception of which only the mail is seen, or the mail and the TLS line before it."""
    connection.start_seen = False
    yield 0.2 + world.random()
    if tls:
        tls_up(world, connection)
    else:
        connection.decide("unknown", "gap")
    yield from receive(world, connection)
    yield 0.5
    connection.say(f"ICID {connection.number} close")
    connection.finish("close")


def _headless_delivery(world: World, connection: Connection, *, mid: int, told: bool) -> Actor:
    """A delivery of a message nobody saw coming, over a connection nobody saw opening; ``told``: a line says that it has no TLS."""
    connection.start_seen = False
    yield 0.2 + world.random()
    n = connection.number
    if told:
        connection.failure = "starttls_not_offered"
        connection.say(f"DCID {n} STARTTLS command not supported")
    connection.decide("none" if told else "unknown", "line" if told else "gap")
    message = Message(world, mid=mid, reception=None, sender="", sender_host=None)
    message.start_seen = False
    message.outcome, message.evidence = "unknown", "gap"
    message.attempts = 1
    recipient = Recipient(0, address=None, host=world.archive)
    message.recipients.append(recipient)
    connection.say(f"Delivery start DCID {n} MID {mid} to RID [0]")
    yield 0.7
    connection.say(f"Message done DCID {n} MID {mid} to RID [0]")
    if world.truth is not None:
        world.truth(delivery_record(message, ordinal=1, rids=[0], result="delivered", connection=connection, in_clear=connection.in_clear))
    message.settle([recipient], "delivered", connection=connection, in_clear=connection.in_clear)
    connection.say(f"MID {mid} RID [0] Response '2.0.0 OK'")
    message.say(f"Message finished MID {mid} done")
    message.finish("finished")
    yield 5.0
    connection.say(f"DCID {n} close")
    connection.finish("close")
