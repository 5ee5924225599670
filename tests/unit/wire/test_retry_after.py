from __future__ import annotations

import pytest

from esa_tls.wire.retry_after import retry_after_s


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("2", 2.0),
        (" 10 ", 10.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 60.0),
        ("Wed, 21 Oct 2015 07:28:00", 60.0),
        ("Wed, 21 Oct 2015 07:20:00 GMT", 0.0),
        ("999999999", 3600.0),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 3600.0),
        *((bad, None) for bad in ("", None, "-1", "1.5", "soon", "99999999999999999999", "Wed, 99 Oct 2015 07:28:00 GMT")),
    ],
)
def test_retry_after(header: str | None, expected: float | None) -> None:
    """Seconds or an HTTP date, capped; what cannot be read is no time."""
    assert expected == retry_after_s(header, now_s=1_445_412_420.0)
