"""Three policies, a deterministic engine and named models to route between."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_archroute import ArchRouterChatModel, Route, RunnableRouter
from tests.engines import KeywordEngine
from tests.langchain.fakes import SECRET, FakeModel
from tests.records import Records

WORDS = {"code": ["function", "bug", "python"], "images": ["picture", "photo"], "trips": ["flight", "hotel"]}


@pytest.fixture
def engine() -> KeywordEngine:
    return KeywordEngine(WORDS)


@pytest.fixture
def models() -> dict[str, FakeModel]:
    return {name: FakeModel(label=name, api_key=SECRET) for name in ("coder", "painter", "guide", "generalist")}


@pytest.fixture
def routes(models: dict[str, FakeModel]) -> list[Route]:
    return [
        Route("code", "Writing and mending programs", target=models["coder"]),
        Route("images", "Changing pictures", target=models["painter"]),
        Route("trips", "Planning trips", target=models["guide"]),
    ]


@pytest.fixture
def arguments(routes: list[Route], models: dict[str, FakeModel], engine: KeywordEngine) -> dict[str, Any]:
    """What every router of the package is built from."""
    return {"routes": routes, "default": models["generalist"], "model": engine}


@pytest.fixture
def strict(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same, where a target's failure is raised."""
    routes = [Route(route.policy, target=route.target, on_failure="raise") for route in arguments["routes"]]
    return arguments | {"routes": routes}


@pytest.fixture
def router(arguments: dict[str, Any]) -> RunnableRouter:
    return RunnableRouter(**arguments)


@pytest.fixture
def model(arguments: dict[str, Any]) -> ArchRouterChatModel:
    return ArchRouterChatModel(**arguments)


@pytest.fixture
def records() -> Records:
    """An observer of a router's dispatch."""
    return Records()


@pytest.fixture
def own() -> FakeModel:
    """The model an agent is made with."""
    return FakeModel(label="own")
