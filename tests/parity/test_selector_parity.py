"""The same table through the third door: a LlamaIndex selector, where the models are choices."""

from __future__ import annotations

import pytest

from archroute import PolicySet
from archroute.conversation import text_of
from tests.parity.behaviours import TABLE, Behaviour

pytest.importorskip("llama_index.core")

from llama_index.core.tools.types import ToolMetadata

from llamaindex_archroute import ArchRouterSelector, ArchRouterSelectorResult

NAMES = ["tax", "travel", "flights", "default"]
CHOICES = [ToolMetadata("", name=name) for name in NAMES]


def select(behaviour: Behaviour) -> tuple[ArchRouterSelector, str]:
    *earlier, last = behaviour.messages if behaviour.messages[-1]["role"] == "user" else [*behaviour.messages, {}]
    arguments = behaviour.arguments()
    selector = ArchRouterSelector(
        "default",
        default_is_choice=False,
        policies=PolicySet.from_yaml(behaviour.file),
        history=earlier,
        window=arguments.pop("history", "all"),
        **arguments,
    )
    return selector, text_of(last.get("content", ""))


@pytest.mark.parametrize("behaviour", TABLE, ids=lambda behaviour: behaviour.name)
async def test_table(behaviour: Behaviour) -> None:
    selector, query = select(behaviour)
    for result in (selector.select(CHOICES, query), await selector.aselect(CHOICES, query)):
        assert isinstance(result, ArchRouterSelectorResult)
        assert f"{NAMES[result.ind]}-model" == behaviour.served
        assert (result.decision.route, result.decision.reason) == (behaviour.route, behaviour.reason)
