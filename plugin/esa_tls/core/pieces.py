"""Small pieces of a body that many rows share: ids, recipient lists, quotes, addresses, failure texts.

Text is kept as printed: no blanks collapsed, no escapes resolved, and what is no address or number stays text.
"""

from __future__ import annotations

import re
from typing import Final

from esa_tls.core.facts import Value

_MAX_ID: Final = 2**63 - 1
"""Ids are 64 bit; what does not fit a signed long is no id (stores map them as long)."""


FIRST_RIDS: Final[dict[str, tuple[int, ...]]] = {f"{word}[{rid}]": (rid,) for rid in range(8) for word in ("RID ", "")}
"""The recipient lists of nearly all deliveries, ready made."""


Values = dict[str, Value]


def decimal_id(token: str) -> int:
    """A decimal id, or -1: other signs, more than 19 digits, more than 63 bits."""
    if token.isdecimal() and token.isascii() and len(token) < 20:
        number = int(token)
        if number <= _MAX_ID:
            return number
    return -1


def rid_list(text: str) -> tuple[int, ...] | None:
    """A recipient list `RID [0, 1]`, `[0]`, or `RID 0`, `0`, from the start of `text`; None if it cannot be read to its end."""
    rids = FIRST_RIDS.get(text[:7]) or FIRST_RIDS.get(text[:3])
    if rids is not None:
        return rids
    text = text.removeprefix("RID ")
    if text.startswith("["):
        end = text.find("]")
        if end < 0:
            return None
        tokens = [token.strip(" ") for token in text[1:end].split(",")]
    else:
        tokens = [text.partition(" ")[0]]
    numbers = tuple(map(decimal_id, tokens))
    return None if -1 in numbers else numbers


def text_after(words: list[str], index: int = 3) -> str:
    """The text from word `index` on, exactly as printed: the words were cut at single blanks."""
    return " ".join(words[index:])


def unquote(text: str) -> str:
    """Without one matching pair of outer quotes. A stray quote and escapes stay as they are."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


def bare_address(text: str) -> str:
    """Without the outer `<` and `>`; brackets, quotes and blanks inside stay, and so does what is no address."""
    if text[:1] == "<" and text[-1:] == ">":
        return text[1:-1]
    return text


def sentence(text: str) -> str:
    """Without a full stop at the end, which some versions print."""
    return text.removesuffix(".")


def present(**values: Value | None) -> Values | None:
    """The values that are there; None if none is."""
    return {name: value for name, value in values.items() if value is not None and value != ""} or None


_SCORE: Final = re.compile(r"-?[0-9]{1,4}(?:\.[0-9]{1,6})?")


def score(text: str) -> float | None:
    """A SenderBase score if it is a number; `None`, `rfc1918`, `not enabled`, `unable to retrieve` are none."""
    return float(text) if _SCORE.fullmatch(text) else None


# A local part in double quotes may hold `>`; elsewhere in an address it cannot stand.
BRACKETED: Final = r'<((?:"(?:[^"\\]|\\.)*"(?=@))?[^>]*)>'


FROM_TO: Final = re.compile(BRACKETED + " To: " + BRACKETED)


ENHANCED: Final = re.compile(r"([0-9]\.[0-9]{1,3}\.[0-9]{1,3}) - ")


_REPLY: Final = re.compile(r" \('?([0-9]{3})'?, \[")


def failure(text: str) -> Values | None:
    """`{enhanced code} - {text} ('{smtp}', [{lines}]) []`: the text is the appliance's, the lines are from outside."""
    values: Values = {}
    if match := ENHANCED.match(text):
        values["enhanced_code"] = match[1]
        text = text[match.end() :]
    if match := _REPLY.search(text):
        if code := int(match[1]):
            values["code"] = code
        lines = text[match.end() :].removesuffix(" []").removesuffix("])")
        response = lines if "', '" in lines else unquote(lines)
        if response:
            values["response"] = response
        text = text[: match.start()]
    if text:
        values["reason"] = text
    return values or None
