"""offline/explain*.py: the story of one message or connection, with the lines that prove it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from esa_tls.offline import explain as explaining
from esa_tls.offline.demo import SAMPLE
from esa_tls.offline.explain import Answer, explain, render
from esa_tls.offline.explain_story import Section, Story
from esa_tls.offline.explain_tls import Statement
from esa_tls.offline.scan import ScanSettings
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.offline.terminal import Reading

CORPUS = Path(__file__).parents[2] / "corpus"
GOLDEN = Path(__file__).parents[2] / "golden" / "offline"
SEED = CORPUS / "cisco-technote-118500-seed.log"
ESA1 = ScanSettings(appliance="esa1")

OPENED = (
    "Mon Nov 24 10:00:00 2025 Info: New SMTP ICID 7 interface Data 1 (192.0.2.1) "
    "address 198.51.100.7 reverse dns host mx.example verified yes"
)
STARTED = "Mon Nov 24 10:00:01 2025 Info: Start MID 9 ICID 7"


def at(second: int, text: str) -> str:
    """A line of the log, so many seconds after ten."""
    return f"Mon Nov 24 10:{second // 60:02}:{second % 60:02} 2025 Info: {text}"


def story_of(answer: Answer, title: str) -> Story:
    """The story with this title."""
    return next(story for story in answer.stories if story.title == title)


def section_of(story: Story, title: str) -> Section:
    """The section whose title begins so."""
    return next(section for section in story.sections if section.title.startswith(title))


def statement_of(story: Story, words: str) -> Statement:
    """The statement that has these words."""
    return next(statement for section in story.sections for statement in section.statements if words in statement.text)


def text_of(answer: Answer) -> str:
    """The answer as it is printed."""
    return "\n".join(line.plain for line in render(answer, width=110)) + "\n"


# -- the source document's samples -----------------------------------------------------------------------------------------------
def test_tls_success_is_said_by_a_line() -> None:
    """The first sample: TLS was established, and the line that says so is shown, the message came under TLS."""
    (story,) = explain([SEED], icid=282204970, settings=ESA1).stories

    assert story.title == "ICID 282204970 on esa1"
    assert story.summary == "From 192.168.1.1: TLS was established; 1 message."
    (tls,) = section_of(story, "TLS").statements
    assert (tls.text, tls.lines) == (
        "TLS was established. The appliance says so.",
        ["Wed Jul 20 19:47:40 2005 Info: ICID 282204970 TLS success"],
    )
    (mail,) = section_of(story, "Mail on it (1)").statements
    assert mail.text.startswith("MID 200257070. Received under TLS")


def test_tls_required_and_not_begun() -> None:
    """The second sample: both failure lines are shown, the words are those of the requirement, and there was no mail."""
    (story,) = explain([SEED], icid=282204971, settings=ESA1).stories

    assert story.summary == "From 192.168.1.1: TLS FAILED; no mail."
    (tls,) = section_of(story, "TLS").statements
    assert tls.text.startswith("TLS failed: TLS was required, and the other side did not offer or start it.")
    assert [line[30:] for line in tls.lines] == [
        " ICID 282204971 TLS failed",
        " ICID 282204971 TLS was required but remote host did not initiate it",
    ]
    assert section_of(story, "End").statements[0].text == "Closed in order, after it had been lost."


def test_a_failed_starttls_without_mail() -> None:
    """The fourth sample: the failure's class in words and the appliance's own, and no claim about mail."""
    (story,) = explain([SEED], dcid=2386070, settings=ESA1).stories

    assert story.summary == "To 192.168.2.2: TLS FAILED; no mail."
    assert 'the answer to STARTTLS was not the expected one ("STARTTLS unexpected response")' in section_of(story, "TLS").statements[0].text
    assert section_of(story, "End").statements[0].text == "Still open where the log ends."


def test_a_message_without_its_beginning() -> None:
    """The third sample: nothing is said of the reception that the log does not show, the delivery went under TLS."""
    (story,) = explain([SEED], mid=200257075, settings=ESA1).stories

    assert story.summary == "How it was received is not known; not yet delivered to its recipient."
    assert "the line that starts it is missing" in section_of(story, "Received").statements[0].text
    attempt = section_of(story, "Delivery attempt 1: DCID 2386069 to 192.168.2.2, RID 0")
    assert statement_of(story, "the mail went under TLS") in attempt.statements
    assert attempt.statements[-1].text == "RID 0: what became of it is not in the log."


# -- the sample that comes with the program -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "asked"),
    [("mid-3005", {"mid": 3005}), ("mid-3008", {"mid": 3008}), ("icid-7003", {"icid": 7003}), ("dcid-5004", {"dcid": 5004})],
)
def test_stories_of_the_sample(name: str, asked: dict[str, Any]) -> None:
    """Whole stories, each read by eye once."""
    assert text_of(explain([SAMPLE], settings=ESA1, **asked)) == (GOLDEN / f"explain-{name}.txt").read_text(encoding="utf-8")


def test_mail_in_clear_after_starttls_failed() -> None:
    """`TLS failed: STARTTLS unexpected response`, then `Delivery start` on the same DCID: that mail went in clear text."""
    story = story_of(explain([SAMPLE], mid=3003, settings=ESA1), "MID 3003 on esa1")

    assert "delivered in CLEAR TEXT to its recipient (old.example)" in story.summary
    assert story.tone == "bad"
    started = statement_of(story, "TLS had failed, and the delivery was started all the same: the mail went in CLEAR TEXT")
    assert started.lines == ["Mon Nov 24 09:01:08 2025 Info: Delivery start DCID 5003 MID 3003 to RID [0]"]


def test_a_retry_under_tls_after_a_refusal() -> None:
    """Two attempts: the first was not sent because TLS was required, the second went under TLS; both are told, the last one counts."""
    story = story_of(explain([SAMPLE], mid=3004, settings=ESA1), "MID 3004 on esa1")

    assert [section.title for section in story.sections if section.title.startswith("Delivery")] == [
        "Delivery attempt 1: DCID 5004 to 198.51.100.80 port 25, RID 0",
        "Delivery attempt 2: DCID 5008 to 198.51.100.80 port 25, RID 0",
    ]
    blocked = statement_of(story, "not sent, because TLS had failed")
    assert "to be tried again Mon Nov 24 09:17:01 2025" in blocked.text
    assert ["Delayed:" in line or "pending till" in line for line in blocked.lines] == [True, True]
    assert statement_of(story, "RID 0 <claims@insurer.example>").text.endswith("delivered, under TLS on both legs.")


# -- why it is believed ------------------------------------------------------------------------------------------------------------
def test_absence_is_proven_by_the_lines_around_it(log: Callable[..., Path]) -> None:
    """No TLS line: the first line and the one that starts the mail are the proof, and what lies between is counted."""
    path = log(OPENED, at(0, "ICID 7 ACCEPT SG None match ALL SBRS None"), at(0, "SMTP Auth: (ICID 7) failed for user: x"), STARTED)
    (story,) = explain([path], mid=9).stories

    told = statement_of(story, "The client did not start TLS")
    assert told.text == (
        "The client did not start TLS: the log has the connection from its first line on and in order, and none of the 2 lines between it "
        "and the start of the mail is about TLS."
    )
    assert told.lines == [OPENED, STARTED]
    assert statement_of(story, "it was received in CLEAR TEXT").tone == "bad"


def test_a_lossy_log_proves_less(log: Callable[..., Path]) -> None:
    """The same lines, but some may be missing: likely, not proven, and the statement is marked as a doubt."""
    (story,) = explain([log(OPENED, STARTED)], mid=9, settings=ScanSettings(lossy=True)).stories

    told = statement_of(story, "as far as this log tells")
    assert told.text.endswith("likely, not proven.")
    assert (told.lines, told.tone) == ([OPENED, STARTED], "doubt")


def test_without_the_beginning_nothing_is_claimed(log: Callable[..., Path]) -> None:
    """The connection's first line is not in the log: whether TLS was used cannot be told, and its first known line shows why."""
    (story,) = explain([log(STARTED)], mid=9).stories

    told = statement_of(story, "Whether TLS was used cannot be told")
    assert "the log has no beginning of ICID 7" in told.text
    assert told.lines == [STARTED]


def test_an_end_out_of_order_leaves_it_open(log: Callable[..., Path]) -> None:
    """Lost before TLS and mail: not told, and the line that says lost is the proof."""
    (story,) = explain([log(OPENED, at(3, "ICID 7 lost"), at(3, "ICID 7 close"))], icid=7).stories

    told = statement_of(story, "Whether TLS was used cannot be told")
    assert "ended out of order" in told.text
    assert told.lines == [at(3, "ICID 7 lost")]
    assert story.summary == "From 198.51.100.7 (mx.example): whether TLS was used cannot be told; no mail."


def test_a_server_without_starttls_is_said_by_a_line(log: Callable[..., Path]) -> None:
    """`STARTTLS command not supported`, then mail: no TLS, said by that line."""
    path = log(
        at(0, "New SMTP DCID 80 interface 192.0.2.1 address 203.0.113.25 port 25"),
        at(0, "DCID 80 STARTTLS command not supported"),
        at(1, "Delivery start DCID 80 MID 9 to RID [0]"),
    )
    (story,) = explain([path], dcid=80).stories

    told = statement_of(story, "does not offer STARTTLS")
    assert told.lines == [at(0, "DCID 80 STARTTLS command not supported")]
    assert section_of(story, "Mail on it (1)").statements[0].text == "MID 9. RID 0 with a result that is not in the log, in CLEAR TEXT."


def test_tls_after_the_mail_is_for_later_mail(log: Callable[..., Path]) -> None:
    """A STARTTLS behind the first message: that one was in clear, the next under TLS, and the later line is shown with the first."""
    success = at(4, "ICID 7 TLS success protocol TLSv1.3 cipher TLS_AES_256_GCM_SHA384")
    answer = explain([log(OPENED, STARTED, success, at(5, "Start MID 10 ICID 7"))], mid=9)
    (story,) = answer.stories

    assert statement_of(story, "established on the same connection later").lines == [success]
    assert story.summary.startswith("Received in CLEAR TEXT from 198.51.100.7")
    assert (
        explain([log(OPENED, STARTED, success, at(5, "Start MID 10 ICID 7"))], mid=10).stories[0].summary.startswith("Received under TLS")
    )


def test_a_broken_session_and_an_earlier_try(log: Callable[..., Path]) -> None:
    """Before the success a failure is an earlier try, behind it the session broke."""
    path = log(
        OPENED, at(0, "ICID 7 TLS failed"), at(1, "ICID 7 TLS success"), at(9, "ICID 7 TLS failed: [Errno 54] Connection reset by peer")
    )
    (story,) = explain([path], icid=7).stories

    assert statement_of(story, "An earlier try").lines == [at(0, "ICID 7 TLS failed")]
    broke = statement_of(story, "The session broke after it had been up")
    assert "Connection reset by peer" in broke.text


# -- what belongs together ---------------------------------------------------------------------------------------------------------
def test_the_family_is_told_both_ways() -> None:
    """Asked for parent or child, both are told, what was asked for first; the child carries on the parent's reception."""
    down = explain([SAMPLE], mid=3007, settings=ESA1)
    up = explain([SAMPLE], mid=3008, settings=ESA1)

    assert [story.title for story in down.stories] == ["MID 3007 on esa1", "MID 3008 on esa1"]
    assert [(story.title, story.asked) for story in up.stories] == [("MID 3008 on esa1", True), ("MID 3007 on esa1", False)]
    child = up.stories[0]
    assert section_of(child, "Where it comes from").statements[0].text == "Rewritten from MID 3007."
    assert statement_of(child, "It carries on what was received over ICID 7006").text.endswith("under TLS.")
    assert statement_of(up.stories[1], "MID 3008 came of it, rewritten from this one").lines[0].endswith("add-footer filter 'disclaimer'")
    assert "went on in MID 3008 for its recipient" in up.stories[1].summary


def test_a_bounce_is_mail_of_its_own() -> None:
    """A bounce message was not received, belongs to the message it is about, and its delivery is its own."""
    answer = explain([SAMPLE], mid=3006, settings=ESA1)

    assert (
        answer.stories[0].summary
        == "A bounce message for MID 3005, made on the appliance; delivered under TLS to its recipient (example.com)."
    )
    assert answer.stories[1].title == "MID 3005 on esa1"


@pytest.mark.parametrize("asked", ["a77e3005@example.com", "<a77e3005@example.com>", "  <a77e3005@example.com> "])
def test_by_message_id(asked: str) -> None:
    """With or without angle brackets; the message's family is told with it."""
    answer = explain([SAMPLE], message_id=asked, settings=ESA1)

    assert answer.asked == "Message-ID <a77e3005@example.com>"
    assert [story.title for story in answer.stories] == ["MID 3005 on esa1", "MID 3006 on esa1"]
    assert [story.asked for story in answer.stories] == [True, False]


def test_equal_numbers_of_two_appliances_are_two_stories(log: Callable[..., Path]) -> None:
    """Each appliance's MID 9 is told by itself, with its own reception."""
    one = log(OPENED, at(0, "ICID 7 TLS success"), STARTED, name="esa1.log")
    two = log(OPENED, STARTED, name="esa2.log")
    answer = explain([one, two], mid=9)

    assert [story.title for story in answer.stories] == ["MID 9 on esa1", "MID 9 on esa2"]
    assert [story.summary.partition(" from")[0] for story in answer.stories] == ["Received under TLS", "Received in CLEAR TEXT"]


def test_equal_numbers_of_two_lives_are_two_stories(log: Callable[..., Path]) -> None:
    """After a reset of the counters the same MID is another message, and the titles say which life is meant."""
    opened = "New SMTP ICID {} interface Data 1 (192.0.2.1) address 198.51.100.{} reverse dns host unknown verified no"
    old = [at(4, opened.format(30, 7)), at(4, "Start MID 30 ICID 30"), at(4, opened.format(9998, 8)), at(4, "Start MID 9999 ICID 9998")]
    new = [line for n in range(1, 41) for line in (at(10 + n, opened.format(n, 9)), at(10 + n, f"Start MID {n} ICID {n}"))]
    path = log(*old, *new)
    answer = explain([path], mid=30)

    assert [story.title for story in answer.stories] == [
        "MID 30 on mail, life 1 of its counters",
        "MID 30 on mail, life 2 of its counters",
    ]
    assert ["198.51.100.7" in story.summary for story in answer.stories] == [True, False]
    stories = explain([path], icid=30).stories
    assert [story.summary.partition(":")[0] for story in stories] == ["From 198.51.100.7", "From 198.51.100.9"]
    assert [len(section_of(story, "Mail on it (1)").statements) for story in stories] == [1, 1]


def test_a_line_under_a_second_log_name_is_shown_once(log: Callable[..., Path]) -> None:
    """The copy of another subscription of the same log is not told again."""
    opened, started = OPENED[30:], STARTED[30:]
    said = (opened, " ICID 7 TLS failed", started)
    lines = [f"<22>Nov 24 10:00:00 esa1 {name}: Info:{text}" for text in said for name in ("mail_logs", "mail_copy")]
    (story,) = explain([log(*lines)], mid=9, settings=ScanSettings(year=2025)).stories

    assert statement_of(story, "connected to interface").lines == [lines[0]]
    assert statement_of(story, "TLS failed").lines == [lines[2]]
    assert statement_of(story, "received in CLEAR TEXT").lines == [lines[4]]


def test_consolidated_events_belong_to_the_story() -> None:
    """A consolidated event is told beside, or alone if there is nothing else, with its line."""
    path = CORPUS / "sc4s-esa-cef.log"
    answer = explain([path], mid=1437)

    (story,) = answer.stories
    assert story.summary == "Only the consolidated event log names it."
    (told,) = section_of(story, "Consolidated").statements
    assert told.text.startswith("QUARANTINED (To POLICY); TLS in: failed")
    assert told.lines[0].startswith("Sun Aug 25 12:37:08 2019 CEF:0|Cisco|")
    assert explain([path], icid=190746).stories[0].title == story.title


def test_a_connection_tells_what_became_of_its_mail() -> None:
    """An ICID's story has each message on it with its fate, not only those that end before the connection does."""
    mails = [one.text for one in section_of(explain([SAMPLE], icid=7003, settings=ESA1).stories[0], "Mail on it (2)").statements]

    assert "MID 3003: from <ben@example.com> to <office@old.example>. Received under TLS; delivered in CLEAR TEXT" in mails[0]
    assert "MID 3004" in mails[1]


def test_only_lines_that_name_it(log: Callable[..., Path]) -> None:
    """A MID that no line opens: the lines are shown and nothing is made up."""
    line = at(0, "MID 9 antivirus negative")
    (story,) = explain([log(line)], mid=9).stories

    assert story.summary.startswith("The log has lines that name it, but none that says")
    assert section_of(story, "Lines").statements[0].lines == [line]


# -- the whole log ------------------------------------------------------------------------------------------------------------------
@cache
def simulation() -> tuple[tuple[bytes, ...], tuple[dict[str, Any], ...]]:
    """Lines of one simulated appliance and its truth."""
    truth: list[dict[str, Any]] = []
    settings = SimulationSettings(seed=9, messages=120, hostile=0.3, quarantine_days=0.2)
    lines = tuple(line for _, line in simulate(settings, truth=lambda one: truth.append(dict(one))))
    return lines, tuple(truth)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated log as a file."""
    path = tmp_path_factory.mktemp("log") / "esa1.log"
    path.write_bytes(b"".join(line + b"\n" for line in simulation()[0]))
    return path


def test_summaries_say_what_really_happened(simulated: Path) -> None:
    """For every message of a simulation, the sentence about reception and deliveries agrees with the simulator's truth."""
    messages = [one["cisco_esa"] for one in simulation()[1] if one["cisco_esa"]["record"] == "message"]
    assert len(messages) > 120
    for truth in messages[::4]:
        story = explain([simulated], mid=truth["mid"]).stories[0]
        received = truth.get("reception", {}).get("tls", {}).get("in_clear")
        if "reception" in truth:
            words = {True: "Received in CLEAR TEXT", False: "Received under TLS", None: "How it was received is not known"}[received]
            assert story.summary.startswith(words), (truth, story.summary)
        else:
            assert "ade on the appliance" in story.summary
        delivered = [one.get("in_clear") for one in truth.get("recipients", []) if one["result"] == "delivered"]
        assert ("delivered in CLEAR TEXT" in story.summary) == (True in delivered)
        assert ("delivered under TLS" in story.summary) == (False in delivered)


def test_proof_lines_are_lines_of_the_log_that_name_it(simulated: Path) -> None:
    """Every line shown stands in the log, byte for byte, and names the message or one of the connections of its story."""
    known = {line.decode("utf-8", "replace") for line in simulation()[0]}
    for mid in (200257075, 200257090, 200257101):
        for story in explain([simulated], mid=mid).stories:
            own = story.records[0]["cisco_esa"]
            ids = [f"MID {own['mid']}", f"ICID {own.get('reception', {}).get('icid')}"]
            ids += [f"DCID {one.get('dcid')}" for one in own.get("deliveries", [])]
            for section in story.sections:
                for statement in section.statements:
                    for line in statement.lines:
                        assert line in known
                        assert any(name in line for name in ids), line


def test_files_are_read_again_until_the_story_is_whole(simulated: Path) -> None:
    """With a window far too small to look back in, the same story comes out of several passes."""
    mids = [one["cisco_esa"]["mid"] for one in simulation()[1] if one["cisco_esa"].get("child_kind") or one["cisco_esa"].get("child_mids")]
    heard: list[Reading] = []
    for mid in mids[:8]:
        whole = explain([simulated], mid=mid)
        pieced = explain([simulated], mid=mid, window_lines=10, window_records=3, progress=heard.append)
        for answer in (whole, pieced):
            for story in answer.stories:
                for record in story.records:
                    record["event"].pop("created", None)
        assert pieced == whole
    assert {reading.what for reading in heard} == {"reading", "reading again"}


def test_standard_input_says_when_something_may_be_missing(simulated: Path) -> None:
    """Read once and with a small window, what stood before its connection to the story was known may be missing, and that is said."""
    lines = simulated.read_bytes()
    mid = next(one["cisco_esa"]["mid"] for one in simulation()[1] if one["cisco_esa"].get("child_kind") == "rewritten")

    small = explain(["-"], mid=mid, stdin=io.BytesIO(lines), window_lines=10)
    large = explain(["-"], mid=mid, stdin=io.BytesIO(lines))

    assert any(note.startswith("Standard input is read once") for note in small.notes)
    assert large.notes == []
    assert large.found
    assert small.found


# -- the command -----------------------------------------------------------------------------------------------------------------------
def run(path: Path, **options: Any) -> tuple[int, str]:
    """Exit code and output."""
    out = io.BytesIO()
    code = explaining.run([str(path)], out=out, **options)
    return code, out.getvalue().decode()


def test_what_is_not_there_is_one_sentence() -> None:
    """Exit code 1 and what was looked through."""
    assert run(SEED, mid=5) == (1, "MID 5 is not in 14 lines of 1 appliance.\n")
    assert run(SEED, message_id="<x@y>") == (1, "Message-ID <x@y> is not in 14 lines of 1 appliance.\n")


def test_json_has_the_story_and_its_records() -> None:
    """`--format json`: the same statements and the records they were told from."""
    code, shown = run(SEED, icid=282204970, style="json", appliance="esa1")
    told = json.loads(shown)

    assert (code, told["found"], told["asked"]) == (0, True, "ICID 282204970")
    (story,) = told["stories"]
    assert story["sections"][1]["statements"][0]["lines"] == ["Wed Jul 20 19:47:40 2005 Info: ICID 282204970 TLS success"]
    assert [record["cisco_esa"]["record"] for record in story["records"]] == ["connection"]


def test_text_of_the_log_cannot_act_on_the_terminal(log: Callable[..., Path]) -> None:
    """Escapes and markup in subject, names and addresses are shown, not obeyed; JSON escapes them by itself."""
    path = log(OPENED.replace("mx.example", "\x1b[2J[red]x"), STARTED, at(2, "MID 9 Subject '\x1b]0;owned\x07 [bold]\u202e :smile:'"))
    code, shown = run(path, mid=9)

    assert code == 0
    assert not any(ord(letter) < 32 for letter in shown.replace("\n", ""))
    assert "\u202e" not in shown
    assert '"\\x1b]0;owned\\x07 [bold]\\u202e :smile:"' in shown
    assert 'named "\\x1b[2J[red]x"' in shown
    assert "\x1b" not in run(path, mid=9, style="json")[1]


def test_times_are_those_of_the_zone(log: Callable[..., Path]) -> None:
    """Times stand in the zone of the stamps, as in the lines beside them, and a zone other than UTC is named."""
    code, shown = run(log(OPENED, STARTED), mid=9, timezone="Europe/Berlin")

    assert code == 0
    assert "Received  2025-11-24 10:00:01" in shown
    assert shown.endswith("Times are those of Europe/Berlin.\n")


def test_lines_are_not_folded(log: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentences are folded at the width, lines of the log stand whole, so that they can be looked for."""
    monkeypatch.setenv("COLUMNS", "60")
    _, shown = run(log(OPENED, STARTED), mid=9)

    assert f"      | {OPENED}\n" in shown
    assert max(len(line) for line in shown.splitlines() if not line.startswith("      | ")) <= 60
