"""Put the templates of `templates/elasticsearch.py` into a running store.

The store is asked what it is first: another product than was said is an error, and its version decides what it gets. The lifecycle policy
goes first, since the settings name it: where the store has none (no ILM, no ISM plug-in) the templates go in without it, and that is told.
"""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import msgspec

from esa_tls.config.parts import wrong_url
from esa_tls.errors import ConfigError, TransientError
from esa_tls.runtime.tls import client_contexts
from esa_tls.sinks.elasticsearch_nodes import MAX_BULK_RESPONSE_BYTES, Nodes, authorization
from esa_tls.sinks.http_client import HttpClient, Response
from esa_tls.templates.elasticsearch import Step, lifecycle_of, steps
from esa_tls.templates.wanted import Access, Applied, Wanted
from esa_tls.wire.elasticsearch import error_of

TIMEOUT_S = 60.0

_NAMES = {"elasticsearch": "Elasticsearch", "opensearch": "OpenSearch"}
_LIFECYCLE_NAMES = {"ilm": "index lifecycle management (ILM)", "ism": "index state management (ISM)"}


class _Version(msgspec.Struct):
    number: str = ""
    distribution: str = ""


class _Root(msgspec.Struct):
    """What `GET /` answers."""

    version: _Version = msgspec.field(default_factory=_Version)


class _Stream(msgspec.Struct):
    name: str


class _Streams(msgspec.Struct):
    data_streams: list[_Stream] = msgspec.field(default_factory=list)


class _Policy(msgspec.Struct):
    """What `GET` of an ISM policy answers, as far as a change of it has to name."""

    seq_no: int = msgspec.field(name="_seq_no")
    primary_term: int = msgspec.field(name="_primary_term")


def apply(product: str, url: str, wanted: Wanted, access: Access) -> Applied:
    """Put everything in. Raises ConfigError, or TransientError if the store cannot be reached or refuses something."""
    if reason := wrong_url(url, tls=False):
        raise ConfigError(f"templates: {reason}")
    if access.tls is not None and not url.startswith("https://"):
        raise ConfigError(f"templates: there are TLS options, so expected https://..., got {url!r}")
    steps(product, wanted)  # a wish that cannot be fulfilled is told before anything is sent
    return asyncio.run(_apply(product, url, wanted, access))


async def _apply(product: str, url: str, wanted: Wanted, access: Access) -> Applied:
    nodes = Nodes(
        [url],
        client=HttpClient(
            timeout_s=TIMEOUT_S,
            tls=None if access.tls is None else client_contexts(access.tls, owner="templates", counters=None).current,
            server_name=None if access.tls is None else access.tls.server_name,
            max_response_bytes=MAX_BULK_RESPONSE_BYTES,
        ),
        headers=authorization(
            api_key=None if access.api_key is None else access.api_key.reveal(),
            username=access.username,
            password=None if access.password is None else access.password.reveal(),
        ),
        gzip=False,
    )
    try:
        return await _apply_to(nodes, product, wanted)
    finally:
        await nodes.close()


async def _apply_to(nodes: Nodes, product: str, wanted: Wanted) -> Applied:
    said = await _version_of(nodes, product)
    if wanted.store_version is None:
        wanted = msgspec.structs.replace(wanted, store_version=said)
    applied = Applied([f"{_NAMES[product]} {said}"])
    lifecycle = lifecycle_of(product, wanted)
    todo = steps(product, wanted)
    for step in todo:
        if not step.lifecycle:
            continue
        refusal = await _put_policy(nodes, step)
        if refusal is None:
            applied.done.append(f"PUT {step.path}")
            continue
        applied.missing.append(
            f"this store has no {_LIFECYCLE_NAMES[lifecycle]}: nothing deletes old records. Say --lifecycle none if that is meant. "
            f"(It answered {refusal})"
        )
        todo = steps(product, msgspec.structs.replace(wanted, lifecycle="none"))
    for step in todo:
        if step.lifecycle:
            continue
        if step.keep and (await nodes.request("GET", _quoted(step.path))).status == 200:
            applied.done.append(f"kept {step.path}")
            continue
        _well(await _put(nodes, step.path, step), f"PUT {step.path}")
        applied.done.append(f"PUT {step.path}")
    applied.done += await _what_exists(nodes)
    return applied


async def _version_of(nodes: Nodes, product: str) -> str:
    """The store's version, if it is the product that was said."""
    response = await nodes.request("GET", "/")
    _well(response, "GET /")
    try:
        version = msgspec.json.decode(response.body, type=_Root).version
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{response.url}: this is neither Elasticsearch nor OpenSearch: {_told(response)}") from error
    if version.distribution == "opensearch":
        found = "opensearch"
    elif response.headers.get("x-elastic-product") == "Elasticsearch":
        found = "elasticsearch"
    else:
        raise ConfigError(f"{response.url}: this is neither Elasticsearch 8 or 9 nor OpenSearch: {_told(response)}")
    if found != product:
        raise ConfigError(f"{response.url}: this is {_NAMES[found]} {version.number}: say `esa-tls templates {found}`")
    return version.number


async def _put_policy(nodes: Nodes, step: Step) -> str | None:
    """Put the lifecycle policy in; what the store answered if it has no such thing."""
    response = await _put(nodes, step.path, step)
    if response.status == 409:  # ISM changes a policy only for who names the version that he knows
        there = await nodes.request("GET", _quoted(step.path))
        _well(there, f"GET {step.path}")
        known = msgspec.json.decode(there.body, type=_Policy)
        response = await _put(nodes, f"{step.path}?if_seq_no={known.seq_no}&if_primary_term={known.primary_term}", step)
    missing = response.status in (400, 404, 405, 410) and (
        b"no handler found" in response.body or b"serverless" in response.body or b"not available" in response.body
    )
    if missing:
        return _told(response)
    _well(response, f"PUT {step.path}")
    return None


async def _put(nodes: Nodes, path: str, step: Step) -> Response:
    return await nodes.request("PUT", _quoted(path), msgspec.json.encode(step.body))


async def _what_exists(nodes: Nodes) -> list[str]:
    """What to say of data streams that were there before."""
    response = await nodes.request("GET", "/_data_stream/logs-cisco_esa.*")
    if response.status != 200:
        return []
    found = msgspec.json.decode(response.body, type=_Streams).data_streams
    if not found:
        return []
    names = ", ".join(sorted(stream.name for stream in found))
    return [f"Data streams that are there already take this at their next rollover: {names}"]


def _quoted(path: str) -> str:
    return quote(path, safe="/?&=@._-*")


def _well(response: Response, what: str) -> None:
    """Raise unless the store did what it was asked."""
    if 200 <= response.status < 300:
        return
    if response.status in (401, 403):
        raise ConfigError(f"{response.url}: {what}: not allowed: {_told(response)}")
    raise TransientError(f"{response.url}: {what}: {_told(response)}")


def _told(response: Response) -> str:
    """What an answer says, for people."""
    return f"{response.status} {error_of(response.body)[1][:400]}".rstrip()
