"""How a call of the service ends other than well: a status code and a reason, raised wherever it is found out."""

from __future__ import annotations

import grpc

from esa_tls.errors import EsaTlsError

__all__ = ["Refused", "first_of"]


class Refused(EsaTlsError):
    """End the call with this status; `str()` is what the client reads."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def first_of(error: BaseException) -> BaseException:
    """The one error that a task group's stands for: ours if there is one, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = [first_of(one) for one in error.exceptions]
    return next((one for one in found if isinstance(one, Refused)), found[0])
