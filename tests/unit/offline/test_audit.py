"""offline/audit.py: mail that is expected to go under TLS, counted and listed as the records say it; and the command that shows it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.sidecar import esa_tls

from esa_tls.config import load_require_tls
from esa_tls.core.fields import FIELDS
from esa_tls.errors import ConfigError
from esa_tls.offline.audit import BY_GROUP, MAX_EXCEPTIONS, Audit, breaches_csv, partners_csv
from esa_tls.offline.report import report
from esa_tls.offline.scan import ScanSettings
from esa_tls.offline.simulate import SimulationSettings, simulate

LISTS = """
partners:
  - {name: Old corp, domains: [old.example.com, "*.example.org"]}
domains: [corp.example.com]
sender_groups: [RELAYLIST]
"""


def delivered(in_clear: bool | None, **tls: Any) -> dict[str, Any]:
    """A delivery record of mail that was expected to go under TLS."""
    told = {"expected": True, "partners": ["Bank"], "outcome": "unknown", **tls}
    if in_clear is not None:
        told["in_clear"] = in_clear
    own = {"appliance": "esa1", "mid": 7, "tls": told, "delivery": {"result": "delivered"}, "connection": {"id": "esa1/0/DCID/1"}}
    own["envelope"] = {"from": "=cmd|calc", "to": ["b@bank.example"]}
    return {"@timestamp": "2026-11-24T10:00:00Z", "cisco_esa": own, "destination": {"ip": "192.0.2.1"}}


def test_what_cannot_be_told_is_neither_kept_nor_broken() -> None:
    """Three numbers, and an exception for everything that is not proven to be under TLS."""
    audit = Audit()
    for in_clear in (False, False, True, None):
        audit.add("delivery", delivered(in_clear))
    [row] = audit.rows()
    assert (row.total, row.tls, row.clear, row.unknown) == (4, 2, 1, 1)
    assert [one.clear for one in audit.breaches] == ["clear", "unknown"]


def test_the_floor_is_the_weakest_protocol() -> None:
    """In whatever order they came; one that nobody knows is weaker than all."""
    audit = Audit()
    for protocol in ("TLSv1.3", "TLSv1", "TLSv1.2"):
        audit.add("delivery", delivered(False, protocol=protocol, cipher="C"))
    assert audit.rows()[0].floor == "TLSv1"
    assert audit.rows()[0].ciphers == [("C", 3)]
    audit.add("delivery", delivered(False, protocol="NEWv9"))
    assert audit.rows()[0].floor == "NEWv9"


def test_mail_that_nothing_was_expected_of_is_not_counted() -> None:
    """Nor is mail that did not go out, nor a child, which was not received."""
    audit = Audit()
    plain = delivered(True)
    del plain["cisco_esa"]["tls"]["expected"]
    bounced = delivered(True)
    bounced["cisco_esa"]["delivery"]["result"] = "bounced"
    child = {
        "@timestamp": "",
        "cisco_esa": {"child_kind": "split", "reception": {"tls": {"expected": True, "in_clear": True, "outcome": "none"}}},
    }
    for kind, record in (("delivery", plain), ("delivery", bounced), ("message", child)):
        audit.add(kind, record)
    assert audit.rows() == []
    assert audit.breaches == []


def test_exceptions_beyond_the_limit_are_counted() -> None:
    """The list is bounded, the number is not."""
    audit = Audit()
    for _ in range(MAX_EXCEPTIONS + 5):
        audit.add("delivery", delivered(True))
    assert (len(audit.breaches), audit.more_breaches, audit.rows()[0].clear) == (MAX_EXCEPTIONS, 5, MAX_EXCEPTIONS + 5)


def test_csv_runs_no_formula() -> None:
    """A sender that begins with `=` begins with an apostrophe in the file; all else reads back as it was."""
    audit = Audit()
    audit.add("delivery", delivered(True, reason='a "b", c'))
    [head, row] = csv.reader(io.StringIO(breaches_csv(audit.breaches)))
    assert dict(zip(head, row, strict=True))["sender"] == "'=cmd|calc"
    assert [len(one) for one in csv.reader(io.StringIO(partners_csv(audit.rows())))] == [8, 8]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A simulated log and the lists."""
    folder = tmp_path_factory.mktemp("audit")
    log, lists = folder / "mail.log", folder / "lists.yaml"
    log.write_bytes(b"".join(line + b"\n" for _, line in simulate(SimulationSettings(messages=300, seed=5, span_s=200_000))))
    lists.write_text(LISTS)
    return log, lists


def test_the_marks_change_nothing_else(files: tuple[Path, Path]) -> None:
    """With and without lists the report says the same of everything but what the lists are about."""
    log, lists = files
    plain, audited = report([log]), report([log], settings=ScanSettings(require_tls=load_require_tls(lists)))
    assert audited.audit is not None
    assert {row.partner for row in audited.audit.rows()} >= {"Old corp", "corp.example.com", BY_GROUP}
    for name in plain.__struct_fields__:
        if name != "audit":
            assert getattr(plain, name) == getattr(audited, name), name


def test_every_exception_is_a_delivery_or_reception_of_the_log(files: tuple[Path, Path]) -> None:
    """Numbers of the table are numbers of the exceptions, and each names its message and connection."""
    log, lists = files
    audit = report([log], settings=ScanSettings(require_tls=load_require_tls(lists))).audit
    assert audit is not None
    for row in audit.rows():
        mine = [one for one in audit.breaches if one.direction == row.direction and row.partner in one.partners.split(", ")]
        assert (row.clear, row.unknown) == (sum(one.clear == "clear" for one in mine), sum(one.clear == "unknown" for one in mine))
    assert all(one.mid and one.connection and one.evidence for one in audit.breaches if one.clear == "clear")


def test_the_command_writes_the_tables(files: tuple[Path, Path], tmp_path: Path) -> None:
    """CSV, and the same in HTML; a period leaves out what is outside of it; --csv without lists is a mistake in usage."""
    log, lists = files
    done = esa_tls("report", log, "--require-tls", lists, "--csv", tmp_path / "a", "--html", tmp_path / "a.html")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "a-partners.csv").read_text().splitlines()))
    assert sum(int(row["in_clear"]) for row in rows) > 0
    assert "Where TLS is expected" in (tmp_path / "a.html").read_text()
    part = esa_tls("report", log, "--require-tls", lists, "--csv", tmp_path / "b", "--until", "2025-11-24T12:00:00")
    assert part.returncode == 0, part.stderr
    times = [row["time"] for row in csv.DictReader((tmp_path / "b-exceptions.csv").read_text().splitlines())]
    assert times
    assert max(times) < "2025-11-24T12:00:00Z"
    assert esa_tls("report", log, "--csv", tmp_path / "c").returncode == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partners: [{name: x}]", "partners[0]: has neither domains nor hosts nor networks"),
        ("domains: [a.example, a.example]", "domains[1]: 'a.example' is taken by domains[0]"),
        ("partners: [{name: x, networks: [nowhere]}]", "partners[0]: no address and no network"),
        ("partners: [{name: x, domains: ['a@b']}]", "partners[0]: expected a name or *.NAME"),
        ("partner: []", "unknown field"),
        ("file: other.yaml", "file: a file of lists names no other"),
    ],
)
def test_wrong_lists_are_refused(tmp_path: Path, text: str, said: str) -> None:
    """With the file, the place and the reason."""
    path = tmp_path / "lists.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_require_tls(path)
    assert str(path) in str(refused.value)
    assert said in str(refused.value)


def test_the_fields_are_in_the_table() -> None:
    """What marks records is documented like everything else."""
    paths = {field.path for field in FIELDS}
    assert {"cisco_esa.tls.expected", "cisco_esa.reception.tls.partners", "cisco_esa.deliveries.tls.expected"} <= paths
