"""ArchRouterChatModel: a chat model in every place, and what the targets can do is not lost."""

from __future__ import annotations

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField

from archroute import SettingError
from langchain_archroute import ArchRouterChatModel, Route
from tests.engines import FailingEngine
from tests.langchain.talk import ANSWERED_BY, REQUESTS, Told, bookings, who


def test_it_is_a_chat_model(model):
    assert isinstance(model, BaseChatModel)
    assert [who(model.invoke(request)) for request in REQUESTS] == ANSWERED_BY
    assert [who(answer) for answer in model.batch(REQUESTS)] == ANSWERED_BY


async def test_it_is_an_asynchronous_chat_model(model):
    assert [who(await model.ainvoke(request)) for request in REQUESTS] == ANSWERED_BY
    assert [who(answer) for answer in await model.abatch(REQUESTS)] == ANSWERED_BY
    chunks = [chunk async for chunk in model.astream(REQUESTS[0])]
    assert "".join(chunk.text for chunk in chunks) == "coder: write a python function"
    answers = {number: who(answer) async for number, answer in model.abatch_as_completed(REQUESTS)}
    assert answers == dict(enumerate(ANSWERED_BY))


def test_a_batch_is_decided_in_one_call(model, engine):
    assert {number: who(answer) for number, answer in model.batch_as_completed(REQUESTS)} == dict(
        enumerate(ANSWERED_BY)
    )
    assert [len(conversations) for _, conversations in engine.calls] == [4]
    chain = ChatPromptTemplate.from_template("{text}") | model | StrOutputParser()
    assert len(chain.batch([{"text": request} for request in REQUESTS])) == 4
    assert [len(conversations) for _, conversations in engine.calls] == [4, 4]


def test_it_goes_into_a_chain_with_the_whole_conversation(model, models):
    prompt = ChatPromptTemplate.from_messages([("system", "Be kind."), ("placeholder", "{messages}")])
    said = [("human", "a python function"), ("ai", "done"), ("human", "shorter")]
    assert (prompt | model | StrOutputParser()).invoke({"messages": said}) == "coder: shorter"
    assert [type(message) for message in models["coder"].calls[0][0]] == [
        SystemMessage,
        HumanMessage,
        AIMessage,
        HumanMessage,
    ]


def test_callbacks_hear_of_one_chat_model_and_of_each_token_once(model):
    told = Told()
    words = [chunk.text for chunk in model.stream(REQUESTS[0], {"callbacks": [told]})]
    assert told.tokens == words
    assert told.count == {"chat_model_start": 1, "llm_end": 1, "archroute.decision": 1}


async def test_asynchronous_callbacks_hear_each_token_once(model):
    told = Told()
    words = [chunk.text async for chunk in model.astream(REQUESTS[0], {"callbacks": [told]})]
    assert told.tokens == words
    assert told.count == {"chat_model_start": 1, "llm_end": 1, "archroute.decision": 1}


def test_its_own_callbacks_tags_and_metadata_reach_the_target(arguments):
    told = Told()
    model = ArchRouterChatModel(**arguments, callbacks=[told], tags=["mine"], metadata={"user": 7})
    model.invoke(REQUESTS[0])
    model.batch(REQUESTS[:2], [{}, {}])
    assert told.count["chat_model_start"] == 3


def test_usage_is_counted_once_under_the_targets_name(model):
    usage = UsageMetadataCallbackHandler()
    answer = model.invoke(REQUESTS[0], {"callbacks": [usage]})
    assert usage.usage_metadata == {"coder": answer.usage_metadata}


def test_generate_answers_and_tells_each_token_once(model):
    told = Told()
    result = model.generate([[HumanMessage(REQUESTS[0])], [HumanMessage(REQUESTS[1])]], callbacks=[told])
    assert [generations[0].text.split(":")[0] for generations in result.generations] == ["coder", "painter"]
    assert told.tokens == []
    assert told.count["archroute.decision"] == 2


def test_a_target_is_given_no_argument_that_nobody_gave(arguments):
    model = ArchRouterChatModel(**arguments | {"default": lambda _: AIMessage("a function")})
    assert model.generate([[HumanMessage("hm")]]).generations[0][0].text == "a function"


async def test_agenerate_answers(model):
    result = await model.agenerate([[HumanMessage(REQUESTS[2])]])
    assert result.generations[0][0].message.response_metadata["archroute"]["route"] == "trips"


def test_pictures_pass_and_their_text_decides(model, models):
    content = [
        {"type": "text", "text": "retouch this photo"},
        {"type": "image", "base64": "aGk=", "mime_type": "image/png"},
    ]
    model.invoke([HumanMessage(content)])
    assert models["painter"].calls[0][0][0].content == content


def test_stop_and_other_arguments_pass(model, models):
    assert model.bind(stop=["python"]).invoke(REQUESTS[0], temperature=0.5).content == "coder: write a "
    assert models["coder"].calls[0][1] == {"stop": ["python"], "temperature": 0.5}
    model.invoke(REQUESTS[0])
    assert models["coder"].calls[1][1] == {}


def test_arguments_of_every_chat_model_are_taken_and_not_kept(arguments):
    given = {"temperature": 0, "max_tokens": 9, "timeout": 1, "max_retries": 2, "api_key": "my-own", "streaming": True}
    model = ArchRouterChatModel(**arguments, **given, stop=["x"])
    assert "my-own" not in f"{vars(model)}"
    with pytest.raises(SettingError, match="temperatur"):
        ArchRouterChatModel(**arguments, temperatur=1)


async def test_streaming_can_be_switched_off(arguments):
    model = ArchRouterChatModel(**arguments, disable_streaming=True)
    assert [chunk.text for chunk in model.stream(REQUESTS[1])] == ["painter: retouch this photo"]
    assert [chunk.text async for chunk in model.astream(REQUESTS[1])] == ["painter: retouch this photo"]


def test_a_failure_while_routing_goes_to_the_default(arguments):
    answer = ArchRouterChatModel(**arguments | {"model": FailingEngine()}).bind_tools([bookings]).invoke(REQUESTS[0])
    assert who(answer) == "generalist"
    assert answer.response_metadata["archroute"]["reason"] == "error"


def test_it_can_be_retried_and_configured(arguments, models):
    model = ArchRouterChatModel(**arguments)
    sure = model.configurable_fields(min_confidence=ConfigurableField(id="sure"))
    assert who(sure.with_config(configurable={"sure": 0.99}).invoke(REQUESTS[0])) == "generalist"
    assert [who(answer) for answer in model.with_retry().map().invoke(REQUESTS)] == ANSWERED_BY


def test_routers_can_stand_in_routers(arguments, models, engine):
    inner = ArchRouterChatModel(**arguments)
    engine.words = {**engine.words, "all": ["please"]}
    outer = ArchRouterChatModel(routes=[Route("all", "All", target=inner)], default=models["generalist"], model=engine)
    assert who(outer.invoke("a bug please")) == "coder"
    assert outer.bind_tools([bookings]).invoke("flight bookings please").tool_calls
