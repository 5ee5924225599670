from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from esa_tls.core.fields import FIELDS
from esa_tls.core.records import KINDS
from esa_tls.errors import ConfigError
from esa_tls.templates import STORES, Wanted, printed
from esa_tls.wire.constants import CONSTANTS, constants_of

PRODUCTS = ("elasticsearch", "opensearch")


def requests(product: str, **wanted: Any) -> dict[str, dict[str, Any]]:
    """What is printed, by request."""
    text = printed(product, Wanted(**wanted))
    assert text.endswith("}\n")
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found


def settings(product: str, **wanted: Any) -> dict[str, Any]:
    """Of every index."""
    found: dict[str, Any] = requests(product, **wanted)["PUT /_component_template/cisco-esa@settings"]["template"]["settings"]["index"]
    return found


def leaves(properties: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, mapping) of every field, nested lists too."""
    for name, mapping in properties.items():
        if "type" in mapping:
            yield prefix + name, {key: value for key, value in mapping.items() if key != "properties"}
        yield from leaves(mapping.get("properties", {}), f"{prefix}{name}.")


def mapped(product: str, kind: str) -> dict[str, dict[str, Any]]:
    """Mapping by path of all that an index of this kind is composed of."""
    found: dict[str, dict[str, Any]] = {}
    every = requests(product)
    for name in every[f"PUT /_index_template/logs-cisco_esa.{kind}"]["composed_of"]:
        template = every[f"PUT /_component_template/{name}"]["template"]
        for path, mapping in leaves(template.get("mappings", {}).get("properties", {})):
            assert path not in found
            found[path] = mapping
    return found


MAPPINGS = {
    "keyword": {"type": "keyword", "ignore_above": 1024},
    "text": {"type": "keyword", "index": False, "doc_values": False},
    "long": {"type": "long"},
    "float": {"type": "float"},
    "boolean": {"type": "boolean"},
    "date": {"type": "date"},
    "ip": {"type": "ip"},
    "nested": {"type": "nested"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", PRODUCTS)
def test_every_field_of_a_kind_is_mapped_and_nothing_else(product: str, kind: str) -> None:
    """The mapping is the table of fields and the constants: each with its type, none twice, none that nobody writes."""
    expected = {field.path: MAPPINGS[field.type] for field in FIELDS if kind in field.kinds}
    for path, value in constants_of(kind).items():
        assert path not in expected
        expected[path] = {"type": "constant_keyword", "value": str(value)}
    expected |= {
        "data_stream.type": {"type": "constant_keyword", "value": "logs"},
        "data_stream.dataset": {"type": "constant_keyword", "value": f"cisco_esa.{kind}"},
        "data_stream.namespace": MAPPINGS["keyword"],
        "labels": {"type": "object", "dynamic": True},
    }
    assert mapped(product, kind) == expected


def test_the_constants_are_those_of_the_contract() -> None:
    """What stands on no record stands here, once."""
    assert set(CONSTANTS) == {
        "event.kind",
        "event.module",
        "observer.vendor",
        "observer.product",
        "observer.type",
        "network.transport",
        "network.protocol",
        "ecs.version",
        "cisco_esa.schema_version",
    }
    assert constants_of("delivery")["event.dataset"] == "cisco_esa.delivery"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", PRODUCTS)
def test_an_index_template_is_for_the_kind_s_data_streams(product: str, kind: str) -> None:
    """Above what is built in, narrower than it, a data stream, and the administrator's own part wins."""
    template = requests(product)[f"PUT /_index_template/logs-cisco_esa.{kind}"]
    assert template["index_patterns"] == [f"logs-cisco_esa.{kind}-*"]
    assert template["data_stream"] == {}
    assert template["priority"] == 250
    assert template["composed_of"][-1] == "cisco-esa@custom"
    assert "template" not in template


@pytest.mark.parametrize("product", PRODUCTS)
def test_parts_come_before_what_is_made_of_them(product: str) -> None:
    """In the order in which they are printed they can be put in by hand."""
    order = list(requests(product))
    first_template = next(n for n, request in enumerate(order) if "/_index_template/" in request)
    assert all("/_index_template/" in request for request in order[first_template:])
    assert "policies" in order[0] or "_ilm" in order[0]


def test_fields_that_nobody_knows_are_kept_and_not_indexed() -> None:
    """Nothing is guessed, but for labels, which are keywords."""
    mappings = requests("opensearch")["PUT /_component_template/cisco-esa@mappings"]["template"]["mappings"]
    assert mappings["dynamic"] is False
    assert mappings["date_detection"] is False
    [labels] = mappings["dynamic_templates"]
    assert labels["labels"]["path_match"] == "labels.*"


@pytest.mark.parametrize(
    ("product", "version", "mode"),
    [
        ("elasticsearch", None, "logsdb"),
        ("elasticsearch", "9.1.3", "logsdb"),
        ("elasticsearch", "8.17", "logsdb"),
        ("elasticsearch", "8.16.2", None),
        ("elasticsearch", "8", None),
        ("opensearch", None, None),
        ("opensearch", "2.19.6", None),
    ],
)
def test_the_index_mode(product: str, version: str | None, mode: str | None) -> None:
    """`logsdb` where it is generally available."""
    assert settings(product, store_version=version).get("mode") == mode


def test_shards_and_replicas_are_the_store_s_unless_said() -> None:
    """Nothing is set that nobody asked for."""
    assert set(settings("opensearch")) == {"codec"}
    assert settings("opensearch", shards=3, replicas=0) == {"codec": "best_compression", "number_of_shards": 3, "number_of_replicas": 0}


# -- how long data is kept -------------------------------------------------------------------------------------------------------
def test_ilm_deletes_after_the_days_wanted() -> None:
    """Counted from the rollover on, which comes at least monthly; the settings name the policy."""
    policy = requests("elasticsearch", retention_days=200)["PUT /_ilm/policy/cisco-esa"]["policy"]["phases"]
    assert policy["hot"]["actions"]["rollover"] == {"max_age": "30d", "max_primary_shard_size": "50gb"}
    assert policy["delete"] == {"min_age": "200d", "actions": {"delete": {}}}
    assert settings("elasticsearch")["lifecycle"] == {"name": "cisco-esa"}


def test_ism_deletes_after_the_days_wanted_and_the_time_to_the_rollover() -> None:
    """Counted from the index's creation on, so that the newest record in it is kept as long as is wanted; by the stream's name."""
    policy = requests("opensearch", retention_days=60)["PUT /_plugins/_ism/policies/cisco-esa"]["policy"]
    hot, delete = policy["states"]
    assert hot["actions"] == [{"rollover": {"min_index_age": "20d", "min_primary_shard_size": "50gb"}}]
    assert hot["transitions"] == [{"state_name": "delete", "conditions": {"min_index_age": "80d"}}]
    assert delete["actions"] == [{"delete": {}}]
    assert policy["ism_template"] == [{"index_patterns": ["logs-cisco_esa.*"], "priority": 250}]
    assert policy["default_state"] == "hot"


@pytest.mark.parametrize(("days", "fresh"), [(1, "1d"), (3, "1d"), (9, "3d"), (90, "30d"), (3650, "30d")])
def test_rollovers_come_at_least_three_times(days: int, fresh: str) -> None:
    """What is deleted is a whole index, so it must not hold most of what is kept."""
    policy = requests("elasticsearch", retention_days=days)["PUT /_ilm/policy/cisco-esa"]["policy"]["phases"]
    assert policy["hot"]["actions"]["rollover"]["max_age"] == fresh


def test_the_data_stream_s_own_lifecycle() -> None:
    """Instead of a policy: a retention in the template, as serverless projects want it."""
    every = requests("elasticsearch", lifecycle="data-stream", retention_days=14)
    assert not any("_ilm" in request for request in every)
    template = every["PUT /_component_template/cisco-esa@settings"]["template"]
    assert template["lifecycle"] == {"data_retention": "14d"}
    assert "lifecycle" not in template["settings"]["index"]


@pytest.mark.parametrize("product", PRODUCTS)
def test_without_a_lifecycle_nothing_speaks_of_one(product: str) -> None:
    """`none` leaves deleting to the administrator."""
    assert "lifecycle" not in printed(product, Wanted(lifecycle="none"))
    assert "policies" not in printed(product, Wanted(lifecycle="none"))


@pytest.mark.parametrize(
    ("product", "wanted", "words"),
    [
        ("opensearch", Wanted(lifecycle="ilm"), "opensearch has no lifecycle 'ilm'; known are ism, none"),
        ("elasticsearch", Wanted(lifecycle="ism"), "elasticsearch has no lifecycle 'ism'; known are ilm, data-stream, none"),
        ("elasticsearch", Wanted(store_version="7.17"), "elasticsearch 7.17 is too old: 8.0 is the oldest"),
        ("opensearch", Wanted(store_version="2.13"), "opensearch 2.13 is too old: 2.14 is the oldest"),
        ("opensearch", Wanted(store_version="new"), "'new' is no version such as 8.17"),
        ("mongodb", Wanted(), f"there is no store 'mongodb'; known are {', '.join(STORES)}"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled(product: str, wanted: Wanted, words: str) -> None:
    """One sentence says what is wrong and what there is."""
    with pytest.raises(ConfigError) as caught:
        printed(product, wanted)
    assert words in str(caught.value)
