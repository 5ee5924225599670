"""What a line's prefix says, and whose line it is: worked out once for all lines that begin alike. The first part of `Pipeline`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from esa_tls.core.appliance import Appliance
from esa_tls.core.batch import Origin
from esa_tls.core.box import Box, Stream
from esa_tls.core.clock import resolve
from esa_tls.core.ids import DIGEST_BYTES
from esa_tls.core.line import Framing, frame
from esa_tls.core.prefix import Prefix, id_mask
from esa_tls.core.prefix_facts import PrefixFacts, Tail
from esa_tls.core.state import State, stream_key

if TYPE_CHECKING:
    from esa_tls.core.pipeline import CoreSettings

NEAREST_S: Final = 182 * 86400
"""Added to the time of the line before, when that says where a missing year is: the nearest one, before or after it."""

MAX_PREFIXES: Final = 4096

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_tail: Final = msgspec.msgpack.Decoder(Tail).decode


class Prefixing(ABC):
    """Prefixes per stream (the lines of one origin), and the appliance that a line is of."""

    settings: CoreSettings
    state: State
    boxes: dict[str, Box]
    streams: dict[Origin, Stream]
    now_s: float

    @abstractmethod
    def _box(self, kept: Appliance) -> Box:
        """Begin to work for an appliance."""

    def _stream(self, origin: Origin) -> Stream:
        """Lines of an origin come for the first time since the start."""
        key = stream_key(blake2b(_encode(origin), digest_size=DIGEST_BYTES).digest())
        value = self.state.get(key)
        stream = self.streams[origin] = Stream(key, Tail() if value is None else _decode_tail(value), self.now_s)
        return stream

    def _appliance_of(self, origin: Origin, framing: Framing | None) -> Box:
        """Whose line it is: the first of the configured list that yields a name."""
        name = self.settings.appliance_name
        if name is None:
            for source in self.settings.appliance_from:
                match source:
                    case "record:appliance":
                        name = origin.record_appliance
                    case "syslog:host":
                        name = framing.host if framing is not None and origin.trust_host else None
                    case "otlp:host.name":
                        name = origin.otlp_host
                    case "fluent_tag":
                        name = origin.tag
                    case "peer":
                        name = origin.peer
                    case _:
                        name = None
                if name:
                    break
        name = (name or self.settings.default_appliance).replace("\0", "")[:255] or self.settings.default_appliance
        return self.boxes.get(name) or self._box(Appliance(name))

    def _prefix(self, stream: Stream, origin: Origin, text: str, raw: bytes, sender_s: float | None, flags: tuple[str, ...]) -> Prefix:
        """The prefix of a line that starts with none of the known ones."""
        framing = frame(text)
        prefixes = stream.prefixes[flags]
        if framing is not None:
            known = prefixes.get(text[: framing.length])
            if known is not None:
                return known
            if framing.month is None and stream.timed:
                framing = None
        if framing is None:
            return self._no_prefix(stream, origin, sender_s, flags)
        box = self._appliance_of(origin, framing)
        reference_s = self.settings.year_reference_s or self.now_s
        time_s = box.state.clock.time_s
        if framing.year is None and self.settings.hold_by_event_time and time_s is not None:
            reference_s = float(time_s + NEAREST_S)
        candidate_s = box.state.clock.candidate_s
        latest_s = time_s if candidate_s is None else candidate_s
        resolved = resolve(framing, zone=box.zone, reference_s=reference_s, appliance_time_s=latest_s)
        cached = framing.level is not None  # a line of the consolidated log may share the prefix of others up to their level
        if resolved is not None:
            stream.timed = True
            stamp_s, source = resolved.stamp_s, "line"
            if resolved.year_inferred:
                flags = (*flags, "year_inferred")
            cached = cached and not resolved.ambiguous
        else:
            stamp_s, source = (int(sender_s), "sender") if sender_s is not None else (int(self.now_s), "received")
            cached = False
        body_at = len(text[: framing.length].encode()) if not text[: framing.length].isascii() else framing.length
        lossy = origin.lossy if origin.lossy is not None else framing.syslog
        window_s = origin.reorder_window_s
        reorder_s = int(window_s) if window_s is not None else self.settings.reorder_window_s if lossy else 0
        log_name = framing.log_name or origin.log_name
        facts = PrefixFacts(
            appliance=box.state.name,
            stamp_s=stamp_s,
            level=framing.level,
            log_name=log_name,
            log_number=_number_of(box.state.log_names, log_name or ""),
            priority=framing.priority,
            appname=framing.appname,
            file_path=origin.file_path,
            time_source=source,
            flags=flags,
            lossy=lossy,
            reorder_s=reorder_s,
            id_mask=id_mask(box.state.name, log_name, stamp_s, raw[:body_at]),
            length=framing.length,
            body_at=body_at,
        )
        if framing.host and origin.trust_host and box.state.hostname is None:
            box.state.hostname = framing.host
            box.observer = box.state.observer()
        prefix = Prefix(facts, box, epoch=box.state.epoch)
        if cached:
            if len(prefixes) >= MAX_PREFIXES:
                prefixes.clear()
            prefixes[text[: framing.length]] = prefix
        return prefix

    def _no_prefix(self, stream: Stream, origin: Origin, sender_s: float | None, flags: tuple[str, ...]) -> Prefix:
        """A line without a known prefix: a continuation of the one before, or of an unknown kind. It is never parsed."""
        before = stream.last
        if before is not None:
            box = self.boxes.get(before.appliance) or self._box(Appliance(before.appliance))
            stamp_s, source, log_number, log_name = before.stamp_s, before.time_source, before.log_number, before.log_name
            flags = (*flags, "continuation")
        else:
            box = self._appliance_of(origin, None)
            stamp_s, source = (int(sender_s), "sender") if sender_s is not None else (int(self.now_s), "received")
            log_name = origin.log_name
            log_number = _number_of(box.state.log_names, log_name or "")
        facts = PrefixFacts(
            appliance=box.state.name,
            stamp_s=stamp_s,
            log_name=log_name,
            log_number=log_number,
            file_path=origin.file_path,
            time_source=source,
            flags=flags,
            id_mask=id_mask(box.state.name, log_name, stamp_s, b""),
        )
        return Prefix(facts, box, epoch=box.state.epoch)

    def _forget_prefixes(self, box: Box) -> None:
        """An epoch began: what is cached per prefix is no longer right."""
        box.used.clear()
        for prefixes in [known for stream in self.streams.values() for known in stream.prefixes.values()]:
            for text, prefix in list(prefixes.items()):
                if prefix.box is box:
                    del prefixes[text]


def _number_of(names: list[str], name: str) -> int:
    """The number of a log name in the appliance's list, added if new; names beyond 65,000 share the last number."""
    try:
        return names.index(name)
    except ValueError:
        if len(names) < 65_000:
            names.append(name)
        return len(names) - 1
