"""OpenSearch as tests have it: what it took it keeps, over an end and over a kill."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.peers.searching import OpenSearch

pytestmark = pytest.mark.timeout(240, func_only=True)


def test_what_it_answered_for_it_keeps(opensearch_node: Callable[..., OpenSearch]) -> None:
    """Every acknowledged document is there after SIGKILL and after SIGTERM, on the same ports, in the same folder."""
    node = opensearch_node().start()
    for number, leave in enumerate((node.kill, node.end)):
        assert node.ask("PUT", f"/kept/_create/{number}", {"number": number})["result"] == "created"
        leave()
        node.start()
    assert {hit["_id"]: hit["_source"]["number"] for hit in node.documents("kept")} == {"0": 0, "1": 1}
    assert node.request("PUT", "/kept/_create/0", {}).status == 409
