"""LangChain's third streaming protocol through routers."""

from __future__ import annotations

import asyncio
from operator import attrgetter

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.runnables import RunnablePassthrough

from archroute import SettingError
from langchain_archroute import ArchRouterChatModel, RunnableRouter
from tests.langchain.fakes import FakeModel
from tests.langchain.talk import REQUESTS, Told, bookings


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_the_third_streaming_protocol_is_spoken(model):
    told = Told()
    stream = model.stream_events(REQUESTS[0], {"callbacks": [told]}, version="v3")
    assert told.count == {}
    assert list(stream.text) == ["coder:", " write", " a", " python", " function"]
    assert told.count == {"chat_model_start": 1, "llm_end": 1, "archroute.decision": 1}
    message = stream.output
    assert message.usage_metadata == {"input_tokens": 4, "output_tokens": 5, "total_tokens": 9}
    assert message.response_metadata["archroute"]["route"] == "code"


async def test_the_third_streaming_protocol_is_spoken_asynchronously(model):
    stream = await model.astream_events("flight bookings", version="v3")
    assert [piece async for piece in stream.text] == ["guide:", " flight", " bookings"]
    assert (await stream).response_metadata["archroute"]["route"] == "trips"
    called = await model.bind_tools([bookings]).astream_events("flight bookings", version="v3")
    assert [call["args"] for call in (await called).tool_calls] == [{"count": 3}]


async def test_an_error_comes_through_the_third_protocol(strict, models):
    models["coder"].fails = True
    model = ArchRouterChatModel(**strict)
    with pytest.raises(ConnectionError, match="coder is down"):
        attrgetter("output")(model.stream_events(REQUESTS[0], version="v3"))
    with pytest.raises(ConnectionError, match="coder is down"):
        await (await model.astream_events(REQUESTS[0], version="v3"))


async def test_a_stream_of_the_third_protocol_can_be_left(arguments, models):
    closed = []

    class Endless(RunnablePassthrough):
        async def astream(self, *args, **kwargs):
            try:
                while True:
                    yield AIMessageChunk("again ")
                    await asyncio.sleep(0)
            finally:
                closed.append(True)

    model = ArchRouterChatModel(**arguments | {"default": Endless()})
    async with await model.astream_events("hm", version="v3") as stream:
        async for _ in stream.text:
            break
    assert closed == [True]
    left = model.astream("hm")
    await anext(left)
    await left.aclose()
    assert closed == [True, True]


async def test_a_target_that_streams_nothing_is_an_error_of_the_third_protocol(arguments):
    class Silent(RunnablePassthrough):
        def stream(self, *args, **kwargs):
            return iter(())

        async def astream(self, *args, **kwargs):
            for nothing in ():
                yield nothing

    router = RunnableRouter(**arguments | {"default": Silent()})
    with pytest.raises(ValueError, match="No generation chunks"):
        list(router.stream_events("hm", version="v3").text)
    with pytest.raises(ValueError, match="No generation chunks"):
        await (await router.astream_events("hm", version="v3"))


def test_targets_that_stream_no_messages_are_told_of_in_the_third_protocol(arguments):
    stream = RunnableRouter(**arguments | {"default": str.upper}).stream_events("hm", version="v3")
    with pytest.raises(SettingError, match="str"):
        list(stream.text)


def test_a_target_that_does_not_stream_is_one_event_of_text(arguments):
    class Silent(FakeModel):
        _stream = BaseChatModel._stream

    model = ArchRouterChatModel(**arguments | {"default": Silent(label="silent")})
    stream = model.stream_events("hm", version="v3")
    assert list(stream.text) == ["silent: hm"]
    assert stream.output.usage_metadata["output_tokens"] == 2
