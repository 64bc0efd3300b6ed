"""Routers whose policy file changes while they serve."""

from __future__ import annotations

import functools
import threading
import time

import pytest

from archroute import ArchRouteError, SettingError
from langchain_archroute import ArchRouterChatModel, ArchRouterMiddleware, Route, RunnableRouter, loading
from tests.langchain.fakes import FakeModel, NoTools
from tests.langchain.talk import answers, ask, bookings, who
from tests.langchain.test_sessions import agent_of

OLD = "policies:\n  - {name: code, description: Programs, model: coder}\ndefault: generalist\n"
NEW = OLD.replace("coder", "painter")
FULL = """
models:
  coder: {context: 10}
policies:
  - name: code
    description: Programs
    models: {coder: 0.5, painter: 0.5}
    fallbacks: [guide]
    shadows: [generalist]
    timeout: 5
    min_confidence: 0.2
    on_failure: raise
default: generalist
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "Reloaded", functools.partial(loading.Reloaded, every=0))
    path = tmp_path / "policies.yaml"
    path.write_text(OLD)
    return path


@pytest.mark.parametrize("kind", [RunnableRouter, ArchRouterChatModel, ArchRouterMiddleware])
def test_a_file_that_changes_is_followed_and_a_bad_one_is_not(file, models, engine, kind):
    router = kind.from_yaml(file, targets=models, model=engine, reload=True)

    def served():
        return who(router.invoke("a bug")) if kind is RunnableRouter else answers(ask(agent_of(router), "a bug"))[0][:5]

    assert served()[:5] == "coder"
    file.write_text(NEW)
    assert served()[:5] == "paint"
    file.write_text("policies: [")
    assert served()[:5] == "paint"
    with pytest.raises(ArchRouteError):
        router.reload()
    file.write_text(OLD)
    router.reload()
    assert served()[:5] == "coder"
    assert router.stats()["targets"]["coder"]["served"] == 2


def test_what_is_made_of_a_model_follows_the_file_too(file, models, engine):
    model = ArchRouterChatModel.from_yaml(file, targets=models, model=engine, reload=True)
    bound = model.bind_tools([bookings])
    sure, edge = RunnableRouter.from_yaml(file, targets=models, model=engine, reload=True), model.decider
    file.write_text(NEW.replace("code", "trips"))
    answer = bound.invoke("a flight and my bookings")
    assert answer.tool_calls
    assert answer.response_metadata["archroute"]["target"] == "painter"
    assert edge.invoke("a flight").route == sure.decider.invoke("a flight").route == "trips"
    assert model.stats()["turns"] == 1


def test_routes_that_take_no_tools_are_refused_by_what_needs_them(file, models, engine):
    targets = {**models, "painter": NoTools(label="painter")}
    model = ArchRouterChatModel.from_yaml(file, targets=targets, model=engine, reload=True)
    bound = model.bind_tools([bookings])
    file.write_text(NEW)
    assert [who(one.invoke("a bug")) for one in (model, bound, bound)] == ["painter", "coder", "coder"]


def test_models_that_stay_are_not_made_again(file, engine, monkeypatch):
    made = []
    monkeypatch.setattr(
        "langchain.chat_models.init_chat_model", lambda name: made.append(name) or FakeModel(label=name)
    )
    router = RunnableRouter.from_yaml(file, model=engine, reload=True)
    file.write_text(NEW)
    router.invoke("a bug")
    assert made == ["coder", "generalist", "painter"]


def test_no_turn_is_lost_while_the_file_changes(file, models, engine):
    router = RunnableRouter.from_yaml(file, targets=models, model=engine, reload=True)
    served, over = [], threading.Event()

    def ask_on():
        while not over.is_set():
            served.append(who(router.invoke("a bug")))

    threads = [threading.Thread(target=ask_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        file.write_text((NEW, OLD, "policies: [")[number % 3])
        served_before = len(served)
        while len(served) < served_before + 4:
            time.sleep(0.001)
    over.set()
    for thread in threads:
        thread.join()
    assert set(served) == {"coder", "painter"}
    assert router.stats()["outcomes"] == {"served": len(served)}


def test_all_of_a_route_may_stand_in_the_file(models, engine):
    router = RunnableRouter.from_yaml(FULL, targets=models, model=engine)
    (route,) = router.routes
    assert [model.name for model in router._table.members("code")] == ["coder", "painter", "guide"]
    assert (route.serving.timeout, route.serving.min_confidence, route.serving.on_failure) == (5, 0.2, "raise")
    router.change_shares("code", {"coder": 1.0})
    assert who(router.invoke("a bug")) == "coder"
    assert who(router.invoke("a bug " * 20)) == "guide"
    edges = [edge.data for edge in router.get_graph().edges if edge.data]
    assert edges == ["code", "code", "code, fallback", "other"]


class Watched(dict):
    """Targets that know in which thread each was looked up last, as happens when the file is read."""

    def __init__(self, targets):
        super().__init__(targets)
        self.readers = {}

    def __getitem__(self, name):
        self.readers[name] = threading.current_thread()
        return super().__getitem__(name)


@pytest.fixture
def watched(models):
    return Watched(models)


@pytest.mark.parametrize("kind", [RunnableRouter, ArchRouterChatModel, ArchRouterMiddleware])
async def test_a_coroutine_has_the_file_read_in_another_thread(file, watched, engine, kind):
    router = kind.from_yaml(file, targets=watched, model=engine, reload=True)
    file.write_text(NEW)
    if kind is ArchRouterMiddleware:
        served = answers(await agent_of(router).ainvoke({"messages": [("human", "a bug")]}))[0]
    else:
        served = (await router.ainvoke("a bug")).text
    assert served.startswith("painter")
    assert watched.readers["coder"] is threading.main_thread()
    assert watched.readers["painter"] is not threading.main_thread()


@pytest.mark.parametrize("call", ["ainvoke", "abatch"])
@pytest.mark.parametrize("kind", [RunnableRouter, ArchRouterChatModel, ArchRouterMiddleware])
async def test_so_has_a_decider_alone(file, watched, engine, kind, call):
    router = kind.from_yaml(file, targets=watched, model=engine, reload=True)
    kept = router.decider
    file.write_text(NEW.replace("code", "trips"))
    for decider in (kept, router.decider):
        found = await (decider.abatch(["a flight"]) if call == "abatch" else decider.ainvoke("a flight"))
        assert (found[0] if call == "abatch" else found).route == "trips"
    assert watched.readers["painter"] is not threading.main_thread()


def test_without_a_file_there_is_nothing_to_read_anew(router, models, engine):
    with pytest.raises(SettingError):
        router.reload()
    with pytest.raises(SettingError, match="file"):
        RunnableRouter.from_yaml(OLD, targets=models, model=engine, reload=True)
    agent = agent_of(
        ArchRouterMiddleware.from_yaml(OLD.replace("default: generalist\n", ""), targets=models, model=engine)
    )
    assert answers(ask(agent, "hm")) == ["own: hm"]
    assert Route("code", "Programs", target=models["coder"]).serving.timeout is None
