"""One message coming in over a connection: MAIL FROM, recipients, headers, data.

The message keeps what its connection's TLS was when it started. Whether it gets into the work queue, its plan says.
"""

from __future__ import annotations

from esa_tls.offline.simulate_model import Actor, Connection, Host, Message, Recipient, World
from esa_tls.offline.simulate_queue import process
from esa_tls.offline.simulate_text import ENVELOPE_ENDS, REJECTED_BY, pick, subject_forms

_NEEDS_TWO = frozenset({"split", "split_rewritten", "ldap_drop"})


def receive(world: World, connection: Connection) -> Actor:
    """One message over ``connection``, up to ``ready`` or to its failure."""
    random = world.random
    message = start_message(world, connection)
    message.plan = plan = "normal" if world.zone else world.message_plans.pick(random())
    if plan == "unfinished":
        message.unfinished = True
    yield 0.02 + random() * 0.3
    mid, icid = message.mid, connection.number
    if plan == "aborted_before_recipients":
        abort(message, "Receiving aborted by sender")
        return
    if plan == "all_recipients_rejected" or random() < 0.03:
        connection.say(f"MID {mid} ICID {icid} To: <nobody@d0-0.example.org> Rejected by {pick(random, REJECTED_BY)}")
        if plan == "all_recipients_rejected":
            abort(message, "Receiving aborted by sender")
            return
    draw = random()
    count = 1 if draw < 0.6 or world.zone else 2 + int(draw * 1_000) % 4
    add_recipients(world, message, max(count, 2) if plan in _NEEDS_TWO else count)
    yield 0.02 + random() * 0.5
    if plan == "receiving_aborted":
        message.open.append("cisco_esa.recipients.result")
        abort(message, "Receiving aborted by sender")
        return
    _say_data(world, connection, message)
    world.spawn(process(world, message))


def start_message(world: World, connection: Connection) -> Message:
    """``Start MID`` and the sender."""
    random = world.random
    outgoing = connection.flow == "outgoing"
    host = pick(random, world.inside if outgoing else world.outside)
    draw = random()
    if draw < 0.02:
        sender = ""
    elif world.pretended() is not None:
        sender = f'"Info: ICID {connection.number} TLS success"@{host.domains[0]}'
    else:
        sender = f"{pick(random, ENVELOPE_ENDS)}@{pick(random, host.domains)}"
    message = Message(world, mid=world.next_mid(), reception=connection, sender=sender, sender_host=host)
    connection.say(f"Start MID {message.mid} ICID {connection.number}")
    connection.say(f"MID {message.mid} ICID {connection.number} From: <{sender}>")
    return message


def add_recipients(world: World, message: Message, count: int) -> None:
    """Recipients of the right side of the gateway; often some share a domain."""
    random = world.random
    hosts = world.outside if message.flow == "outgoing" else world.inside
    mid, connection = message.mid, message.reception
    icid = 0 if connection is None else connection.number
    host: Host = pick(random, hosts)
    for rid in range(count):
        if rid and random() < 0.5:
            host = pick(random, hosts)
        local = pick(random, ENVELOPE_ENDS)
        if world.settings.hostile and random() < world.settings.hostile:
            local = f'"a> Info: Message finished MID {mid} done, {local}'
            address = f'{local}{rid}"@{pick(random, host.domains)}'
        else:
            address = f"{local}{rid}@{pick(random, host.domains)}"
        message.recipients.append(Recipient(rid, address=address, host=host))
        world.say(f"MID {mid} ICID {icid} RID {rid} To: <{address}>", connection)


def abort(message: Message, why: str) -> None:
    """The message never got into the queue."""
    message.settle(message.waiting(), "dropped")
    if message.recipients:
        message.open.append("cisco_esa.recipients.result")
    message.say(f"Message aborted MID {message.mid} {why}")
    message.say(f"Message finished MID {message.mid} done")
    message.finish("aborted")


def _say_data(world: World, connection: Connection, message: Message) -> None:
    """Authentication results, Message-ID, Subject, ready; over TLS at times a Debug line that says so."""
    random, mid, say = world.random, message.mid, message.say
    domain = message.sender.rpartition("@")[2]
    if message.flow == "incoming" and domain:
        say(f"MID {mid} SPF: mailfrom identity {message.sender} Pass (v=spf1)")
        say(f"MID {mid} DKIM: pass signature verified (d={domain} s=s1 i=@{domain})")
        say(f"MID {mid} DMARC: Message from domain {domain}, DMARC pass (SPF aligned True, DKIM aligned True)")
        say(f"MID {mid} SDR: Tracker Header : 64f8{mid:016x}")
    draw = random()
    if draw < 0.97:
        pretended = world.pretended()
        unique = f"{mid:x}${int(random() * 1e9):x}@{domain or 'esa.example.com'}"
        message.message_id = unique if pretended is None else f"{pretended} {unique}"
        brackets = draw < 0.95 or pretended is not None
        say(f"MID {mid} Message-ID '<{message.message_id}>'" if brackets else f"MID {mid} Message-ID '{message.message_id}'")
    if connection.outcome == "success" and draw < 0.02:
        world.say_at("Debug", f"MID {mid} ICID {connection.number} TLS read 126 bytes (0.0 seconds)", connection)
    pretended = world.pretended()
    form, subject, is_open = subject_forms(random, pretended=pretended)
    message.subject_form, message.subject = form, subject or None
    if is_open:
        message.open.append("email.subject")
    say(f"MID {mid} Subject {form}")
    if pretended is not None and world.settings.form == "file":
        # A header with a real line feed: the rest of the text has no prefix and is no line of its own.
        say(f"MID {mid} masquerading header 'To' from 'x")
        world.say_bare(f"\t{pretended}' to 'y@example.com'")
    say(f"MID {mid} ready {600 + int(random() * 90_000)} bytes from <{message.sender}>")
