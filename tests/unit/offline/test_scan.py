"""offline/scan.py and scan_table.py: log files through the core, as JSON lines and as a table."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.errors import ConfigError
from esa_tls.offline import scan as scanning
from esa_tls.offline.demo import SAMPLE
from esa_tls.offline.files import DEFAULT_MAX_LINE_BYTES, open_lines
from esa_tls.offline.scan import ScanSettings, appliance_names, file_appliance, scan
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.offline.terminal import Reading

SUMMARIES = frozenset({"connection", "delivery", "message", "consolidated"})

SEED = b"""\
Wed Jul 20 19:47:40 2005 Info: New smtp ICID 282204970 interface Mgmt (10.10.10.1) address 192.168.1.1 reverse dns host unknown verified no
Wed Jul 20 19:47:40 2005 Info: ICID 282204970 ACCEPT SG None match SBRS None
Wed Jul 20 19:47:40 2005 Info: ICID 282204970 TLS success
Wed Jul 20 19:47:40 2005 Info: Start MID 200257070 ICID 282204970
Tue Jun 28 19:28:31 2005 Info: DCID 2386069 TLS success CN: <common>
Tue Jun 28 19:28:31 2005 Info: New SMTP DCID 2386069 interface 10.10.10.2 address 192.168.2.2
Tue Jun 28 19:28:31 2005 Info: Delivery start DCID 2386069 MID 200257075 to RID [0]
Fri Jul 22 22:00:05 2005 Info: DCID 2386070 IP 192.168.2.2 TLS failed: STARTTLS unexpected response
"""


@cache
def traffic(form: str = "file") -> bytes:
    """A simulated log of some thousand lines, with lines that hold feeds and others that continue them."""
    settings = SimulationSettings(seed=5, messages=150, form=form, hostile=0.2)  # type: ignore[arg-type]
    return b"".join(line + b"\n" for _, line in simulate(settings))


def records(data: bytes | Iterable[bytes]) -> list[dict[str, Any]]:
    """JSON lines as dicts, without what depends on the moment of reading."""
    found = [json.loads(line) for line in (data if isinstance(data, bytes) else b"".join(data)).splitlines()]
    for record in found:
        del record["event"]["created"]
    return found


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The records of one kind, in their order."""
    return [record for record in found if record["cisco_esa"]["record"] == kind]


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., Path]:
    """Writes a log file."""

    def write(content: bytes, name: str = "mail.log", folder: str = "") -> Path:
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write


def run(path: Path | str | Sequence[Path], *, stdin: bytes | None = None, **options: Any) -> bytes:
    """What the command writes."""
    out = io.BytesIO()
    files = [str(path)] if isinstance(path, str | Path) else [str(one) for one in path]
    assert scanning.run(files, out=out, stdin=None if stdin is None else io.BytesIO(stdin), **options) == 0
    return out.getvalue()


# -- the records -----------------------------------------------------------------------------------------------------------------
def test_the_source_documents_samples(log: Callable[..., Path]) -> None:
    """The connections of the source document come out with the outcomes that the documentation promises."""
    found = records(scan([log(SEED)], ScanSettings(appliance="esa1", records=SUMMARIES)))

    outcomes = {
        record["cisco_esa"]["connection"]["id"]: (record["cisco_esa"]["tls"]["outcome"], record["cisco_esa"]["tls"]["evidence"])
        for record in of_kind(found, "connection")
    }
    assert outcomes == {
        "esa1/0/ICID/282204970": ("success", "line"),
        "esa1/0/DCID/2386069": ("success", "line"),
        "esa1/0/DCID/2386070": ("failed", "line"),
    }
    (delivery,) = of_kind(found, "delivery")
    assert (delivery["cisco_esa"]["mid"], delivery["cisco_esa"]["tls"]["in_clear"]) == (200257075, False)
    assert {record["cisco_esa"]["message"]["end"] for record in of_kind(found, "message")} == {"stream_end"}


def test_the_bytes_are_those_of_the_core(log: Callable[..., Path]) -> None:
    """Nothing is added to and nothing taken from what the core encodes."""
    pipeline = Pipeline(
        CoreSettings(appliance_name="esa1", starts_broken=False, late_batches=False, hold_by_event_time=True), DictState(), now_s=1.0
    )
    pipeline.feed(Batch([Run(Origin(), traffic().splitlines())], 1), now_s=1.0)
    pipeline.end_stream()
    sealed = pipeline.seal()
    assert sealed is not None
    expected = records(data for row in sealed.rows for _, _, data in row.segments)

    found = records(scan([log(traffic())], ScanSettings(appliance="esa1")))

    for kind in ("line", "connection", "delivery", "message"):
        assert of_kind(found, kind) == of_kind(expected, kind)
    assert len(found) == len(expected)


def test_only_the_kinds_wanted_come_out_and_are_the_same(log: Callable[..., Path]) -> None:
    """`--records` leaves out kinds; a summary is the same with line records (lines are held) and without (they are not)."""
    path = log(traffic())
    everything = records(scan([path]))
    for kinds in ({"delivery"}, {"connection", "message"}, {"line"}, {"line", "delivery"}):
        found = records(scan([path], ScanSettings(records=frozenset(kinds))))
        assert {record["cisco_esa"]["record"] for record in found} == kinds
        for kind in kinds:
            assert of_kind(found, kind) == of_kind(everything, kind)


@pytest.mark.parametrize("form", ["file", "syslog"])
def test_a_log_cut_into_files_gives_the_same_records_and_ids(log: Callable[..., Path], form: str) -> None:
    """Seven files given in order, cut anywhere and named as rotation names them, are one log: the same records in the same order."""
    lines = traffic(form).splitlines(keepends=True)
    whole = records(scan([log(traffic(form), "mail.current", "whole")]))
    cuts = [0, 1, 2, len(lines) // 3, len(lines) // 2, len(lines) - 200, len(lines) - 1, len(lines)]
    parts = [
        log(b"".join(lines[start:end]), f"mail.@20251124T10{number:02}00.s", "cut") for number, (start, end) in enumerate(pairwise(cuts))
    ]

    found = records(scan(parts))

    for kind in ("line", "connection", "delivery", "message"):
        assert of_kind(found, kind) == of_kind(whole, kind)
    assert len(found) == len(whole)


def test_a_line_that_goes_on_in_the_next_file_is_a_continuation(log: Callable[..., Path]) -> None:
    """A file that begins inside an entry continues the last line of the file before, also under another name if the appliance is given."""
    first = log(b"Mon Nov 24 10:00:00 2025 Info: MID 9 masquerading header 'To' from 'a\n", "a.log")
    second = log(b"Info: ICID 70 TLS success'\n", "b.log")

    found = records(scan([first, second], ScanSettings(appliance="esa1")))

    assert found[1]["cisco_esa"]["flags"] == ["continuation"]
    assert [record["cisco_esa"]["record"] for record in found] == ["line", "line"]


def test_records_come_out_while_the_log_is_read() -> None:
    """The first records are there long before the last line is read: nothing gathers the log."""
    lines = traffic().splitlines(keepends=True)
    taken = 0

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def read1(self, _: int = -1) -> bytes:
            nonlocal taken
            taken += 1
            return lines[taken % len(lines)]

    first = next(iter(scan(["-"], stdin=Endless())))  # type: ignore[arg-type]

    assert first.startswith(b'{"@timestamp"')
    assert taken < 3 * scanning.BATCH_LINES


def test_packed_files_and_standard_input(log: Callable[..., Path]) -> None:
    """A gzip file, the plain file and standard input give the same records."""
    plain = run(log(traffic()), appliance="esa1")

    assert records(run(log(gzip.compress(traffic()), "mail.log.gz"), appliance="esa1")) == records(plain)
    assert records(run("-", stdin=traffic(), appliance="esa1")) == records(plain)


def test_a_damaged_file_gives_what_it_has_and_then_the_error(log: Callable[..., Path]) -> None:
    """Everything before the damage becomes records, open messages included; then the error names the file."""
    content = gzip.compress(b"".join(line + b"\n" for _, line in simulate(SimulationSettings(seed=6, messages=600))))
    path = log(content[: len(content) // 2], "mail.log.gz")
    readable: list[bytes] = []
    with pytest.raises(OSError, match=r"mail\.log\.gz"):
        readable.extend(open_lines(path))
    out: list[bytes] = []

    with pytest.raises(OSError, match=r"mail\.log\.gz"):
        out.extend(scan([path, log(SEED)], ScanSettings(appliance="esa1")))

    found = records(out)
    assert len(of_kind(found, "line")) == len(readable) > scanning.BATCH_LINES
    assert "stream_end" in {record["cisco_esa"]["message"]["end"] for record in of_kind(found, "message")}
    assert not any(record["event"]["id"].startswith("42") for record in found), "the second file was not read"


def test_a_line_longer_than_allowed_is_flagged(log: Callable[..., Path]) -> None:
    """The cut line is `truncated`; the lines around it are not."""
    long = b"Mon Nov 24 10:00:00 2025 Info: MID 9 Subject 'a" + b"b" * DEFAULT_MAX_LINE_BYTES
    lines = [b"Mon Nov 24 10:00:00 2025 Info: Start MID 9 ICID 7", long, b"Mon Nov 24 10:00:00 2025 Info: MID 9 queued for delivery"]

    found = of_kind(records(scan([log(b"\n".join(lines))])), "line")

    assert [record["cisco_esa"].get("flags") for record in found] == [None, ["truncated"], None]
    assert len(found[1]["event"]["original"]) == DEFAULT_MAX_LINE_BYTES


# -- how the log is to be understood -----------------------------------------------------------------------------------------------
CLEAR = b"""\
Mon Nov 24 10:00:00 2025 Info: New SMTP ICID 7 interface Data 1 (192.0.2.1) address 198.51.100.7 reverse dns host unknown verified no
Mon Nov 24 10:00:01 2025 Info: Start MID 9 ICID 7
Mon Nov 24 10:00:01 2025 Info: ICID 7 close
"""


@pytest.mark.parametrize(("lossy", "evidence"), [(False, "absence"), (True, "absence_lossy")])
def test_lossy_weakens_what_absence_proves(log: Callable[..., Path], lossy: bool, evidence: str) -> None:
    """A file is complete unless `--lossy` says that lines may be missing."""
    (connection,) = of_kind(records(scan([log(CLEAR)], ScanSettings(lossy=lossy))), "connection")

    assert (connection["cisco_esa"]["tls"]["outcome"], connection["cisco_esa"]["tls"]["evidence"]) == ("none", evidence)


@pytest.mark.parametrize(("window_s", "outcome"), [(None, "none"), (2.0, "success")])
def test_the_reorder_window_puts_a_second_in_order(log: Callable[..., Path], window_s: float | None, outcome: str) -> None:
    """With a window, a TLS line that stands behind the mail of its own second still comes before it."""
    content = CLEAR.replace(
        b"Mon Nov 24 10:00:01 2025 Info: ICID 7 close",
        b"Mon Nov 24 10:00:01 2025 Info: ICID 7 TLS success protocol TLSv1.3 cipher TLS_AES_256_GCM_SHA384\n"
        b"Mon Nov 24 10:00:09 2025 Info: ICID 7 close",
    )
    (message,) = of_kind(records(scan([log(content)], ScanSettings(reorder_window_s=window_s))), "message")

    assert message["cisco_esa"]["reception"]["tls"]["outcome"] == outcome


SYSLOG = (
    b"<22>Dec 31 23:59:58 esa1 mail_logs: Info: Start MID 9 ICID 7\n<22>Jan  1 00:00:03 esa1 mail_logs: Info: MID 9 queued for delivery\n"
)


def times(found: list[dict[str, Any]]) -> list[str]:
    """The times of line records."""
    return [record["@timestamp"] for record in of_kind(found, "line")]


def test_the_year_of_the_first_stamp(log: Callable[..., Path]) -> None:
    """`--year` is the year of the first stamp, in the zone of the stamps; the new year begins inside the log."""
    path = log(SYSLOG)

    assert times(records(scan([path], ScanSettings(year=2019)))) == ["2019-12-31T23:59:58Z", "2020-01-01T00:00:03Z"]
    found = records(scan([path], ScanSettings(year=2019, timezone="Asia/Tokyo")))
    assert times(found) == ["2019-12-31T14:59:58Z", "2019-12-31T15:00:03Z"]
    january = log(b"<22>Jan  1 00:00:00 esa1 mail_logs: Info: Start MID 9 ICID 7\n", "january.log")
    assert times(records(scan([january], ScanSettings(year=2019)))) == ["2019-01-01T00:00:00Z"]
    assert found[0]["cisco_esa"]["flags"] == ["year_inferred"]


def test_a_gap_of_days_does_not_change_the_year(log: Callable[..., Path]) -> None:
    """The line before tells the year also over a long weekend."""
    path = log(SYSLOG.replace(b"Jan  1", b"Jan  4"))

    assert times(records(scan([path], ScanSettings(year=2019, reorder_window_s=0.0)))) == ["2019-12-31T23:59:58Z", "2020-01-04T00:00:03Z"]


def test_without_a_year_the_file_time_counts(log: Callable[..., Path]) -> None:
    """Each appliance's first stamp is looked for near the time of its own file, also when the next file is older."""
    new, old = log(SYSLOG), log(SYSLOG.replace(b"esa1", b"esa2"), "old.log")
    os.utime(new, (1_700_000_000, 1_704_070_000))  # 2024-01-01
    os.utime(old, (1_600_000_000, 1_609_480_000))  # 2021-01-01

    found = records(scan([new, old]))

    assert times([record for record in found if record["host"]["name"] == "esa1"]) == ["2023-12-31T23:59:58Z", "2024-01-01T00:00:03Z"]
    assert times([record for record in found if record["host"]["name"] == "esa2"]) == ["2020-12-31T23:59:58Z", "2021-01-01T00:00:03Z"]


def test_the_zone_of_the_stamps(log: Callable[..., Path]) -> None:
    """Stamps are local times of `--timezone`."""
    found = records(scan([log(CLEAR)], ScanSettings(timezone="Europe/Berlin")))

    assert times(found)[0] == "2025-11-24T09:00:00Z"


# -- whose lines they are ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "appliance"),
    [
        ("mail.@20251124T142257.s", "mail"),
        ("mail.@20251124T142257.c", "mail"),
        ("mail.@20251124T142257.s.gz", "mail"),
        ("mail.current", "mail"),
        ("mail.log", "mail"),
        ("mail.log.1", "mail"),
        ("mail.log.12.zst", "mail"),
        ("mail-2025-11-24.log", "mail"),
        ("mail_20251124.log.gz", "mail"),
        ("mail-20251124-1830.txt", "mail"),
        ("mail-esa1.log", "mail-esa1"),
        ("esa2.log", "esa2"),
        ("esa1.example.net.log", "esa1.example.net"),
        (".log", ".log"),
        ("2025-11-24.log", "2025-11-24"),
    ],
)
def test_the_appliance_of_a_file_name(name: str, appliance: str) -> None:
    """What rotation puts into a name is left out, what tells boxes apart is not."""
    assert file_appliance(Path("/logs") / name) == appliance


def test_equal_names_in_two_folders_are_two_appliances(log: Callable[..., Path]) -> None:
    """Two boxes are never one id space: the folder's name tells them apart, and where it cannot, the command asks for a name."""
    first, second = log(CLEAR, folder="esa1"), log(CLEAR, folder="esa2")
    assert appliance_names([first, second, "-"]) == ["esa1-mail", "esa2-mail", None]
    assert len(of_kind(records(scan([first, second])), "connection")) == 2

    same = log(CLEAR, folder="other/esa1")
    with pytest.raises(ConfigError, match="--appliance NAME"):
        run([first, same])
    assert len(of_kind(records(run([first, same], appliance="esa1")), "connection")) == 1


def test_a_syslog_host_beats_the_file_name(log: Callable[..., Path]) -> None:
    """Lines that name their host belong to it, `--appliance` beats both."""
    path = log(SYSLOG)
    assert {record["cisco_esa"]["appliance"] for record in records(scan([path]))} == {"esa1"}
    assert {record["cisco_esa"]["appliance"] for record in records(scan([path], ScanSettings(appliance="x")))} == {"x"}
    assert {record["cisco_esa"]["appliance"] for record in records(run("-", stdin=CLEAR))} == {"esa"}


# -- the command -----------------------------------------------------------------------------------------------------------------
def test_progress_is_told(log: Callable[..., Path]) -> None:
    """The hook hears how many lines and bytes were read, of how many; a packed file counts when it is done."""
    plain, packed = log(traffic()), log(gzip.compress(traffic()), "mail.log.gz")
    heard: list[Reading] = []
    for _ in scan([plain, packed], ScanSettings(appliance="esa1"), progress=heard.append):
        pass

    lines = traffic().count(b"\n")
    total = plain.stat().st_size + packed.stat().st_size
    assert [reading.lines for reading in heard] == sorted(reading.lines for reading in heard)
    assert heard[-1].lines == 2 * lines
    assert {reading.total_bytes for reading in heard} == {total}
    assert max(reading.read_bytes for reading in heard if reading.file == str(plain)) == plain.stat().st_size
    assert heard[-1].read_bytes == plain.stat().st_size
    heard.clear()
    for _ in scan(["-"], stdin=io.BytesIO(traffic()), progress=heard.append):
        pass
    assert (heard[-1].total_bytes, heard[-1].read_bytes) == (None, len(traffic()))


@pytest.mark.parametrize("style", ["jsonl", "table"])
def test_a_closed_pipe_ends_quietly(log: Callable[..., Path], style: str) -> None:
    """A reader that goes away (`| head -1`) ends the command with code 0 and not a word."""
    path = log(traffic() * 3)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "esa_tls.cli", "scan", "--format", style, str(path)],
            stdout=out, stderr=subprocess.PIPE, timeout=100, check=False,
        )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, b"")


# -- the table -----------------------------------------------------------------------------------------------------------------------
GOLDEN = Path(__file__).parents[2] / "golden" / "offline"


def test_the_table_of_the_sample() -> None:
    """The whole table of the built-in sample, looked at by eye."""
    assert run(SAMPLE, style="table", appliance="esa1").decode() == (GOLDEN / "sample-table.txt").read_text(encoding="utf-8")


def test_the_table_shows_lines_only_when_asked_by_name(log: Callable[..., Path]) -> None:
    """All kinds are the default and mean summaries here; `--records line` shows lines, their text whole."""
    path = log(SEED)
    assert b"Info: " not in run(path, style="table")
    shown = run(path, style="table", records=frozenset({"line"})).decode()
    assert len(shown.splitlines()) == SEED.count(b"\n") + 1
    assert all(line.endswith(raw) for line, raw in zip(shown.splitlines()[1:], SEED.decode().splitlines(), strict=True))


def test_the_table_of_nothing_has_a_head(log: Callable[..., Path]) -> None:
    """An empty log gives the names of the columns."""
    assert run(log(b""), style="table").decode().split()[:4] == ["TIME", "(UTC)", "RECORD", "CONNECTION"]


def test_text_of_the_log_cannot_act_on_the_terminal(log: Callable[..., Path]) -> None:
    """Escapes, direction marks and line breaks out of a line are written out, on any kind of row."""
    content = CLEAR.replace(b"reverse dns host unknown", "reverse dns host \x1b[2J\x07evil\u202e\r".encode())
    content += b"Mon Nov 24 10:00:01 2025 Info: MID 9 ICID 7 From: <\x1b]0;x\x07@example.org>\n"
    shown = run(log(content), style="table", records=frozenset({"line", "connection", "message"})).decode()

    assert not any(ord(letter) < 32 for letter in shown.replace("\n", ""))
    assert "\u202e" not in shown
    assert "\\x1b[2J\\x07evil\\u202e" in shown


def test_a_narrow_table_is_cut(log: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a width (`COLUMNS`), the last column is cut at the edge; without one it is whole."""
    path = log(SEED)
    assert "TLS success" in run(path, style="table", records=frozenset({"line"})).decode()
    monkeypatch.setenv("COLUMNS", "150")
    shown = run(path, style="table", records=frozenset({"line"})).decode()
    assert max(map(len, shown.splitlines())) <= 150
    assert shown.splitlines()[1].endswith("…")
