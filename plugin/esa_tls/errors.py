"""Every error esa-tls raises on purpose, as one tree.

The class says who handles it, so no caller looks at messages or codes::

    EsaTlsError
    ├── ConfigError              startup only; names file, path and reason; exit 2
    ├── WireError                the peer broke its protocol
    │   ├── MalformedMessage     skip it, count it, keep the session
    │   └── FrameTooLarge        no boundary to find again: close the session
    ├── DeliveryError            a sink could not hand records on
    │   ├── TransientError       try again, after ``retry_after_s`` if the peer said so
    │   └── PermanentError       the same records will fail again: dead letter
    ├── JournalError
    │   ├── JournalFull          no room now: hold the senders, try again
    │   ├── JournalLocked        another process has this ``data_dir``
    │   ├── JournalTooNew        written by a newer esa-tls
    │   └── JournalCorrupt       unreadable
    └── StoreError
        ├── StoreTooNew          written by a newer esa-tls
        ├── StoreUnreadable      no store of ours, or it cannot be read now
        └── StoreBusy            a question took too long

An unrecognised log line is no error: it is a record of its own.
"""

from __future__ import annotations


class EsaTlsError(Exception):
    """Root of everything raised on purpose."""


class ConfigError(EsaTlsError):
    """The configuration cannot be used. ``str()`` is one sentence with file, path and reason."""


class WireError(EsaTlsError):
    """A peer broke its protocol."""


class MalformedMessage(WireError):
    """One message is unusable; the next one can still be found."""


class FrameTooLarge(WireError):
    """A declared or decompressed size is over its limit; the session has to end."""


class DeliveryError(EsaTlsError):
    """A sink could not hand records on."""


class TransientError(DeliveryError):
    """Worth another try, not before ``retry_after_s`` seconds if the peer named a time."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(DeliveryError):
    """The same records will fail again: they belong into the dead letters."""


class JournalError(EsaTlsError):
    """The journal cannot do what was asked."""


class JournalFull(JournalError):
    """No space, or the byte budget is used: hold the senders and repeat the commit."""


class JournalLocked(JournalError):
    """Another process has this data directory open."""


class JournalTooNew(JournalError):
    """The journal was written by a newer version of esa-tls."""


class JournalCorrupt(JournalError):
    """The journal cannot be read."""


class StoreError(EsaTlsError):
    """The embedded store cannot do what was asked."""


class StoreTooNew(StoreError):
    """The store was written by a newer version of esa-tls."""


class StoreUnreadable(StoreError):
    """The store's file is none of ours, or cannot be read now."""


class StoreBusy(StoreError):
    """A question to the store took too long: ask for less, or later."""


class ChartsMissing(EsaTlsError):
    """Pictures were asked for, and the extra that draws them is not installed. Says how to get it."""
