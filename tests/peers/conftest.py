"""Tests against programs we did not write. Each peer is a session's fixture; `peer(name, version)` puts it into the list at the end."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.sidecar import Sidecars
from tests.peers import building, listing
from tests.peers.listing import missing, peer
from tests.peers.programs import Programs
from tests.peers.querying import VictoriaLogs
from tests.peers.searching import OpenSearch
from tests.peers.streaming import Kafka

__all__ = ["Look", "missing", "peer", "pytest_configure"]

TOOL_TIMEOUT_S = 90.0


def pytest_configure(config: pytest.Config) -> None:
    """Have the list printed, also when only tests of this folder run."""
    if not config.pluginmanager.has_plugin(listing.PLUGIN):
        config.pluginmanager.register(listing, listing.PLUGIN)


@pytest.fixture
def programs() -> Iterator[Programs]:
    """Starts programs of others."""
    started = Programs()
    yield started
    started.end()


@pytest.fixture
def sidecars() -> Iterator[Sidecars]:
    """Starts ours."""
    started = Sidecars()
    yield started
    started.end()


@pytest.fixture(scope="session")
def collector() -> Path:
    """The OpenTelemetry Collector."""
    made = building.built(building.COLLECTOR, listing.COLLECTOR)
    core, contrib = (
        made.versions[path]
        for path in (
            "go.opentelemetry.io/collector/otelcol",
            "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/filelogreceiver",
        )
    )
    peer(listing.COLLECTOR, f"{core}, contrib {contrib}")
    return made.folder / "collector"


@pytest.fixture(scope="session")
def fluent_logger_go() -> Path:
    """The program with a client made of fluent-logger-golang."""
    made = building.built(building.GO_FORWARD, listing.FLUENT_LOGGER_GO)
    peer(listing.FLUENT_LOGGER_GO, made.versions["github.com/fluent/fluent-logger-golang"])
    return made.folder / "logger"


@pytest.fixture(scope="session")
def fluent_forward_go() -> Path:
    """The program with a client (`send`) and a server (`serve`) made of IBM's fluent-forward-go."""
    made = building.built(building.GO_FORWARD, listing.FLUENT_FORWARD_GO)
    peer(listing.FLUENT_FORWARD_GO, made.versions["github.com/IBM/fluent-forward-go"])
    return made.folder / "ibm"


@pytest.fixture(scope="session")
def fluent_logger_node() -> Path:
    """`node_modules` with @fluent-org/logger."""
    made = building.built(building.NODE, listing.FLUENT_LOGGER_NODE)
    node = listing.version_of("node", "--version")
    peer(listing.FLUENT_LOGGER_NODE, f"{made.versions['@fluent-org/logger']}, node {node}")
    return made.folder / "node_modules"


@pytest.fixture(scope="session")
def grpcurl() -> Path:
    """The program grpcurl."""
    made = building.built(building.GRPCURL, listing.GRPCURL)
    peer(listing.GRPCURL, made.versions["github.com/fullstorydev/grpcurl"])
    return made.folder / "grpcurl"


@pytest.fixture(scope="session")
def opensearch_built() -> building.Built:
    """What an `OpenSearch` of a test's own is started from."""
    made = building.built(building.OPENSEARCH, listing.OPENSEARCH)
    peer(listing.OPENSEARCH, made.versions["opensearch"])
    return made


@pytest.fixture(scope="session")
def opensearch(opensearch_built: building.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearch]:
    """A node that all tests of this run share: each takes names of its own (a data stream's namespace), and nobody ends it."""
    node = OpenSearch(opensearch_built, tmp_path_factory.mktemp("opensearch"))
    try:
        yield node.start()
        node.end()
    finally:
        node.make_sure_it_is_gone()


@pytest.fixture(scope="session")
def opensearch_3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearch]:
    """The same of OpenSearch 3, where there is a Java for it."""
    made = building.built(building.OPENSEARCH_3, listing.OPENSEARCH_3)
    peer(listing.OPENSEARCH_3, made.versions["opensearch"])
    node = OpenSearch(made, tmp_path_factory.mktemp("opensearch3"), java=building.OPENSEARCH_3.java)
    try:
        yield node.start()
        node.end()
    finally:
        node.make_sure_it_is_gone()


@pytest.fixture(params=["opensearch", "opensearch_3"])
def either_opensearch(request: pytest.FixtureRequest) -> OpenSearch:
    """One after the other: 2 and 3."""
    node: OpenSearch = request.getfixturevalue(request.param)
    return node


@pytest.fixture
def opensearch_node(opensearch_built: building.Built, tmp_path: Path) -> Iterator[Callable[..., OpenSearch]]:
    """Makes nodes of a test's own, not started yet, with settings (`name=value`): to be killed, overloaded, started again."""
    nodes: list[OpenSearch] = []

    def make(*settings: str) -> OpenSearch:
        nodes.append(OpenSearch(opensearch_built, tmp_path / f"opensearch-{len(nodes)}", *settings))
        return nodes[-1]

    yield make
    for node in nodes:
        node.make_sure_it_is_gone()


@pytest.fixture(scope="session")
def victoria_logs_program() -> Path:
    """The program that a `VictoriaLogs` of a test's own is started from."""
    made = building.built(building.VICTORIA_LOGS, listing.VICTORIA_LOGS)
    peer(listing.VICTORIA_LOGS, made.versions["github.com/VictoriaMetrics/VictoriaLogs"])
    return made.folder / "victoria-logs"


@pytest.fixture
def victoria_logs_node(victoria_logs_program: Path, tmp_path: Path) -> Iterator[Callable[..., VictoriaLogs]]:
    """Makes stores of a test's own, not started yet, with flags: to be ended and started again, full, or with a password."""
    nodes: list[VictoriaLogs] = []

    def make(*flags: str) -> VictoriaLogs:
        nodes.append(VictoriaLogs(victoria_logs_program, tmp_path / f"victoria-logs-{len(nodes)}", *flags))
        return nodes[-1]

    yield make
    for node in nodes:
        node.make_sure_it_is_gone()


@pytest.fixture
def victoria_logs(victoria_logs_node: Callable[..., VictoriaLogs]) -> VictoriaLogs:
    """An empty store that runs; it starts in a tenth of a second, so that every test has its own."""
    return victoria_logs_node().start()


@pytest.fixture(scope="session")
def sigma_python() -> Path:
    """The Python that has the Sigma tools; `-m sigma.cli.main` is their command line."""
    made = building.built(building.SIGMA, listing.SIGMA)
    peer(listing.SIGMA, f"{made.versions['sigma-cli']}, {made.versions['pysigma']}")
    return made.folder / "bin" / "python"


@pytest.fixture(scope="session")
def logql_modules() -> Path:
    """`node_modules` with the grammar of LogQL."""
    made = building.built(building.LOGQL, listing.LOGQL)
    peer(listing.LOGQL, made.versions["@grafana/lezer-logql"])
    return made.folder / "node_modules"


Look = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def look(logql_modules: Path) -> Look:
    """What the grammar of LogQL finds in queries: errors, and the names in them."""

    def ask(*queries: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            ("node", Path(__file__).parent / "logql" / "check.js"),
            input=json.dumps(queries),
            env={**os.environ, "NODE_PATH": str(logql_modules)},
            capture_output=True,
            text=True,
            timeout=TOOL_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    return ask


@pytest.fixture(scope="session")
def schema_modules() -> Path:
    """`node_modules` with Grafana's schema and the compiler of TypeScript."""
    made = building.built(building.SCHEMAS, listing.GRAFANA_SCHEMA)
    peer(listing.GRAFANA_SCHEMA, f"{made.versions['@grafana/schema']}, typescript {made.versions['typescript']}")
    return made.folder / "node_modules"


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The program promtool."""
    program = listing.prometheus("promtool")
    if program is None:
        missing(listing.PROMTOOL, why="it cannot be had by apt-get as root")
    peer(listing.PROMTOOL, listing.version_of(program, "--version").split()[2])
    return program


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """The program prometheus."""
    program = listing.prometheus("prometheus")
    if program is None:
        missing(listing.PROMETHEUS, why="it cannot be had by apt-get as root")
    peer(listing.PROMETHEUS, listing.version_of(program, "--version").split()[2])
    return program


@pytest.fixture(scope="session")
def kafka_built() -> building.Built:
    """What a `Kafka` of a test's own is started from."""
    made = building.built(building.KAFKA, listing.KAFKA)
    peer(listing.KAFKA, made.versions["kafka_2.13"])
    return made


@pytest.fixture(scope="session")
def kafka(kafka_built: building.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A node that all tests of this run share: each takes topics of its own, and nobody ends it."""
    node = Kafka(kafka_built, tmp_path_factory.mktemp("kafka"))
    try:
        yield node.start()
        node.end()
    finally:
        node.make_sure_it_is_gone()


@pytest.fixture
def kafka_node(kafka_built: building.Built, tmp_path: Path) -> Iterator[Callable[..., Kafka]]:
    """Makes nodes of a test's own, not started yet: to be killed, started again, with listeners and settings."""
    nodes: list[Kafka] = []

    def make(**options: Any) -> Kafka:
        nodes.append(Kafka(kafka_built, tmp_path / f"kafka-{len(nodes)}", **options))
        return nodes[-1]

    yield make
    for node in nodes:
        node.make_sure_it_is_gone()
