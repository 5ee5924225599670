"""The questions of the manual: each in every language, read again by what reads that language here, and answered in ES|QL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.boards import esql as esql_reader
from tests.boards import kql as kql_reader
from tests.boards import spl as spl_reader
from tests.boards.answers import ANSWERS, a_mid
from tests.boards.stores import expected_table, largest_are
from tests.boards.world import NOW, world
from tools.boards import esql, logql, logsql, spl
from tools.boards.kibana_query import kql, lucene
from tools.boards.model import Period, Rows, SourceError, Written, query_of
from tools.boards.questions import Question, page, questions, texts

QUESTIONS = questions()


def test_there_are_twenty_questions_with_answers() -> None:
    """Each question has an answer that was worked out by hand, and none has been forgotten."""
    assert [question.id for question in QUESTIONS if question.id not in ANSWERS] == []
    assert len(QUESTIONS) == len(ANSWERS) == 20


def test_the_page_has_every_question_in_every_language() -> None:
    """A section for each, with a block for each of six languages."""
    sections = page(QUESTIONS).split("\n## ")[1:]
    assert [section.partition("\n")[0] for section in sections] == [
        f"{number}. {question.title}" for number, question in enumerate(QUESTIONS, 1)
    ]
    for section, question in zip(sections, QUESTIONS, strict=True):
        for language, text in texts(question.query()).items():
            assert f"**{language}**" in section
            assert f"```text\n{text}\n```" in section
        assert "$" not in question.title


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)
def test_esql_gives_the_answer(question: Question) -> None:
    """The ES|QL of a question, read and worked out by the documented rules, gives what the truth says."""
    mail = world()
    appliance, mid = a_mid(mail)
    query = question.query({"appliance": appliance, "mid": mid})
    rows, expected = esql_reader.run(esql.text(query), mail.flat, NOW), ANSWERS[question.id](mail)

    assert expected
    if isinstance(query.answer, Rows):
        assert isinstance(expected, list)
        found = [tuple(_plain(value) for value in row.values()) for row in rows]
        assert sorted(map(repr, found)) == sorted(map(repr, expected_table(query, expected)))
        return
    assert isinstance(expected, dict)
    counts = query.answer
    names = ["day"] if counts.per_day else [field.path for field in counts.by]
    found_groups = {
        tuple(_plain(row[name])[:10] if counts.per_day else row[name] for name in names): (
            (row["n"],) if counts.share is None else (row["n"], row["hit"])
        )
        for row in rows
    }
    largest_are(found_groups, expected, counts.limit)


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)
def test_kql_and_spl_can_be_read(question: Question) -> None:
    """The reader of KQL takes the filter, the check of SPL the search: fields, commands, quoting."""
    kql_reader.dsl(kql(question.query()))
    spl_reader.check(spl.text(question.query()))


# -- the readers can say no ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        'cisco_esa.invented : "x"',
        'cisco_esa.record "delivery"',
        'cisco_esa.record : "delivery" and',
        'cisco_esa.record : ("delivery" or "message"',
        'cisco_esa.record : "delivery" cisco_esa.mid : 1',
        'cisco_esa.record : "delivery',
        "cisco_esa.record : and",
        "cisco_esa.mid >",
        '"delivery"',
        'cisco_esa.record : "a") or (cisco_esa.record : "b"',
    ],
)
def test_kql_that_is_none_is_refused(text: str) -> None:
    """A field that there is not, a value, a sign or a bracket that is missing, something that stands too much."""
    with pytest.raises(kql_reader.KqlError):
        kql_reader.dsl(text)


def test_kql_binds_as_kibana_says() -> None:
    """`not` binds closest, then `and`, then `or`; a phrase is a phrase, a star says that the field is there."""
    a, b, c = ({"match_phrase": {"cisco_esa.record": name}} for name in "abc")
    texts_ = [f'cisco_esa.record : "{name}"' for name in "abc"]

    assert kql_reader.dsl(f"not {texts_[0]} and {texts_[1]} or {texts_[2]}") == {
        "bool": {"should": [{"bool": {"filter": [{"bool": {"must_not": a}}, b]}}, c], "minimum_should_match": 1}
    }
    assert kql_reader.dsl("not cisco_esa.mid : *") == {"bool": {"must_not": {"exists": {"field": "cisco_esa.mid"}}}}
    assert kql_reader.dsl("cisco_esa.mid >= 7") == {"range": {"cisco_esa.mid": {"gte": "7"}}}


FROM = "FROM logs-cisco_esa.delivery-*\n| "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM logs-*\n| LIMIT 1", "no such source"),
        (FROM + "GUESS 1", "no such command"),
        (FROM + "KEEP cisco_esa.invented", "no such column"),
        (FROM + "KEEP cisco_esa.posture", "no such column"),  # messages have it
        (FROM + "WHERE cisco_esa.mid == true", "long == boolean"),
        (FROM + 'WHERE cisco_esa.mid == "7"', "long == keyword"),
        (FROM + "WHERE cisco_esa.tls.in_clear > true", "boolean > boolean"),
        (FROM + "WHERE cisco_esa.mid", "condition is boolean"),
        (FROM + "WHERE NOT cisco_esa.mid", "NOT of long"),
        (FROM + "WHERE cisco_esa.mid == 7 AND 1", "AND or OR of boolean and long"),
        (FROM + "WHERE GUESS(1) == 1", "no such function"),
        (FROM + "WHERE cisco_esa.mid == 7)", "stands too much"),
        (FROM + "WHERE cisco_esa.mid IN (7", "is missing"),
        (FROM + "SORT cisco_esa.delivery.domains DESC", "no order"),
        (FROM + "STATS n = COUNT(*) BY host.name\n| KEEP cisco_esa.mid", "no such column"),
        (FROM + "WHERE @timestamp >= NOW() - 3", "have no sum"),
        (FROM + "EVAL x = 'a'", "cannot be read"),
    ],
)
def test_esql_that_elasticsearch_refuses_is_refused(text: str, said: str) -> None:
    """Commands, columns and functions that there are not, and types that do not go together."""
    with pytest.raises(esql_reader.EsqlError, match=said):
        esql_reader.run(text, [], NOW)


def _delivery(**fields: Any) -> dict[str, Any]:
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return {"cisco_esa.record": "delivery", "@timestamp": "2025-11-24T01:02:03Z", **named}


def test_esql_takes_null_and_lists_as_documented() -> None:
    """A comparison with null or with several values is null, and is not there after WHERE; BY counts a list under each value, null too."""
    records = [
        _delivery(cisco_esa__mid=1, cisco_esa__delivery__domains=["a", "b"]),
        _delivery(cisco_esa__mid=2, cisco_esa__delivery__domains=["a"]),
        _delivery(),
    ]

    def run(text: str) -> list[dict[str, Any]]:
        return esql_reader.run(FROM + text, records, NOW)

    assert [row["cisco_esa.mid"] for row in run('WHERE cisco_esa.delivery.domains == "a"')] == [2]
    assert [row["cisco_esa.mid"] for row in run("WHERE NOT cisco_esa.mid == 1")] == [2]
    assert len(run("WHERE cisco_esa.mid IS NULL OR cisco_esa.mid == 1")) == 2
    assert run("STATS n = COUNT(*) BY cisco_esa.delivery.domains\n| SORT n DESC\n| LIMIT 1") == [
        {"n": 2, "cisco_esa.delivery.domains": "a"}
    ]
    assert {"n": 1, "cisco_esa.delivery.domains": None} in run("STATS n = COUNT(*) BY cisco_esa.delivery.domains")
    assert run("STATS n = COUNT(*), hit = COUNT(*) WHERE cisco_esa.mid > 1\n| EVAL share = ROUND(100.0 * hit / n, 1)") == [
        {"n": 3, "hit": 1, "share": 33.3}
    ]
    assert run("STATS n = COUNT(*) BY day = DATE_TRUNC(1 day, @timestamp)") == [{"n": 3, "day": datetime(2025, 11, 24, tzinfo=UTC)}]


@pytest.mark.parametrize(
    "text",
    [
        "index=x cisco_esa.invented=1",
        "index=x cisco_esa.delivery.domains=*",
        'index=x "cisco_esa.delivery.domains{}',
        "index=x earliest=yesterday",
        "index=x\n| guess count",
        "index=x\n| stats count",
        'index=x\n| stats count(eval(cisco_esa.tls.in_clear="true")) AS hit',
        "index=x\n| stats count(eval('cisco_esa.invented'=1)) AS hit",
        "index=x\n| stats count AS n BY cisco_esa.delivery.domains{}",
        "index=x\n| where n=1",
        "index=x\n| stats count AS n\n| eval p=round(100*n/n, 1",
        "index=x\n| stats count AS n\n| eval p=guess(n)",
        "index=x\n| sort -n",
        "index=x\n| table cisco_esa.invented",
        "index=x\n| timechart count",
    ],
)
def test_spl_that_splunk_would_take_otherwise_is_refused(text: str) -> None:
    """Names without quotes in eval, lists without braces, commands, functions and fields that there are not."""
    with pytest.raises(spl_reader.SplError):
        spl_reader.check(text)


# -- what a source cannot say ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"kind": "mail", "count": []}, "no such kind"),
        ({"kind": "delivery"}, "either `rows` or `count`"),
        ({"kind": "delivery", "rows": [], "count": []}, "either `rows` or `count`"),
        ({"kind": "delivery", "count": ["cisco_esa.invented"]}, "no such field"),
        ({"kind": "delivery", "count": ["cisco_esa.posture"]}, "no record of the kind delivery"),
        ({"kind": "message", "count": [], "where": ["cisco_esa.recipients exists"]}, "holds objects"),
        ({"kind": "delivery", "count": [], "where": ["cisco_esa.mid is 7"]}, "no condition"),
        ({"kind": "delivery", "count": [], "where": ["cisco_esa.tls.in_clear = yes"]}, "true or false"),
        ({"kind": "delivery", "count": [], "where": ["host.name > 7"]}, "compares a number"),
        ({"kind": "delivery", "count": [], "where": ["cisco_esa.mid = $mid"]}, "no value is given"),
        ({"kind": "delivery", "count": [], "period": "3d"}, "no such period"),
        ({"kind": "delivery", "count": [], "keep": "all"}, "`keep` goes with `share`"),
        ({"kind": "delivery", "rows": [], "share": ["cisco_esa.mid exists"]}, "go with `count`"),
        ({"kind": "delivery", "count": ["day", "host.name"]}, "stands alone"),
    ],
)
def test_a_question_that_cannot_be_is_refused(written: dict[str, Any], said: str) -> None:
    """Kinds, fields, conditions, periods and answers that there are not."""
    with pytest.raises(SourceError, match=said):
        query_of(Written(**written))


def test_esql_refuses_to_compare_lists() -> None:
    """There a list is never equal to one of its values; the question is refused instead of answered wrongly."""
    query = query_of(Written(kind="delivery", where=["cisco_esa.delivery.domains = a.example"], count=[]))
    with pytest.raises(SourceError, match="no lists"):
        esql.text(query)


def test_text_in_a_condition_stays_text() -> None:
    """Quotes and backslashes of a value end no string, in any language; in LogQL's patterns its signs stand for themselves."""
    value = 'a"b\\c.d|e'
    query = query_of(Written(kind="message", where=["email.subject = $x"], count=[]), {"x": value})
    quoted = '"a\\"b\\\\c.d|e"'
    for text in (kql(query), lucene(query), esql.text(query), logql.text(query), logsql.text(query), spl.text(query)):
        assert quoted in text
    both = query_of(Written(kind="message", where=["email.subject in $x, $y"], count=[]), {"x": value, "y": "z"})
    assert 'email_subject=~"a\\"b\\\\\\\\c\\\\.d\\\\|e|z"' in logql.text(both)


def test_not_equal_also_means_absent() -> None:
    """`!=` holds where the field is absent: ES|QL, and SPL in eval, say so; the others mean it."""
    query = query_of(Written(kind="delivery", where=["cisco_esa.tls.outcome != success"], count=[], share=["host.name not in a, b"]))
    assert '(cisco_esa.tls.outcome IS NULL OR NOT cisco_esa.tls.outcome == "success")' in esql.text(query)
    assert "(isnull('host.name') OR NOT in('host.name', \"a\", \"b\"))" in spl.text(query)
    assert 'not cisco_esa.tls.outcome : "success"' in kql(query)
    assert 'NOT cisco_esa.tls.outcome:"success"' in lucene(query)
    assert 'NOT cisco_esa.tls.outcome="success"' in spl.text(query)
    assert 'cisco_esa_tls_outcome!="success"' in logql.text(query)
    assert '!cisco_esa_tls_outcome:="success"' in logsql.text(query)


def test_periods_are_whole_days_or_up_to_now() -> None:
    """Yesterday is the UTC day before today's, seven days are the 168 hours before now."""
    now = datetime(2025, 11, 25, 15, 30, tzinfo=UTC)
    assert Period(1, whole=True).span(now) == (datetime(2025, 11, 24, tzinfo=UTC), datetime(2025, 11, 25, tzinfo=UTC))
    assert Period(7).span(now) == (datetime(2025, 11, 18, 15, 30, tzinfo=UTC), now)
