"""From what a sink's settings choose to its `Selection`, and what is wrong with the paths they name."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from esa_tls.config import Config, OtlpSink, Sink, key_ring
from esa_tls.config.selection import Where as WhereSettings
from esa_tls.errors import ConfigError
from esa_tls.wire.privacy import Privacy
from esa_tls.wire.pseudonyms import Pseudonyms
from esa_tls.wire.selection import Selection, Where, wrong_path, wrong_truncation

__all__ = ["check_selections", "make_selection"]


def make_selection(settings: Sink) -> Selection | None:
    """What a sink gets of each record; None: all of it, and nothing is looked at."""
    pseudonyms, fields = settings.pseudonyms, settings.fields
    constants = settings.constants and not isinstance(settings, OtlpSink)
    if settings.where is None and fields is None and not settings.truncate and not constants and pseudonyms is None:
        return None
    privacy = None
    if pseudonyms is not None:
        privacy = Privacy(
            Pseudonyms(key_ring(pseudonyms.keys.reveal())), classes=pseudonyms.replace, keep_domains=pseudonyms.domains == "keep"
        )
    return Selection(
        where=None if settings.where is None else _where(settings.where),
        keep=None if fields is None else fields.keep,
        drop=None if fields is None else fields.drop,
        privacy=privacy,
        truncate=settings.truncate,
        constants=constants,
    )


def _where(settings: WhereSettings) -> Where:
    def set_of(values: Collection[str | bool] | None) -> frozenset[str | bool] | None:
        return None if values is None else frozenset(values)

    return Where(
        outcomes=set_of(settings.outcomes),
        directions=set_of(settings.directions),
        in_clear=set_of(settings.in_clear),
        postures=set_of(settings.postures),
        mail_flows=set_of(settings.mail_flows),
        appliances=set_of(settings.appliances),
    )


def check_selections(config: Config, *, file: str) -> None:
    """Raises ConfigError for the first path that names no field, or one that cannot be dropped or cut."""
    for where, reason in _wrong(config):
        raise ConfigError(f"{file}: {where}: {reason}")


def _wrong(config: Config) -> Iterator[tuple[str, str]]:
    for index, sink in enumerate(config.sinks):
        if sink.fields is not None:
            for name, paths in (("keep", sink.fields.keep), ("drop", sink.fields.drop)):
                for number, path in enumerate(paths or ()):
                    if reason := wrong_path(path, to_drop=name == "drop"):
                        yield f"sinks[{index}].fields.{name}[{number}]", reason
        replaced = () if sink.pseudonyms is None else sink.pseudonyms.replace
        for path in sink.truncate:
            if reason := wrong_truncation(path, replaced=replaced):
                yield f"sinks[{index}].truncate", reason
