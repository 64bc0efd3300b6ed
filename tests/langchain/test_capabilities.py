"""What the targets can do, a router between them can do: tools, schemas, agents."""

from __future__ import annotations

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage, trim_messages
from langchain_core.runnables import RunnableBinding
from pydantic import BaseModel

from archroute import SettingError
from langchain_archroute import ArchRouterChatModel, Route
from tests.langchain.fakes import SECRET, FakeModel, NoTools
from tests.langchain.talk import bookings


class Verdict(BaseModel):
    """A verdict."""

    text: str
    grade: int


def test_tools_are_bound_to_every_target(model, models):
    bound = model.bind_tools([bookings])
    assert isinstance(bound, RunnableBinding)
    called = bound.invoke("a flight, and my bookings")
    assert [(call["name"], call["args"]) for call in called.tool_calls] == [("bookings", {"count": 3})]
    assert called.response_metadata["archroute"]["route"] == "trips"
    assert bound.invoke("bookings of photos").tool_calls
    streamed = list(bound.stream("a flight, and my bookings"))
    whole = sum(streamed[1:], streamed[0])
    assert [call["args"] for call in whole.tool_calls] == [{"count": 3}]
    assert not models["guide"].invoke("bookings").tool_calls


def test_a_target_of_several_routes_is_bound_once(engine):
    bound = []

    class Counting(FakeModel):
        def bind_tools(self, tools, **kwargs):
            bound.append(self.label)
            return super().bind_tools(tools, **kwargs)

    one, two = Counting(label="one"), Counting(label="two")
    routes = [Route(name, name, target=target) for name, target in (("a", one), ("b", one), ("c", two))]
    ArchRouterChatModel(routes=routes, default=two, model=engine).bind_tools([bookings])
    assert bound == ["one", "two"]


def test_the_tool_choice_reaches_the_target(model, models):
    model.bind_tools([bookings], tool_choice="any", strict=True).invoke("a hotel")
    assert models["guide"].calls[0][1] | {"tools": None} == {"tools": None, "tool_choice": "any", "strict": True}


def test_a_tools_answer_goes_on_to_the_model_that_called(model):
    bound = model.bind_tools([bookings])
    asked = HumanMessage("my flight bookings")
    called = bound.invoke([asked])
    answer = bound.invoke([asked, called, ToolMessage("2 bookings", tool_call_id=called.tool_calls[0]["id"])])
    assert answer.text == "guide: 2 bookings"


def test_a_target_without_tools_is_named_at_once(arguments):
    routes = [*arguments["routes"], Route("law", "Law", target=NoTools(label="lawyer"))]
    with pytest.raises(SettingError, match="route 'law'") as refused:
        ArchRouterChatModel(**arguments | {"routes": routes}).bind_tools([bookings])
    assert SECRET not in str(refused.value)
    with pytest.raises(SettingError, match="the default"):
        ArchRouterChatModel(**arguments | {"default": str.upper}).bind_tools([bookings])


def test_fallbacks_keep_their_tools(strict, models):
    models["guide"].fails = True
    bound = ArchRouterChatModel(**strict).with_fallbacks([models["painter"]]).bind_tools([bookings])
    assert bound.invoke("flight bookings").tool_calls
    assert models["painter"].calls[0][1]["tools"]


def test_fallbacks_of_a_route_keep_their_tools(arguments, models):
    models["guide"].fails = True
    route = Route("trips", "Trips", target=models["guide"], fallbacks=[models["painter"]])
    bound = ArchRouterChatModel(**arguments | {"routes": [route]}).bind_tools([bookings])
    assert bound.invoke("flight bookings").tool_calls


def test_structured_output_is_the_targets_own(model, models):
    structured = model.with_structured_output(Verdict)
    assert structured.invoke("a python function") == Verdict(text="a python function", grade=3)
    assert models["coder"].calls[0][1]["response_format"]["title"] == "Verdict"
    assert "tools" not in models["coder"].calls[0][1]


def test_structured_output_may_come_with_the_raw_answer(model):
    answer = model.with_structured_output(Verdict, include_raw=True, method="function_calling").invoke("a photo")
    assert answer["parsed"] == Verdict(text="a photo", grade=3)
    assert answer["raw"].response_metadata["model_name"] == "painter"


def test_no_key_of_a_target_is_shown(model):
    bound = model.bind_tools([bookings])
    for shown in (model, bound, model.with_structured_output(Verdict)):
        assert SECRET not in f"{shown!r} {shown!s} {shown.model_dump()} {shown.to_json()} {shown.get_graph().to_json()}"
    assert SECRET not in f"{model.asdict()} {model._serialized} {model._get_ls_params()}"


def test_agents_are_not_told_a_models_name(model):
    assert not hasattr(model, "model")
    assert not hasattr(model, "model_name")


@pytest.mark.parametrize("native", [True, False])
def test_an_agent_may_be_made_with_it(arguments, models, native):
    for target in models.values():
        target.profile = {"structured_output": native}
    agent = create_agent(ArchRouterChatModel(**arguments), response_format=Verdict)
    state = agent.invoke({"messages": [("human", "a flight")]})
    assert state["structured_response"] == Verdict(text="a flight", grade=3)
    assert [len(model.calls) for model in models.values()] == [0, 0, 1, 0]
    assert ("response_format" in models["guide"].calls[0][1]) is native


def test_an_agents_tool_loop_goes_through_it(arguments, models):
    agent = create_agent(ArchRouterChatModel(**arguments), tools=[bookings])
    state = agent.invoke({"messages": [("human", "flight bookings")]})
    assert [message.text for message in state["messages"]] == ["flight bookings", "", "3 bookings", "guide: 3 bookings"]
    streamed = agent.stream({"messages": [("human", "a flight")]}, stream_mode="messages")
    assert "".join(chunk.text for chunk, _ in streamed) == "guide: a flight"


def test_tokens_are_counted_as_the_default_counts_them(arguments, models):
    models["generalist"].custom_get_token_ids = lambda text: [1] * len(text.split())
    model = ArchRouterChatModel(**arguments)
    assert model.get_num_tokens("one two three") == 3
    said = [HumanMessage(f"word {number}") for number in range(10)]
    assert len(trim_messages(said, max_tokens=9, token_counter=model, strategy="last")) == 3


def test_its_profile_is_what_all_targets_can_do(arguments, models):
    assert ArchRouterChatModel(**arguments).profile is None
    for model in models.values():
        model.profile = {"structured_output": True, "image_inputs": True, "max_input_tokens": 1000, "name": model.label}
    models["guide"].profile = {
        "structured_output": True,
        "image_inputs": False,
        "max_input_tokens": 10,
        "name": "guide",
    }
    assert ArchRouterChatModel(**arguments).profile == {
        "structured_output": True,
        "image_inputs": False,
        "max_input_tokens": 10,
    }
