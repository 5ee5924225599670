"""What one sink gets of each record: which records, which fields, how long, with which constants, under which pseudonyms.

Paths of fields are checked where the table of fields is known (`app/selecting.py`); everything else here.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from esa_tls.config.parts import Secret

Outcome = Literal["success", "failed", "none", "unknown", "pending", "absent"]
Direction = Literal["inbound", "outbound", "absent"]
Posture = Literal["encrypted", "exposed", "blocked", "partial", "undelivered", "continued", "unknown"]
MailFlow = Literal["incoming", "outgoing", "internal", "absent"]
Replaced = Literal["addresses", "subjects", "attachments", "message_ids", "hosts", "urls"]


_SOME = Meta(min_length=1)


class Where(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which records a sink gets. A record passes when every key that is set holds for it; `absent` stands for a field it has not.

    `outcomes`, `directions` and `in_clear` are asked of one leg together: a line, a connection and a delivery have the leg they belong to;
    a message has its reception (inbound) and its first 100 deliveries (outbound), a consolidated event has one each way; one that fits is
    enough.
    A record without any leg has all three `absent`.
    """

    outcomes: Annotated[Annotated[list[Outcome], _SOME] | None, Meta(description="TLS outcomes of the leg.")] = None
    directions: Annotated[Annotated[list[Direction], _SOME] | None, Meta(description="Directions of the leg.")] = None
    in_clear: Annotated[
        Annotated[list[bool | Literal["absent"]], _SOME] | None,
        Meta(description="`true`: mail went in clear on the leg, `false`: under TLS, `absent`: unknown, or no mail."),
    ] = None
    postures: Annotated[
        Annotated[list[Posture], _SOME] | None,
        Meta(description="Postures of messages. Asked of messages alone: records of other kinds have none, and pass."),
    ] = None
    mail_flows: Annotated[Annotated[list[MailFlow], _SOME] | None, Meta(description="Mail flows; another thing than directions.")] = None
    appliances: Annotated[Annotated[list[Annotated[str, Meta(min_length=1)]], _SOME] | None, Meta(description="Names of appliances.")] = (
        None
    )


class FieldChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which fields of a record a sink gets: all but those dropped, or those kept alone.

    A path is that of a field (`email.subject`) or of all that begin with it (`cisco_esa.tls`). Fields by which records are told apart,
    ordered and joined are always there: they need not be kept, and cannot be dropped.
    """

    keep: Annotated[Annotated[list[str], _SOME] | None, Meta(description="These alone. Not together with `drop`.")] = None
    drop: Annotated[Annotated[list[str], _SOME] | None, Meta(description="All but these. Not together with `keep`.")] = None


class PseudonymSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pseudonyms in place of what tells who wrote to whom about what. Equal texts have equal pseudonyms; only the key turns them back."""

    keys: Annotated[
        Secret,
        Meta(
            description="The keys, one a line: `ID:KEY`, ID a number from 1 to 9999, KEY 32 random bytes in base64. The highest ID writes; "
            "the others are there so that the same file reads older pseudonyms. `esa-tls pseudonym key` makes one."
        ),
    ]
    replace: Annotated[
        list[Replaced],
        Meta(
            description="What is replaced. `addresses`: mail addresses and users. `hosts`: IP addresses, PTR and HELO names, names in "
            "certificates. Text that cannot be told apart (responses, header lists, unknown lines) is always replaced as a whole.",
            min_length=1,
        ),
    ] = msgspec.field(default_factory=lambda: ["addresses", "subjects", "attachments", "message_ids", "hosts", "urls"])
    domains: Annotated[
        Literal["keep", "pseudonym"],
        Meta(description="Domains of mail addresses: as they are, so that they can be counted, or replaced too."),
    ] = "keep"


MIN_KEY_BYTES = 32
_ENTRY = re.compile(r"([1-9][0-9]{0,3}):(\S+)")


def key_ring(text: str) -> dict[int, bytes]:
    """Keys by their number out of the text of `keys`; lines that are empty or begin with `#` count for nothing.

    Raises ValueError with a reason that names no key.
    """
    keys: dict[int, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        match = _ENTRY.fullmatch(entry)
        if match is None:
            message = f"line {number} is no `ID:KEY` with an ID from 1 to 9999"
            raise ValueError(message)
        try:
            key = base64.b64decode(match[2], validate=True)
        except (binascii.Error, ValueError) as error:
            message = f"key {match[1]} is no base64"
            raise ValueError(message) from error
        if len(key) < MIN_KEY_BYTES:
            message = f"key {match[1]} has {len(key)} bytes, {MIN_KEY_BYTES} are needed; `esa-tls pseudonym key` makes one"
            raise ValueError(message)
        if int(match[1]) in keys:
            message = f"key {match[1]} stands there twice"
            raise ValueError(message)
        keys[int(match[1])] = key
    if not keys:
        message = "holds no key; `esa-tls pseudonym key` makes one"
        raise ValueError(message)
    return keys
