"""Converts the Sigma rules of deploy/rules. Run by the Python of the environment with the Sigma tools (tests/peers/sigma), not by ours.

Writes one JSON object to standard output: language -> rule -> `{"query": ...}`, or `{"cannot": why that language has no such query}`.
make_rules.py calls it and keeps the queries.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from sigma.backends.elasticsearch import EqlBackend, ESQLBackend, LuceneBackend
from sigma.backends.opensearch import OpensearchLuceneBackend
from sigma.backends.splunk import SplunkBackend
from sigma.backends.victorialogs import VictoriaLogsBackend
from sigma.collection import SigmaCollection
from sigma.exceptions import SigmaError
from sigma.processing.resolver import ProcessingPipelineResolver

LANGUAGES = {
    "lucene": (LuceneBackend, ("elasticsearch",)),
    "eql": (EqlBackend, ("elasticsearch", "eql")),
    "esql": (ESQLBackend, ("elasticsearch", "esql")),
    "opensearch": (OpensearchLuceneBackend, ("elasticsearch",)),
    "logsql": (VictoriaLogsBackend, ("victorialogs",)),
    "splunk": (SplunkBackend, ("splunk",)),
}
"""Folder of the converted queries -> what converts, and by which pipelines behind that of the lists."""


def parts(path: Path) -> Iterator[tuple[str, list[dict[str, object]]]]:
    """The rules of a file by name, each with all that its conversion needs: a correlation needs the rules it counts."""
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    for document in documents:
        yield document["name"], documents if "correlation" in document else [document]


def converted(rules: Path, pipelines: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Language -> name of a rule -> its query, or why there is none."""
    resolver = ProcessingPipelineResolver()
    found: dict[str, dict[str, dict[str, str]]] = {}
    for language, (backend, names) in LANGUAGES.items():
        files = [str(pipelines / f"{name}.yml") for name in ("lists", *names)]
        queries = found[language] = {}
        for path in sorted(rules.glob("*.yml")):
            for name, documents in parts(path):
                rule_set = SigmaCollection.from_dicts(documents)  # a conversion changes it
                try:
                    by = backend(resolver.resolve(files))
                    by.convert(rule_set)
                    (query,) = rule_set[name].get_conversion_result()
                except (SigmaError, NotImplementedError) as error:
                    queries[name] = {"cannot": str(error)}
                else:
                    queries[name] = {"query": query}
    return found


if __name__ == "__main__":
    json.dump(converted(Path(sys.argv[1]), Path(sys.argv[2])), sys.stdout)
