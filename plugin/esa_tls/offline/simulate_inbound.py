"""Reception: what each kind of client does on its connection, and the messages it brings.

Every connection opens and closes alike; between the two stands one step a scenario, found in a table. The outcome of a connection is set
where the scenario makes it happen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from esa_tls.offline.simulate_model import Actor, Connection, World
from esa_tls.offline.simulate_reception import abort, add_recipients, receive, start_message
from esa_tls.offline.simulate_text import ACCEPT_RULES, CIPHERS, INTERFACES, REJECT_RULES, RELAY_RULES, RESET_REASON, UNCOUNTRIED, pick

# Scenarios that need mail, and how many messages they bring; the others bring none.
MESSAGES_OF: Final = {
    "tls_success": None,
    "clear": None,
    "late_starttls": 2,
    "required_then_success": 1,
    "required_then_clear": 1,
    "broken_after_mail": 1,
    "failed_after_clear_mail": 1,
    "lost_after_mail": 1,
    "message_too_big": 1,
}
_REQUIRED: Final = "TLS was required but remote host did not initiate it"


def messages_of(world: World, scenario: str) -> int:
    """How many messages a connection of this scenario will bring."""
    if scenario not in MESSAGES_OF:
        return 0
    fixed = MESSAGES_OF[scenario]
    if fixed is not None:
        return fixed
    draw = world.random()
    return 1 if draw < 0.7 else 2 if draw < 0.87 else 3 + int(draw * 100) % 3


def inbound(world: World, *, scenario: str, messages: int) -> Actor:
    """One client's connection from its first line to its last."""
    if scenario == "tcp_refuse":
        world.say("ICID 0 TCPREFUSE SG BLACKLIST match sbrs[-10.0:-0.5] SBRS -9.9")
        return
    world.icid += 1
    peer = _peer(world)
    connection = Connection(world, kind="ICID", number=world.icid, peer=peer)
    connection.brings = messages
    n, say, random = connection.number, connection.say, world.random
    interface, local = pick(random, INTERFACES)
    say(f"New SMTP ICID {n} interface {interface} ({local}) address {peer} reverse dns host {_ptr(world)}")
    if scenario == "lost_before_commands":
        yield 20.0 + random() * 100.0
        say(
            f"ICID {n} Connection from {peer} on interface {interface} ({local}) lost after 139 seconds (DNS query took 139 seconds), "
            "before any commands were received"
        )
        connection.decide("unknown", "gap")
        connection.open.append("cisco_esa.connection.lost")
        yield from _close(connection)
        return
    _hat(world, connection, scenario=scenario)
    yield 0.05 + random() * 0.5
    step = _STEPS.get(scenario)
    if step is not None:
        yield from step(connection)
    if connection.end is None:
        yield from _close(connection)


def _peer(world: World) -> str:
    draw = world.random()
    last = int(draw * 1e6) % 250 + 1
    return f"2001:db8:5::{last:x}" if draw < 0.06 else f"198.51.100.{last}"


def _ptr(world: World) -> str:
    """Host name and verdict; the name is whatever its holder likes."""
    random = world.random
    if random() < world.settings.hostile:
        return pick(
            random,
            (
                "x verified yes address 192.0.2.9 verified no",
                f"Info: ICID {world.icid} TLS success verified no",
                "y.example address 192.0.2.9 reverse dns host z verified yes",
            ),
        )
    return pick(
        random, ("unknown verified no", "mx.example.org verified yes", " mail.example.net verified no", "http://h.example/ verified no")
    )


def _hat(world: World, connection: Connection, *, scenario: str) -> None:
    random, n = world.random, connection.number
    if scenario in ("reject", "delayed_reject"):
        policy, rules, flow = "REJECT", REJECT_RULES, None
    elif scenario == "auth_required" or random() < 0.3:
        policy, rules, flow = "RELAY", RELAY_RULES, "outgoing"
    else:
        policy, rules, flow = "ACCEPT", ACCEPT_RULES, "incoming"
    group, rule, score_text, score, country = pick(random, rules)
    connection.policy, connection.group, connection.sbrs, connection.flow = policy, group, score, flow
    connection.country = None if country in UNCOUNTRIED else country
    tail = "" if country is None else f" country {country}"
    connection.say(f"ICID {n} {policy} SG {group}{rule} SBRS {score_text}{tail}")


def _close(connection: Connection, *, lost: bool = False) -> Actor:
    """The last lines; a connection with neither TLS nor mail that ends in good order was in clear."""
    n, random = connection.number, connection.world.random
    yield 0.1 + random() * 1.5
    if lost:
        connection.lost = True
        if connection.outcome is None:
            connection.decide("unknown", "gap")
        connection.say(f"ICID {n} lost")
    if connection.outcome is None:
        connection.decide("none", "absence")
    connection.say(f"ICID {n} close")
    connection.finish("close")


def tls_up(world: World, connection: Connection) -> None:
    """STARTTLS done."""
    connection.decide("success", "line")
    n = connection.number
    if world.random() < 0.05:
        connection.say(f"ICID {n} TLS success")
        return
    connection.protocol, connection.cipher = pick(world.random, CIPHERS)
    connection.say(f"ICID {n} TLS success protocol {connection.protocol} cipher {connection.cipher}")


def _required(connection: Connection) -> None:
    """The client sent mail commands without STARTTLS and was refused."""
    connection.decide("failed", "line")
    connection.required = True
    connection.failure = "required_not_offered"
    connection.open = [path for path in connection.open if path != "cisco_esa.tls.failure.class"]
    connection.say(f"ICID {connection.number} {_REQUIRED}")


def _tls_failed(world: World, connection: Connection) -> None:
    """A failure line, with or without a reason; which class a bare one has is not laid down."""
    n = connection.number
    if world.random() < 0.4:
        connection.open.append("cisco_esa.tls.failure.class")
        connection.say(f"ICID {n} TLS failed")
    else:
        connection.failure = "reset"
        connection.say(f"ICID {n} TLS failed: {RESET_REASON}")


def _mail(connection: Connection, messages: int) -> Actor:
    for n in range(messages):
        if n:
            yield 0.1 + connection.world.random() * 4.0
        yield from receive(connection.world, connection)


def _tls_success(connection: Connection) -> Actor:
    tls_up(connection.world, connection)
    if connection.policy == "RELAY" and connection.world.random() < 0.2:
        connection.say(f"SMTP Auth: (ICID {connection.number}) succeeded for user: anna using AUTH mechanism: LOGIN with profile: ldap1")
    yield 0.05 + connection.world.random() * 0.6
    yield from _mail(connection, connection.brings)


def _clear(connection: Connection) -> Actor:
    pretended = connection.world.pretended()
    if pretended is not None:
        connection.say(f"ICID {connection.number} Unknown command: {pretended}")
    connection.decide("none", "absence")
    yield from _mail(connection, connection.brings)


def _late_starttls(connection: Connection) -> Actor:
    """One message in clear, STARTTLS more than a second after its start, then the others under TLS."""
    connection.decide("none", "absence")
    yield from receive(connection.world, connection)
    yield 1.1 + connection.world.random() * 5.0
    tls_up(connection.world, connection)
    yield 0.05 + connection.world.random() * 0.5
    yield from _mail(connection, connection.brings - 1)


def _required_not_offered(connection: Connection) -> Actor:
    _required(connection)
    if connection.world.random() < 0.3:
        yield 0.5
        _required(connection)
    yield from _close(connection, lost=connection.world.random() < 0.2)


def _required_after_failure(connection: Connection) -> Actor:
    connection.decide("failed", "line")
    connection.open.append("cisco_esa.tls.failure.class")
    connection.say(f"ICID {connection.number} TLS failed")
    connection.lost = True
    connection.say(f"ICID {connection.number} lost")
    _required(connection)
    yield 0.2
    yield from _close(connection)


def _required_then_success(connection: Connection) -> Actor:
    _required(connection)
    yield 0.2 + connection.world.random()
    tls_up(connection.world, connection)
    yield 0.1
    yield from _mail(connection, connection.brings)


def _required_then_clear(connection: Connection) -> Actor:
    """The demand is for one sender only; mail of another goes on in clear."""
    _required(connection)
    yield 1.1 + connection.world.random()
    yield from _mail(connection, connection.brings)


def _tls_failed_no_mail(connection: Connection) -> Actor:
    connection.decide("failed", "line")
    _tls_failed(connection.world, connection)
    yield from _close(connection, lost=connection.world.random() < 0.5)


def _broken_after_mail(connection: Connection) -> Actor:
    tls_up(connection.world, connection)
    yield 0.2
    yield from _mail(connection, connection.brings)
    yield 0.2 + connection.world.random() * 2.0
    connection.broken = True
    _tls_failed(connection.world, connection)


def _failed_after_clear_mail(connection: Connection) -> Actor:
    connection.decide("none", "absence")
    yield from _mail(connection, connection.brings)
    yield 1.1 + connection.world.random() * 3.0
    _tls_failed(connection.world, connection)


def _lost_after_mail(connection: Connection) -> Actor:
    if connection.world.random() < 0.5:
        tls_up(connection.world, connection)
        yield 0.1
    else:
        connection.decide("none", "absence")
    yield from _mail(connection, connection.brings)
    yield from _close(connection, lost=True)


def _lost_no_mail(connection: Connection) -> Actor:
    yield from _close(connection, lost=True)


def _lost_alone(connection: Connection) -> Actor:
    connection.lost = True
    connection.decide("unknown", "gap")
    connection.say(f"ICID {connection.number} lost")
    connection.finish("lost")
    yield from ()


def _disconnect(connection: Connection) -> None:
    connection.decide("unknown", "gap")
    why = pick(connection.world.random, ("no messages injected within timeout period", "exceeded allowable connection time"))
    connection.say(f"ICID {connection.number} disconnected address {connection.peer}, {why}")


def _disconnected(connection: Connection) -> Actor:
    yield 300.0
    _disconnect(connection)
    yield from _close(connection)


def _disconnected_alone(connection: Connection) -> Actor:
    yield 300.0
    _disconnect(connection)
    connection.finish("disconnected")


def _killed(connection: Connection) -> Actor:
    if connection.world.random() < 0.5:
        tls_up(connection.world, connection)
    else:
        connection.decide("unknown", "gap")
    yield 1.0 + connection.world.random() * 20.0
    connection.say(f"SMTP server connection killed ICID: {connection.number}")
    connection.finish("killed")


def _silent(connection: Connection) -> Actor:
    """Its last line never comes."""
    if connection.world.random() < 0.5:
        tls_up(connection.world, connection)
    else:
        connection.decide("unknown", "gap")
    connection.finish("timeout")
    yield from ()


def _tls_no_mail(connection: Connection) -> Actor:
    tls_up(connection.world, connection)
    yield 0.3


def _delayed_reject(connection: Connection) -> Actor:
    connection.say(f"ICID {connection.number} Delayed HAT REJECT continuing session for recipient logging ({connection.peer})")
    yield 0.3


def _connection_limit(connection: Connection) -> Actor:
    n = connection.number
    connection.decide("unknown", "gap")
    connection.world.say_at(
        "Warning", f"System limit reached: connection limit for IP {connection.peer} on listener Incoming ICID {n}: max: 1", connection
    )
    connection.say(f"ICID {n} Receiving Failed: Connection limit exceeded")
    connection.say(f"ICID {n} close")
    connection.finish("close")
    yield from ()


def _sender_rejected(connection: Connection) -> Actor:
    connection.say(f"ICID {connection.number} Address: <foo@d1-0.example.org> sender rejected, envelope sender domain does not exist")
    yield 0.2


def _auth_required(connection: Connection) -> Actor:
    connection.say(f"SMTP Auth (ICID {connection.number}) was required but remote host did not initiate it")
    yield 0.2


def _message_too_big(connection: Connection) -> Actor:
    if connection.world.random() < 0.5:
        tls_up(connection.world, connection)
    else:
        connection.decide("none", "absence")
    message = start_message(connection.world, connection)
    yield 0.2
    add_recipients(connection.world, message, 1)
    yield 1.0
    connection.say(f"ICID {connection.number} Receiving Failed: Message size exceeds limit")
    abort(message, "Receiving aborted")


_STEPS: Final[dict[str, Callable[[Connection], Actor]]] = {
    "tls_success": _tls_success,
    "clear": _clear,
    "late_starttls": _late_starttls,
    "required_not_offered": _required_not_offered,
    "required_after_failure": _required_after_failure,
    "required_then_success": _required_then_success,
    "required_then_clear": _required_then_clear,
    "tls_failed_no_mail": _tls_failed_no_mail,
    "broken_after_mail": _broken_after_mail,
    "failed_after_clear_mail": _failed_after_clear_mail,
    "lost_after_mail": _lost_after_mail,
    "lost_no_mail": _lost_no_mail,
    "lost_alone": _lost_alone,
    "disconnected": _disconnected,
    "disconnected_alone": _disconnected_alone,
    "killed": _killed,
    "silent": _silent,
    "tls_no_mail": _tls_no_mail,
    "delayed_reject": _delayed_reject,
    "connection_limit": _connection_limit,
    "sender_rejected": _sender_rejected,
    "auth_required": _auth_required,
    "message_too_big": _message_too_big,
}
