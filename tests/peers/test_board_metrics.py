"""The dashboard of the sidecar's own metrics, asked of a real Prometheus that scrapes a real sidecar."""

from __future__ import annotations

import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.boards import as_dsl
from tests.e2e.sidecar import Sidecar, Sidecars, wait_for, write_config
from tests.e2e.test_run import deliver, simulated
from tests.peers.programs import Programs, free_port

pytestmark = pytest.mark.timeout(120, func_only=True)  # everything is started, and scraped for some seconds, before

WITHIN_S = 60.0
"""Prometheus begins to scrape 6 s after it is ready."""

VARIABLES = {"$job": ".+", "$instance": ".+", "$__rate_interval": "1m", "$__range": "5m"}


class Scraped:
    """A sidecar that took lines twice, and the Prometheus that scraped it before, between and after."""

    def __init__(self, sidecar: Sidecar, url: str) -> None:
        self.url = url
        self.page = sidecar.get("/metrics")[1]
        self.names = set(re.findall(r"^([a-z_]+?)(?:\{| )", self.page, re.MULTILINE))

    def ask(self, path: str, **parameters: str) -> Any:
        """What its query API answers."""
        return ask(self.url, path, **parameters)


def ask(url: str, path: str, **parameters: str) -> Any:
    """What the query API of a Prometheus answers."""
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
        return msgspec.json.decode(answer.read())["data"]


@pytest.fixture(scope="module")
def scraped(prometheus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Both, with what they know."""
    folder = tmp_path_factory.mktemp("metrics")
    programs, sidecars = Programs(), Sidecars()
    try:
        sidecar = sidecars.start(write_config(folder))
        lines = simulated(messages=200)
        deliver(sidecar, lines[: len(lines) // 2])
        scrapes = [{"job_name": "esa-tls", "static_configs": [{"targets": [f"127.0.0.1:{sidecar.ports['web']}"]}]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": scrapes}))
        port = free_port()
        flags = (f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}")
        running = programs.start(prometheus, *flags, f"--web.listen-address=127.0.0.1:{port}")
        running.until_said("Server is ready to receive web requests")
        url = f"http://127.0.0.1:{port}"

        def taken() -> float:
            found = ask(url, "query", query="sum(esa_tls_lines_total)")["result"]
            return float(found[0]["value"][1]) if found else 0.0

        wait_for("it was scraped", lambda: taken() > 0, within_s=WITHIN_S, every_s=0.2)
        first = taken()
        deliver(sidecar, lines[len(lines) // 2 :])
        wait_for("it was scraped again", lambda: taken() > first, within_s=WITHIN_S, every_s=0.2)
        yield Scraped(sidecar, url)
        assert running.end() == 0
    finally:
        programs.end()
        sidecars.end()


def queries() -> list[tuple[str, str]]:
    """(panel, expression) of the committed dashboard, its variables replaced as Grafana replaces them."""
    found = [(panel["title"], target["expr"]) for panel in as_dsl.grafana_panels("grafana-sidecar.json") for target in panel["targets"]]
    for name, value in VARIABLES.items():
        found = [(panel, text.replace(name, value)) for panel, text in found]
    return found


@pytest.mark.parametrize(("panel", "expression"), queries())
def test_every_query_of_the_dashboard_is_answered(panel: str, expression: str, scraped: Scraped) -> None:
    """Prometheus takes it, and where the sidecar tells of its metrics it has an answer, with a number."""
    answer = scraped.ask("query", query=expression)
    used = set(re.findall(r"\besa_tls_\w+", expression))

    assert used, panel
    if used <= scraped.names:
        assert answer["result"], expression
        assert all(len(series["value"]) == 2 for series in answer["result"])


def test_most_panels_have_something_to_show(scraped: Scraped) -> None:
    """Lines, records, sinks, journal and process are told of by a sidecar that did nothing but work: more than half of the panels."""
    shown = {panel for panel, expression in queries() if scraped.ask("query", query=expression)["result"]}

    assert {"Lines taken", "Records made", "Records sent", "Time of a commit", "Journal", "Processor and memory", "Sidecars up"} <= shown
    assert len(shown) > len({panel for panel, _ in queries()}) / 2


def test_rates_and_shares_are_numbers(scraped: Scraped) -> None:
    """Lines came in while it was scraped: their rate is above zero; the share of unrecognised ones is one."""
    by_panel = {panel: expression for panel, expression in queries() if panel in ("Lines a second", "Share not recognised")}
    (rate,) = scraped.ask("query", query=by_panel["Lines a second"])["result"]
    (share,) = scraped.ask("query", query=by_panel["Share not recognised"])["result"]

    assert float(rate["value"][1]) > 0
    assert 0 <= float(share["value"][1]) < 1


def test_the_variables_have_values(scraped: Scraped) -> None:
    """The metric that the choices of job and sidecar are made from is there, with both labels."""
    (build,) = scraped.ask("query", query="esa_tls_build")["result"]

    assert build["metric"].items() >= {"job": "esa-tls"}.items()
    assert build["metric"]["instance"].startswith("127.0.0.1:")
