"""The work queue: what happens to a received message between ``ready`` and its deliveries.

Policies, engines, filters, quarantines; a message leaves it into the delivery queue, into a quarantine, as another message, or not at all.
"""

from __future__ import annotations

from typing import Final

from esa_tls.offline.simulate_children import copy_child, notify_child, reinjected_child, rewritten_child, split_child
from esa_tls.offline.simulate_model import LONG_WAIT_S, Actor, Message, World
from esa_tls.offline.simulate_outbound import bounce, finish_if_done, send
from esa_tls.offline.simulate_text import ATTACHMENTS, POLICIES, QUARANTINE_REASONS, pick, python_repr
from esa_tls.offline.simulate_truth import delivery_record

_DAY_S: Final = 86_400.0
_FLOWS: Final = {"inbound": "incoming", "outbound": "outgoing"}


def process(world: World, message: Message) -> Actor:
    """One message's way through the work queue."""
    random = world.random
    yield 0.05 + random() * 0.6
    plan, mid, say = message.plan, message.mid, message.say
    table = _table(message)
    if plan in ("split", "split_rewritten"):
        child = split_child(world, message, table=table)
        child.plan = "rewritten" if plan == "split_rewritten" else "normal"
        world.spawn(process(world, child))
    elif plan == "ldap_drop":
        dropped = message.recipients[-1]
        say(f"LDAP: Drop query q1.ldapaccept MID {mid} RID {dropped.rid} address {dropped.address}")
        message.settle([dropped], "dropped")
    say(f"MID {mid} matched all recipients for per-recipient policy {pick(random, POLICIES)} in the {table} table")
    message.flow = _FLOWS[table]
    yield from _scan(world, message)
    if message.over():
        return
    match plan:
        case "quarantine_released" | "quarantine_deleted":
            yield from _quarantine(world, message, released=plan == "quarantine_released")
        case "outbreak_released":
            say(f'MID {mid} quarantined to "Outbreak" (Outbreak rule:Phish: Phish)')
            stay_s = LONG_WAIT_S + random() * 3_600.0
            yield stay_s
            say(f'MID {mid} released from quarantine "Outbreak" (expired) t={int(stay_s)}')
            message.plan = "normal"
            yield from _scan(world, message)
        case "rewritten":
            child = rewritten_child(world, message)
            world.spawn(process(world, child))
        case "copy":
            child = copy_child(world, message)
            child.say(f"MID {child.mid} queued for delivery")
            send(world, child)
        case "notify":
            child = notify_child(world, message)
            child.say(f"MID {child.mid} queued for delivery")
            send(world, child)
    if message.over():
        return
    say(f"MID {mid} queued for delivery")
    if plan == "spam_quarantine":
        yield from _spam_quarantine(world, message)
    elif plan == "dns_bounce":
        yield from _dns_bounce(world, message)
    else:
        send(world, message)


def _table(message: Message) -> str:
    return "outbound" if message.flow == "outgoing" else "inbound"


def _scan(world: World, message: Message) -> Actor:
    """The engines' lines, and the end of messages that they or the filters drop."""
    random, mid, say, plan = world.random, message.mid, message.say, message.plan
    table = _table(message)
    spam = "positive" if plan == "spam_quarantine" else "negative"
    say(f"MID {mid} interim verdict using engine: CASE spam {spam}")
    say(f"MID {mid} using engine: CASE spam {spam}")
    if plan == "spam_quarantine":
        say(f"ISQ: Tagging MID {mid} for quarantine")
    yield 0.05 + random() * 0.8
    if plan == "dropped_by_antivirus":
        say(f"MID {mid} interim AV verdict using Sophos VIRAL")
        say(f"MID {mid} antivirus positive 'EICAR-AV-Test'")
        _drop(message, "Dropped by antivirus", result="dropped")
        return
    say(f"MID {mid} interim AV verdict using Sophos CLEAN")
    say(f"MID {mid} antivirus negative")
    pretended = world.pretended()
    if pretended is not None or random() < 0.2:
        name = pick(random, ATTACHMENTS) if pretended is None else f"{pretended}.pdf"
        say(f"MID {mid} attachment {python_repr(name)}")
        say(f"MID {mid} AMP file reputation verdict : UNKNOWN")
        if pretended is not None:
            say(f"MID {mid} Custom Log Entry: {pretended}")
            say(f"MID {mid} URL http://{mid}.example.net/?q={pretended} has reputation -5.1 matched {{u'x'}}")
    else:
        say(f"MID {mid} AMP file reputation verdict : SKIPPED (no attachment in message)")
    say(f"MID {mid} using engine: GRAYMAIL negative")
    if plan == "dropped_by_filter":
        why = f"Dropped by content filter 'dontsend' in the {table} table"
        say(f"MID {mid} {why}")
        _drop(message, why, result="dropped")
        return
    if plan == "bounced_by_filter":
        by = f"by content filter 'bounceme' in the {table} table"
        say(f"MID {mid} was bounced {by}")
        bounce(world, message)
        message.open.append("cisco_esa.recipients.result")
        _drop(message, f"Bounced {by}", result="bounced")
        return
    say(f"MID {mid} Outbreak Filters: verdict negative")
    if random() < world.settings.unknown_lines:
        _say_unknown(world, message)


def _say_unknown(world: World, message: Message) -> None:
    """A shape that nobody knows; it changes nothing."""
    mid = message.mid
    text = pick(
        world.random,
        (
            f"MID {mid} frobnicated by engine XR-9 (score 0.4)",
            f"Flux capacitor state changed for MID {mid}",
            "MTA-STS: policy fetched for d1-0.example.org",
            f"mid={mid} kind=experimental",
            f"XMID {mid} RID [0] something new",
            "",
        ),
    )
    if text.startswith("MID "):
        message.say(text)
    else:
        world.say_open(text)


def _drop(message: Message, why: str, *, result: str) -> None:
    message.settle(message.waiting(), result)
    message.say(f"Message aborted MID {message.mid} {why}")
    message.say(f"Message finished MID {message.mid} done")
    message.finish("aborted")


def _quarantine(world: World, message: Message, *, released: bool) -> Actor:
    """Days in the policy quarantine, then out of it to the engines again, or gone."""
    random, mid, say = world.random, message.mid, message.say
    why = pick(random, QUARANTINE_REASONS)
    say(f'MID {mid} quarantined to "Policy" ({why})')
    stay_s = LONG_WAIT_S + random() * max(0.0, world.settings.quarantine_days * _DAY_S - LONG_WAIT_S)
    yield stay_s
    if released:
        say(f'MID {mid} released from quarantine "Policy" (manual) t={int(stay_s)}')
        say(f"MID {mid} released from all quarantines")
        message.plan = "normal"
        yield from _scan(world, message)
    else:
        say(f'MID {mid} deleted from quarantine "Policy" ({pick(random, ("manual", "expired"))})')
        say(f"MID {mid} deleted from all quarantines")
        message.open.append("cisco_esa.recipients.result")
        message.settle(message.waiting(), "deleted")
        finish_if_done(message)


def _spam_quarantine(world: World, message: Message) -> Actor:
    """Delivered into the spam quarantine over RPC; perhaps a user takes it out later."""
    random, mid, say = world.random, message.mid, message.say
    world.rcid += 1
    rcid = world.rcid
    world.say(f"RPC Delivery start RCID {rcid} MID {mid} to local IronPort Spam Quarantine")
    yield 0.1 + random() * 0.9
    say(f"ISQ: Quarantined MID {mid}")
    world.say(f"RPC Message done RCID {rcid} MID {mid}")
    message.attempts += 1
    waiting = message.waiting()
    if world.truth is not None:
        # RPC lines name no RIDs.
        world.truth(
            delivery_record(
                message,
                ordinal=message.attempts,
                rids=[r.rid for r in waiting],
                result="quarantined",
                connection=None,
                in_clear=None,
                open_paths=("cisco_esa.rids",),
            )
        )
    message.settle(waiting, "quarantined")
    finish_if_done(message)
    if random() < 0.4 and not message.unfinished:
        yield LONG_WAIT_S + random() * max(0.0, world.settings.quarantine_days * _DAY_S - LONG_WAIT_S)
        child = reinjected_child(world, message)
        yield 0.2
        child.say(f"MID {child.mid} queued for delivery")
        send(world, child)


def _dns_bounce(world: World, message: Message) -> Actor:
    """No host to deliver to: bounced without a delivery connection."""
    yield 0.1 + world.random()
    waiting = message.waiting()
    for recipient in waiting:
        domain = (recipient.address or "").rpartition("@")[2]
        world.say_open(
            f"Bounced: DCID 0 MID {message.mid} to RID {recipient.rid} - 5.1.2 - Bad destination host "
            f"('000', ['DNS Hard Error looking up {domain} (MX):  NXDomain']) []"
        )
    if world.truth is not None:
        world.truth(
            delivery_record(
                message,
                ordinal=message.attempts + 1,
                rids=[r.rid for r in waiting],
                result="bounced",
                connection=None,
                in_clear=None,
                open_paths=("cisco_esa.delivery.ordinal",),
                optional=True,
            )
        )
    message.settle(waiting, "bounced")
    bounce(world, message)
    finish_if_done(message)
