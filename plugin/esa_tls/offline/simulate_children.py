"""Messages made on the box out of other messages: splits, rewrites, copies, notifications, bounces, releases from the spam quarantine.

Their own lines say ``ICID 0``. Splits, rewrites, copies and releases count as received the way their first ancestor was; bounces and
notifications were received from nobody. Every child repeats Message-ID and Subject where it is the same mail, so no reader has to guess.
"""

from __future__ import annotations

from typing import Final

from esa_tls.offline.simulate_model import Message, Recipient, World
from esa_tls.offline.simulate_text import pick
from esa_tls.offline.simulate_truth import INHERITING

_REWRITERS: Final = (
    "add-footer filter 'Footer Stamping'",
    "drop-attachments-by-filetype filter 'Block_Attachments'",
    "antispam",
    "antispam (alt-rcpt-to) filter 'unknown'",
    "antivirus(unsafe alt-rcpt-to) filter 'unknown'",
)
_COPIERS: Final = ("bcc filter 'nonetest'", "bcc-scan filter 'testsrbs'", "antivirus")


def split_child(world: World, parent: Message, *, table: str) -> Message:
    """A per-recipient policy takes the last recipients out into a message of their own; the parent keeps the rest."""
    taken = parent.recipients[(len(parent.recipients) + 1) // 2 :]
    child = _child(world, parent, kind="split")
    child.say(f"MID {parent.mid} was split creating MID {child.mid} due to a per-recipient policy VIP Users in the {table} table")
    _say_envelope(world, child, taken)
    _say_headers(child)
    parent.settle(taken, "moved")
    return child


def rewritten_child(world: World, parent: Message) -> Message:
    """A new message replaces the old one with all its recipients; the old one is handled with that."""
    taken = parent.waiting()
    child = _child(world, parent, kind="rewritten")
    line = f"MID {parent.mid} rewritten to MID {child.mid} by {pick(world.random, _REWRITERS)}"
    late = world.random() < 0.25
    if not late:
        child.say(line)
    _say_envelope(world, child, taken)
    if late:
        child.say(line)
    _say_headers(child)
    parent.settle(taken, "moved")
    parent.say(f"Message finished MID {parent.mid} done")
    parent.finish("finished")
    return child


def copy_child(world: World, parent: Message) -> Message:
    """A filter sends a copy to the archive; the parent goes on unchanged."""
    child = _child(world, parent, kind="copy")
    was = pick(world.random, ("", "was "))
    child.say(f"MID {child.mid} {was}generated based on MID {parent.mid} by {pick(world.random, _COPIERS)}")
    _say_envelope(world, child, [Recipient(0, address="journal@archive.example.com", host=world.archive)])
    _say_headers(child)
    # Only a policy line would say which table a copy is in, and a copy gets none.
    child.open.append("cisco_esa.mail_flow")
    return child


def notify_child(world: World, parent: Message) -> Message:
    """A filter tells somebody about the parent."""
    child = _child(world, parent, kind="notify")
    child.say(f"MID {child.mid} generated based on MID {parent.mid} by notify filter 'Return_From_Trend'")
    _say_envelope(world, child, [Recipient(0, address="security@example.com", host=world.inside[0])])
    return child


def bounce_child(world: World, parent: Message) -> Message | None:
    """The report to the sender, or None when there is no sender to tell."""
    if not parent.sender or parent.sender_host is None:
        return None
    child = _child(world, parent, kind="bounce")
    was = pick(world.random, ("", "was "))
    line = f"MID {child.mid} {was}generated for bounce of MID {parent.mid}"
    recipient = Recipient(0, address=parent.sender, host=parent.sender_host)
    if world.random() < 0.7:
        child.say(line)
        _say_envelope(world, child, [recipient])
    else:
        world.say(f"Start MID {child.mid} ICID 0")
        child.say(line)
        _say_envelope(world, child, [recipient], started=True)
    return child


def reinjected_child(world: World, parent: Message) -> Message:
    """A user took the message out of the spam quarantine, long after the parent was done with."""
    child = _child(world, parent, kind="reinjected")
    child.say(f"ISQ: Reinjected MID {parent.mid} as MID {child.mid}")
    _say_envelope(world, child, parent.recipients)
    _say_headers(child)
    child.open.append("cisco_esa.mail_flow")
    return child


def _child(world: World, parent: Message, *, kind: str) -> Message:
    inherits = kind in INHERITING
    child = Message(
        world,
        mid=world.next_mid(),
        reception=parent.reception if inherits else None,
        sender=parent.sender if inherits else "",
        sender_host=parent.sender_host if inherits else None,
    )
    child.parent_mid = parent.mid
    child.child_kind = kind
    child.plain = parent.plain
    child.zone = child.zone or parent.zone
    if inherits:
        child.outcome, child.evidence, child.in_clear = parent.outcome, parent.evidence, parent.in_clear
        child.made_here = parent.made_here
        child.flow = parent.flow
        child.message_id, child.subject, child.subject_form = parent.message_id, parent.subject, parent.subject_form
        child.open = [path for path in parent.open if path.startswith("email.")]
    else:
        child.made_here = True
        child.flow = "internal"
        child.open.append("cisco_esa.posture_in")
    if kind != "reinjected":
        parent.child_mids.append(child.mid)
    return child


def _say_envelope(world: World, child: Message, recipients: list[Recipient], *, started: bool = False) -> None:
    """The child's own first lines; its RIDs count from 0 again."""
    mid = child.mid
    if not started:
        world.say(f"Start MID {mid} ICID 0")
    world.say(f"MID {mid} ICID 0 From: <{child.sender}>")
    for rid, recipient in enumerate(recipients):
        child.recipients.append(Recipient(rid, address=recipient.address, host=recipient.host))
        world.say(f"MID {mid} ICID 0 RID {rid} To: <{recipient.address}>")


def _say_headers(child: Message) -> None:
    if child.message_id is not None:
        child.say(f"MID {child.mid} Message-ID '<{child.message_id}>'")
    if child.subject_form is not None:
        child.say(f"MID {child.mid} Subject {child.subject_form}")
