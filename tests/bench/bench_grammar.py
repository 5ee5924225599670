"""How long one `parse` takes on a typical mix of lines. Run it: `python tests/bench/bench_grammar.py` (`--rows` for each line)."""

from __future__ import annotations

import sys
import timeit

from esa_tls.core.grammar import parse
from esa_tls.core.line import frame

# One mail in, scanned, and one delivery out, as an appliance at level Info writes it.
MIX = """\
New SMTP ICID 282204970 interface Data 1 (192.0.2.1) address 198.51.100.7 reverse dns host mx.example.org verified yes
ICID 282204970 ACCEPT SG UNKNOWNLIST match sbrs[-1.0:10.0] SBRS 3.4 country United States
ICID 282204970 TLS success protocol TLSv1.2 cipher ECDHE-RSA-AES256-GCM-SHA384
Start MID 200257070 ICID 282204970
MID 200257070 ICID 282204970 From: <someone@example.com>
MID 200257070 ICID 282204970 RID 0 To: <user@example.org>
MID 200257070 SPF: helo identity postmaster@mx.example.com None
MID 200257070 SPF: mailfrom identity someone@example.com Pass (v=spf1)
MID 200257070 DKIM: pass signature verified (d=example.com s=s1 i=@example.com)
MID 200257070 DMARC: Message from domain example.com, DMARC pass (SPF aligned True, DKIM aligned True)
MID 200257070 Message-ID '<37gva9$5uvbhe@mail.example.com>'
MID 200257070 Subject 'Envision your dream home - Now make it a reality'
MID 200257070 ready 24663 bytes from <someone@example.com>
MID 200257070 matched all recipients for per-recipient policy DEFAULT in the inbound table
MID 200257070 interim verdict using engine: CASE spam negative
MID 200257070 using engine: CASE spam negative
MID 200257070 interim AV verdict using Sophos CLEAN
MID 200257070 antivirus negative
MID 200257070 AMP file reputation verdict : SKIPPED (no attachment in message)
MID 200257070 using engine: GRAYMAIL negative
MID 200257070 Outbreak Filters: verdict negative
MID 200257070 queued for delivery
New SMTP DCID 2386069 interface 192.0.2.1 address 203.0.113.25 port 25
DCID 2386069 TLS success protocol TLSv1.2 cipher ECDHE-RSA-AES256-SHA384
Delivery start DCID 2386069 MID 200257070 to RID [0]
Message done DCID 2386069 MID 200257070 to RID [0] [('X-SBRS', '3.4'), ('from', '"A" <someone@example.com>')]
MID 200257070 RID [0] Response '2.0.0 Ok: queued as 4F8B425DA7'
Message finished MID 200257070 done
ICID 282204970 close
DCID 2386069 close
""".splitlines()

PREFIX = "<166>Mar 17 18:24:37 esa1.example.net mail_logs: Info: "
ROUNDS = 2_000


def microseconds(statement: str, names: dict[str, object], n: int) -> float:
    """Best of seven, per `n` steps of the statement: the other figures are the machine's other work."""
    return min(timeit.repeat(statement, globals=names, number=ROUNDS, repeat=7)) / ROUNDS / n * 1e6


def main(*, rows: bool) -> None:
    """Print the figures."""
    framed = [PREFIX + body for body in MIX]
    parse_us = microseconds("for line in mix: parse(line)", {"mix": MIX, "parse": parse}, len(MIX))
    frame_us = microseconds("for line in mix: frame(line)", {"mix": framed, "frame": frame}, len(MIX))
    print(f"parse  {parse_us:.2f} us a line (bar: 0.8)")
    print(f"frame  {frame_us:.2f} us a prefix not seen before (the caller caches)")
    if rows:
        for body in MIX:
            print(f"{microseconds('parse(line)', {'line': body, 'parse': parse}, 1):6.2f}  {body}")


if __name__ == "__main__":
    main(rows="--rows" in sys.argv)
