"""Write `deploy/dashboards/` from its `source.yaml`, and the pages `docs/dashboards.md` and `docs/queries.md`: `make dashboards`.

A test fails when a file is not what this writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tools.boards import (
    dashboard_page,
    grafana,
    grafana_elastic,
    grafana_loki,
    grafana_prometheus,
    kibana,
    opensearch_dashboards,
    panels,
    questions,
    saved_objects,
)

ROOT = Path(__file__).parents[1]


def files() -> Mapping[str, str]:
    """Path -> text. Raises SourceError."""
    source = panels.source()
    return {
        "deploy/dashboards/grafana-loki.json": grafana.text(grafana_loki.built(source.records)),
        "deploy/dashboards/grafana-elasticsearch.json": grafana.text(grafana_elastic.built(source.records, "elasticsearch")),
        "deploy/dashboards/grafana-opensearch.json": grafana.text(grafana_elastic.built(source.records, "opensearch")),
        "deploy/dashboards/grafana-sidecar.json": grafana.text(grafana_prometheus.built(source.metrics)),
        "deploy/dashboards/kibana.ndjson": saved_objects.text(kibana.objects(source.records)),
        "deploy/dashboards/opensearch-dashboards.ndjson": saved_objects.text(opensearch_dashboards.objects(source.records)),
        "docs/dashboards.md": dashboard_page.page(source),
        "docs/queries.md": questions.page(questions.questions()),
    }


if __name__ == "__main__":
    for name, text in files().items():
        (ROOT / name).write_text(text, encoding="utf-8")
        print(name)
