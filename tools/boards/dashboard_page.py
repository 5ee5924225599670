"""The page of the manual about dashboards: what there is, how it gets in, and what each panel asks."""

from __future__ import annotations

import re

from tools.boards import saved_objects
from tools.boards.kibana_query import kql_filter
from tools.boards.model import Query, Rows
from tools.boards.panels import MetricPanel, Panel, Source

_HEAD = """\
# Dashboards

<!-- Made from deploy/dashboards/source.yaml by `make dashboards`: do not edit. -->

In `deploy/dashboards/`, all made from one source, so that they agree:

| file | for | data |
| --- | --- | --- |
| `grafana-loki.json` | Grafana 11.6 or newer | records in Loki |
| `grafana-elasticsearch.json` | Grafana 11.6 or newer | records in Elasticsearch |
| `grafana-opensearch.json` | Grafana 11.6 or newer with the OpenSearch plugin | records in OpenSearch |
| `grafana-sidecar.json` | Grafana 11.6 or newer | the sidecar's own metrics in Prometheus |
| `kibana.ndjson` | Kibana 8.8 or newer | records in Elasticsearch |
| `opensearch-dashboards.ndjson` | OpenSearch Dashboards 2 or newer | records in OpenSearch |

The four dashboards of records have the same {records} panels. The period is chosen by the dashboard's own time range, the appliance by a
choice above the panels; the dashboard of the sidecar has choices of job and sidecar.

## Getting them in

**Grafana**: *Dashboards*, *New*, *Import*, and the file; or put the files where a provisioning file of Grafana's looks for dashboards. The
data source is chosen on the dashboard itself.

- For Elasticsearch and OpenSearch it needs the index `{index}` and the time field `@timestamp`. Grafana's own data source for Elasticsearch
  does not take OpenSearch: use the plugin `grafana-opensearch-datasource` there.
- For Loki nothing is to be set. Streams have the labels `service_name="esa-tls"`, `appliance` and `kind`, the rest is structured metadata.
- For Prometheus scrape `/metrics` of the sidecar: see [Metrics](metrics.md).

**Kibana**: *Stack Management*, *Saved Objects*, *Import*, and `kibana.ndjson`. It brings a data view over `{index}` along.

**OpenSearch Dashboards**: *Dashboards Management*, *Saved objects*, *Import*, and `opensearch-dashboards.ndjson`.

Data streams should have the mappings that `esa-tls templates` prints: without them text is not counted.

## How far they were proven

No Grafana, Kibana or OpenSearch Dashboards was at hand to look at them. Tests that run with every change do this instead:

- The queries of every panel are taken out of the files for Elasticsearch, OpenSearch and their dashboards, turned into requests as these
  programs do it, and run on OpenSearch with records of simulated mail: the numbers are those worked out from the records.
- The queries for Loki are read by Grafana's grammar of LogQL. The same questions in LogsQL are run on VictoriaLogs, with the same result.
- The queries for Prometheus are run on a Prometheus that scrapes a working sidecar, and name only metrics and labels that there are.
- Grafana's files are checked against its published schema (`@grafana/schema`): dashboard, variables, panels, options, queries.
- Saved objects are checked for the structure that their types have: what they need, what they refer to, and that it is there.

"""


def page(source: Source) -> str:
    """`docs/dashboards.md`. Raises SourceError."""
    lines = [_HEAD.format(records=len(source.records.panels), index=saved_objects.INDEX)]
    lines.append("## Panels over records\n")
    for section in source.records.sections:
        lines += [f"### {section.title}\n", "| panel | question | records | shown |", "| --- | --- | --- | --- |"]
        lines += [_record_row(panel) for panel in section.panels]
        lines.append("")
    lines.append("## Panels over the sidecar's metrics\n")
    for group in source.metrics.sections:
        lines += [f"### {group.title}\n" if group.title != "At first sight" else "### The sidecar at first sight\n"]
        lines += ["| panel | question | metrics |", "| --- | --- | --- |", *map(_metric_row, group.panels), ""]
    return "\n".join(lines)


def _record_row(panel: Panel) -> str:
    query = panel.query
    where = f" with `{kql_filter(query.where)}`" if query.where else ""
    return f"| {panel.title} | {panel.question} | {', '.join(query.kinds)}{where} | {_shown(panel, query)} |"


def _shown(panel: Panel, query: Query) -> str:
    if isinstance(query.answer, Rows):
        return f"the newest {query.answer.limit}"
    by = " and ".join(f"`{field.path}`" for field in query.answer.by)
    if query.answer.share is not None:
        return f"share with `{kql_filter(query.answer.share.where)}`"
    if not by:
        return "how many"
    return f"over time by {by}" if panel.over_time else f"the most frequent {by}"


def _metric_row(panel: MetricPanel) -> str:
    names = dict.fromkeys(name for query in panel.queries for name in re.findall(r"<([a-z][a-z_.]*?)(?:_bucket)?(?: [^>]*)?>", query.expr))
    return f"| {panel.title} | {panel.question} | {' '.join(f'`{name}`' for name in names)} |"
