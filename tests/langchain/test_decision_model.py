"""ArchRouterDecisionModel: LangChain's decision protocol, where the installed langchain-core has it."""

from __future__ import annotations

import threading

import pytest

decisions = pytest.importorskip("langchain_core.decisions", reason="langchain-core before 1.8 has no decision protocol")

from langchain.agents import create_agent  # noqa: E402
from langchain.agents.middleware import ModelChoice, ModelRouterMiddleware  # noqa: E402
from langchain_core.decisions import Box, Choice, Noul, NoulCriteria, Score  # noqa: E402
from langchain_core.messages import AIMessage, HumanMessage  # noqa: E402
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler  # noqa: E402

from archroute import ConversationError, EngineError, SettingError  # noqa: E402
from langchain_archroute import ArchRouterDecisionModel  # noqa: E402
from tests.engines import FailingEngine, KeywordEngine  # noqa: E402
from tests.langchain.fakes import FakeModel  # noqa: E402

LABELS = {"code": "Writing and mending programs", "images": "Changing pictures", "trips": None}
TOPIC = Choice(instructions="What is it about?", criteria=LABELS)


@pytest.fixture
def model(engine) -> ArchRouterDecisionModel:
    return ArchRouterDecisionModel(model=engine)


def choice(model, state, question=TOPIC):
    return model.invoke({"state": state, "questions": {"q": question}}).choices["q"]


@pytest.mark.parametrize(
    "state",
    [
        "a photo",
        HumanMessage("a photo"),
        [HumanMessage("a photo")],
        [{"role": "user", "content": "a photo"}],
        {"messages": [HumanMessage("a photo")], "step": 3},
        {"ticket": "the photo is blurred", "priority": 2},
        ["a photo", 3],
    ],
)
def test_a_choice_over_any_state(model, state):
    answer = choice(model, state)
    assert answer.choice == "images"
    assert list(answer.probabilities) == list(LABELS)
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.confidence == answer.probabilities["images"]


def test_the_whole_conversation_is_read_in_the_users_window(engine, model):
    said = [HumanMessage("a photo"), AIMessage("done"), HumanMessage("again")]
    assert choice(model, said).choice == "images"
    other = Choice(instructions="?", criteria={**LABELS, "other": "Anything else"})
    assert choice(ArchRouterDecisionModel(model=engine, history="last_user"), said, other).choice == "other"


@pytest.mark.parametrize("label", ["other", "none_of_the_above", "Other"])
def test_a_label_for_nothing_fits_gets_the_models_own_answer(model, engine, label):
    answer = choice(model, "hm", Choice(instructions="?", criteria={**LABELS, label: "Anything else"}))
    assert answer.choice == label
    assert engine.calls[-1][0] == tuple(LABELS)


def test_without_such_a_label_the_others_share_all_probability(model, engine):
    answer = choice(model, "a bug in python and a photo")
    assert answer.probabilities["code"] == pytest.approx(answer.probabilities["images"] * 2, rel=0.05)
    assert sum(answer.probabilities.values()) == pytest.approx(1)


def test_a_model_sure_that_nothing_fits_prefers_no_label():
    class Sure(KeywordEngine):
        def _score(self, routes, conversation):
            scores = super()._score(routes, conversation)
            return type(scores)({**dict.fromkeys(scores.probabilities, 0.0), "other": 1.0}, 1.0, 1, False)

    answer = choice(ArchRouterDecisionModel(model=Sure({})), "hm")
    assert set(answer.probabilities.values()) == {1 / 3}


def test_labels_that_only_say_that_nothing_fits_need_no_pass(model, engine):
    assert choice(model, "hm", Choice(instructions="?", criteria={"other": None})).confidence == 1
    assert engine.calls == []


def test_several_questions_are_answered_together(model, engine):
    questions = {
        "topic": TOPIC,
        "again": TOPIC,
        "picture": Noul(instructions="?", criteria=NoulCriteria(true="Changing a photo", false="Something else")),
    }
    engine.words = {**engine.words, "yes": ["photo"], "no": ["flight"]}
    response = model.invoke({"state": "a photo", "questions": questions})
    assert response.choices["topic"] == response.choices["again"]
    assert response.nouls["picture"].noul > response.choices["topic"].probabilities["trips"]
    assert response.nouls["picture"].noul > 0.5
    assert response.model == "keywords"
    assert response.usage["input_tokens"] == 6
    assert len(engine.calls) == 2  # one a set of labels


@pytest.mark.parametrize(
    "question",
    [
        Noul(instructions="Is it urgent?"),
        Noul(instructions="Is it urgent?", criteria=NoulCriteria(true="Production is down")),
        Score(instructions="How angry?", criteria=["Calm", "Angry"]),
        Box(instructions="The cat"),
    ],
)
def test_what_the_model_cant_answer_honestly_is_refused_by_name(model, question):
    with pytest.raises(SettingError, match=f"'urgency'.*{type(question).__name__}"):
        model.invoke({"state": "help", "questions": {"urgency": question}})


def test_failures_are_the_callers(model):
    with pytest.raises(EngineError):
        choice(ArchRouterDecisionModel(model=FailingEngine()), "hm")
    with pytest.raises(ConversationError):
        choice(model, [AIMessage("no user spoke")])


async def test_it_leaves_the_event_loop_free_and_batches(model, engine):
    asked = {"state": "a bug", "questions": {"q": TOPIC}}
    assert (await model.ainvoke(asked)).choices["q"].choice == "code"
    assert threading.get_ident() not in engine.threads
    assert [response.choices["q"].choice for response in await model.abatch([asked] * 3)] == ["code"] * 3


def test_it_traces_as_a_model(model):
    collector = RunCollectorCallbackHandler()
    model.invoke({"state": "a bug", "questions": {"q": TOPIC}}, {"callbacks": [collector]})
    (run,) = collector.traced_runs
    assert (run.run_type, run.metadata["ls_provider"], run.metadata["ls_model_name"]) == (
        "llm",
        "archroute",
        "keywords",
    )


def test_langchains_own_router_middleware_works_with_it(model):
    targets = {name: FakeModel(label=name) for name in LABELS}
    choices = {name: ModelChoice(model=targets[name], criteria=LABELS[name] or "Planning trips") for name in LABELS}
    router = ModelRouterMiddleware(choices=choices, instructions="Choose the model.", classifier=model)
    agent = create_agent(FakeModel(label="own"), middleware=[router])
    state = agent.invoke({"messages": [("human", "a flight")]})
    assert state["messages"][-1].text == "trips: a flight"
    assert state["model_route"].choice == "trips"


@pytest.mark.parametrize("arguments", [{"model": 7}, {"history": 0}, {"default": 1}])
def test_arguments_that_are_wrong_are_refused(arguments, engine):
    with pytest.raises(SettingError):
        ArchRouterDecisionModel(**{"model": engine} | arguments)


def test_the_embedded_model_answers():
    model = ArchRouterDecisionModel(model="embedded")
    question = Choice(
        instructions="?", criteria={"tax": "Tax law and tax returns", "travel": "Planning trips, flights"}
    )
    assert choice(model, "Which flights go to Lisbon on Friday?", question).choice == "travel"
