"""Templates put into a store that answers as the products' manuals say: what a real OpenSearch answers is tested in `tests/peers/`."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from esa_tls.cli import cli
from esa_tls.config import ClientTls, Secret
from esa_tls.errors import ConfigError, TransientError
from esa_tls.templates import Access, Applied, Wanted, applied

ELASTICSEARCH = {"X-Elastic-Product": "Elasticsearch"}


class FakeStore:
    """Keeps what is put in. `answer` may answer instead, by (method, path)."""

    def __init__(self, number: str, distribution: str | None = None) -> None:
        self.root: dict[str, Any] = {"version": {"number": number}}
        if distribution is not None:
            self.root["version"]["distribution"] = distribution
        self.headers = {} if distribution else ELASTICSEARCH
        self.kept: dict[str, Any] = {}
        self.puts: list[str] = []
        self.seen: list[dict[str, str]] = []
        self.answers: dict[tuple[str, str], Callable[[web.BaseRequest], web.Response]] = {}
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """One request."""
        self.seen.append(dict(request.headers))
        for (method, pattern), answer in self.answers.items():
            if request.method == method and re.fullmatch(pattern, request.path_qs):
                return answer(request)
        if request.path == "/":
            return web.json_response(self.root, headers=self.headers)
        if request.method == "PUT":
            self.puts.append(request.path)
            self.kept[request.path] = await request.json()
            return web.json_response({"acknowledged": True})
        if request.path in self.kept:
            return web.json_response(self.kept[request.path])
        return web.json_response({"error": {"type": "resource_not_found_exception", "reason": "none"}}, status=404)


def refusing(status: int, error: Any) -> Callable[[web.BaseRequest], web.Response]:
    """Answers so."""
    return lambda _: web.json_response({"error": error, "status": status}, status=status)


@pytest.fixture
async def start() -> AsyncIterator[Callable[[FakeStore], Any]]:
    """Starts stores on free ports."""
    runners = []

    async def one(store: FakeStore) -> FakeStore:
        runner = web.ServerRunner(web.Server(store.handle, access_log=None), shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        store.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return store

    yield one
    for runner in runners:
        await runner.cleanup()


async def apply(product: str, store: FakeStore, access: Access | None = None, **wanted: Any) -> Applied:
    """As the command does it."""
    return await asyncio.to_thread(applied, product, store.url, Wanted(**wanted), access or Access())


async def test_everything_goes_in_in_order(start: Any) -> None:
    """The policy, the parts, then the templates; nothing is missing."""
    store = await start(FakeStore("9.1.4"))
    told = await apply("elasticsearch", store)
    assert store.puts[0] == "/_ilm/policy/cisco-esa"
    assert store.puts[-5:] == [
        f"/_index_template/logs-cisco_esa.{k}" for k in ("line", "connection", "delivery", "message", "consolidated")
    ]
    assert len(store.puts) == 14
    assert told.missing == []
    assert told.done == ["Elasticsearch 9.1.4", *(f"PUT {path}" for path in store.puts)]
    assert store.kept["/_component_template/cisco-esa@settings"]["template"]["settings"]["index"]["mode"] == "logsdb"


async def test_the_version_decides(start: Any) -> None:
    """An older Elasticsearch gets what it knows, unless somebody says otherwise; one that is too old is told so."""
    store = await start(FakeStore("8.15.0"))
    await apply("elasticsearch", store)
    assert "mode" not in store.kept["/_component_template/cisco-esa@settings"]["template"]["settings"]["index"]
    await apply("elasticsearch", store, store_version="8.17")
    assert store.kept["/_component_template/cisco-esa@settings"]["template"]["settings"]["index"]["mode"] == "logsdb"
    old = await start(FakeStore("2.11.0", "opensearch"))
    with pytest.raises(ConfigError, match=r"opensearch 2\.11\.0 is too old"):
        await apply("opensearch", old)
    assert old.puts == []


async def test_twice_is_as_good_as_once(start: Any) -> None:
    """The second time makes the same; what the administrator put into his part stays."""
    store = await start(FakeStore("2.19.6", "opensearch"))
    await apply("opensearch", store)
    own = {"template": {"settings": {"index": {"refresh_interval": "30s"}}}}
    store.kept["/_component_template/cisco-esa@custom"] = own
    before = json.dumps(store.kept, sort_keys=True)
    told = await apply("opensearch", store)
    assert json.dumps(store.kept, sort_keys=True) == before
    assert "kept /_component_template/cisco-esa@custom" in told.done


@pytest.mark.parametrize(
    ("product", "store", "answer", "name"),
    [
        ("opensearch", FakeStore("3.1.0", "opensearch"), (400, "no handler found for uri [/_plugins/_ism/policies/cisco-esa]"), "(ISM)"),
        (
            "elasticsearch",
            FakeStore("9.1.0"),
            (410, {"type": "api_not_available_exception", "reason": "not available when running in serverless mode"}),
            "(ILM)",
        ),
        ("elasticsearch", FakeStore("8.18.0"), (404, "no handler found for uri [/_ilm/policy/cisco-esa]"), "(ILM)"),
    ],
)
async def test_a_store_without_a_lifecycle(start: Any, product: str, store: FakeStore, answer: Any, name: str) -> None:
    """It is told, and the templates go in without one: an index that names a policy which cannot be would not be made."""
    await start(store)
    store.answers["PUT", ".*(_ilm|_ism).*"] = refusing(*answer)
    told = await apply(product, store)
    [words] = told.missing
    assert name in words
    assert "--lifecycle none" in words
    assert len(store.puts) == 13
    assert "lifecycle" not in json.dumps(store.kept)


async def test_a_policy_that_is_there_is_replaced(start: Any) -> None:
    """ISM wants to know which version of a policy is changed."""
    store = await start(FakeStore("2.19.6", "opensearch"))
    path = "/_plugins/_ism/policies/cisco-esa"
    changed = []

    def change(request: web.BaseRequest) -> web.Response:
        changed.append(request.path_qs)
        return web.json_response({"_id": "cisco-esa"})

    store.answers["PUT", re.escape(path)] = refusing(409, {"type": "version_conflict_engine_exception", "reason": "exists"})
    store.answers["PUT", re.escape(path + "?if_seq_no=7&if_primary_term=3")] = change
    store.answers["GET", re.escape(path)] = lambda _: web.json_response(
        {"_id": "cisco-esa", "_seq_no": 7, "_primary_term": 3, "policy": {}}
    )
    told = await apply("opensearch", store)
    assert changed == [path + "?if_seq_no=7&if_primary_term=3"]
    assert told.missing == []


@pytest.mark.parametrize(
    ("product", "store", "words"),
    [
        ("elasticsearch", FakeStore("3.1.0", "opensearch"), "this is OpenSearch 3.1.0: say `esa-tls templates opensearch`"),
        ("opensearch", FakeStore("9.1.0"), "this is Elasticsearch 9.1.0: say `esa-tls templates elasticsearch`"),
        ("opensearch", FakeStore("7.0", "other"), "this is neither Elasticsearch 8 or 9 nor OpenSearch"),
    ],
)
async def test_another_product_than_was_said(start: Any, product: str, store: FakeStore, words: str) -> None:
    """Nothing is put in."""
    await start(store)
    with pytest.raises(ConfigError) as caught:
        await apply(product, store)
    assert words in str(caught.value)
    assert store.puts == []


async def test_no_store_at_all(start: Any) -> None:
    """A page of somebody else's, and an address where nobody listens."""
    store = await start(FakeStore("1"))
    store.answers["GET", "/"] = lambda _: web.Response(text="<html>hello</html>")
    with pytest.raises(ConfigError, match="neither Elasticsearch nor OpenSearch"):
        await apply("opensearch", store)
    store.url = "http://127.0.0.1:1"
    with pytest.raises(TransientError, match="no node can be reached"):
        await apply("opensearch", store)


@pytest.mark.parametrize("status", [401, 403])
async def test_who_may_not(start: Any, status: int) -> None:
    """It says what was asked, and the store's words."""
    store = await start(FakeStore("9.0.0"))
    store.answers["PUT", "/_component.*"] = refusing(status, {"type": "security_exception", "reason": "action is unauthorized for [u]"})
    with pytest.raises(ConfigError, match=r"PUT /_component_template/cisco-esa@settings: not allowed: 40. .*unauthorized for \[u\]"):
        await apply("elasticsearch", store)


async def test_a_store_that_refuses_something(start: Any) -> None:
    """An error that nobody foresaw is told with the store's words."""
    store = await start(FakeStore("9.0.0"))
    store.answers["PUT", "/_index_template.*"] = refusing(400, {"type": "illegal_argument_exception", "reason": "patterns collide"})
    with pytest.raises(TransientError, match="patterns collide"):
        await apply("elasticsearch", store)


async def test_streams_that_exist_are_told(start: Any) -> None:
    """Templates hold for the next backing index."""
    store = await start(FakeStore("9.0.0"))
    names = {"data_streams": [{"name": "logs-cisco_esa.line-b"}, {"name": "logs-cisco_esa.line-a", "generation": 3}]}
    store.answers["GET", "/_data_stream/.*"] = lambda _: web.json_response(names)
    told = await apply("elasticsearch", store)
    assert told.done[-1].endswith("at their next rollover: logs-cisco_esa.line-a, logs-cisco_esa.line-b")


@pytest.mark.parametrize(
    ("access", "header"),
    [
        (Access(api_key=Secret("abc=")), "ApiKey abc="),
        (Access(username="Aladdin", password=Secret("open sesame")), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (Access(), None),
    ],
)
async def test_who_we_are(start: Any, access: Access, header: str | None) -> None:
    """With every request."""
    store = await start(FakeStore("9.0.0"))
    await apply("elasticsearch", store, access)
    assert {headers.get("Authorization") for headers in store.seen} == {header}


@pytest.mark.parametrize("url", ["localhost:9200", "ftp://x", "http://user:secret@x", "http://x/?a=b"])
def test_an_address_that_is_none(url: str) -> None:
    """Told before anything is asked; secrets do not belong into it."""
    with pytest.raises(ConfigError, match="expected http://HOST:PORT"):
        applied("opensearch", url, Wanted(), Access())


def test_tls_options_want_https() -> None:
    """A certificate of ours is never left out silently."""
    with pytest.raises(ConfigError, match="so expected https"):
        applied("opensearch", "http://x:1", Wanted(), Access(tls=ClientTls()))


# -- the command -----------------------------------------------------------------------------------------------------------------
def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    from esa_tls.cli import main

    with pytest.raises(SystemExit) as stop:
        main(["templates", *arguments])
    told = capsys.readouterr()
    return int(stop.value.code or 0), told.out, told.err


async def test_the_command_applies(start: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 0; where a part is missing 1, and the words are on standard error. Secrets come from a file or the environment."""
    store = await start(FakeStore("2.19.0", "opensearch"))
    password = tmp_path / "password"
    password.write_text("p\n")
    code, out, err = await asyncio.to_thread(
        called, capsys, "opensearch", "--apply", store.url, "--user", "u", "--password-file", str(password)
    )
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "OpenSearch 2.19.0"
    assert store.seen[-1]["Authorization"] == "Basic dTpw"

    store.answers["PUT", ".*_ism.*"] = refusing(400, "no handler found for uri")
    monkeypatch.setenv("ESA_TLS_API_KEY", "k")
    code, out, err = await asyncio.to_thread(called, capsys, "opensearch", "--apply", store.url)
    assert code == 1
    assert err.startswith("esa-tls: this store has no index state management (ISM)")
    assert store.seen[-1]["Authorization"] == "ApiKey k"


def test_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON without --apply; a wrong wish is exit 2."""
    code, out, _ = called(capsys, "elasticsearch", "--retention-days", "7", "--lifecycle", "data-stream")
    assert code == 0
    assert '"data_retention": "7d"' in out
    assert json.loads(out)
    assert called(capsys, "elasticsearch", "--lifecycle", "ism")[0] == 2
    for login in (("--user", "u", "--api-key-file", "/dev/null"), ("--user", "u"), ("--password-file", "/dev/null")):
        assert called(capsys, "elasticsearch", "--apply", "http://x:1", *login)[0] == 2


def test_every_wish_is_an_option() -> None:
    """`Wanted` and the command agree."""
    options = {param.name for param in cli.commands["templates"].params}
    assert set(Wanted.__struct_fields__) <= options
