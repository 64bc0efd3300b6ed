"""A router as a part of LangChain: composed, configured, drawn, and refused where its arguments are wrong."""

from __future__ import annotations

import json

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda

from archroute import PolicyError, SettingError
from langchain_archroute import Route, RunnableRouter
from tests.langchain.fakes import SECRET, FakeModel, chain_of
from tests.langchain.talk import REQUESTS, who


def test_it_stands_in_a_chain(router):
    chain = ChatPromptTemplate.from_messages([("system", "Be kind."), ("human", "{text}")]) | router | StrOutputParser()
    assert chain.invoke({"text": REQUESTS[1]}) == "painter: retouch this photo"
    assert "".join(chain.stream({"text": REQUESTS[1]})) == "painter: retouch this photo"


def test_a_domain_has_one_level_of_actions(models):
    inner = Route("b", "B", target=models["coder"], actions=[Route("c", "C", target=models["coder"])])
    with pytest.raises(PolicyError, match="'a'"):
        Route("a", "A", target=models["coder"], actions=[inner])


def test_fallbacks_of_the_router_serve_when_a_target_is_down(strict, models):
    models["coder"].fails = True
    assert who(RunnableRouter(**strict).with_fallbacks([models["guide"]]).invoke(REQUESTS[0])) == "guide"


def test_retries_of_the_router_ask_again(strict, models):
    failures = [True]

    def once():
        if failures:
            failures.pop()
            raise ConnectionError("not yet")

    models["coder"].wait = once
    answer = (
        RunnableRouter(**strict).with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke(REQUESTS[0])
    )
    assert who(answer) == "coder"
    assert len(models["coder"].calls) == 2


def test_bound_arguments_and_config_reach_the_target(arguments):
    told = RunnableLambda(lambda value, config: (config["tags"], config["configurable"]["user"]))
    router = RunnableRouter(**arguments | {"default": told})
    assert router.with_config(tags=["mine"]).invoke("hm", {"configurable": {"user": 7}}) == (["mine"], 7)


def test_its_fields_can_be_configured(router):
    configurable = router.configurable_fields(min_confidence=ConfigurableField(id="sure"))
    assert who(configurable.invoke(REQUESTS[0])) == "coder"
    assert who(configurable.invoke(REQUESTS[0], {"configurable": {"sure": 0.99}})) == "generalist"


def test_it_can_have_alternatives(router):
    either = router.configurable_alternatives(ConfigurableField(id="way"), default_key="routed", one=chain_of("one"))
    assert who(either.invoke(REQUESTS[0])) == "coder"
    assert either.invoke(REQUESTS[0], {"configurable": {"way": "one"}}) == "one chain"


def test_configurable_targets_stay_configurable(arguments):
    target = FakeModel(label="plain").configurable_fields(label=ConfigurableField(id="label"))
    router = RunnableRouter(**arguments | {"default": target})
    assert "label" in {spec.id for spec in router.config_specs}
    assert who(router.invoke("hm", {"configurable": {"label": "changed"}})) == "changed"


def test_its_graph_shows_every_target_and_is_json(router):
    graph = router.get_graph()
    edges = [
        edge["data"] for edge in json.loads(json.dumps(graph.to_json(with_schemas=True)))["edges"] if "data" in edge
    ]
    assert edges == ["code", "images", "trips", "other"]
    assert "trips" in graph.draw_mermaid()
    assert SECRET not in json.dumps(graph.to_json(with_schemas=True))


def test_a_chain_with_it_can_be_drawn(router):
    chain = ChatPromptTemplate.from_template("{text}") | router | StrOutputParser()
    drawn = chain.get_graph().draw_mermaid()
    assert "trips" in drawn
    assert "StrOutputParser" in drawn


def test_its_schemas_are_the_targets(router, models):
    assert router.get_input_jsonschema() == models["generalist"].get_input_jsonschema()
    assert router.get_output_jsonschema() == models["generalist"].get_output_jsonschema()


def test_no_key_of_a_target_is_shown(router):
    shown = f"{router!r} {router!s} {router.model_dump()} {router.to_json()} {router.routes} {router.decider!r}"
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"routes": []}, PolicyError),
        ({"routes": ["code"]}, PolicyError),
        ({"history": "some"}, SettingError),
        ({"on_error": "ignore"}, SettingError),
        ({"min_confidence": 2}, SettingError),
        ({"default": 7}, SettingError),
        ({"fallback": 7}, SettingError),
        ({"model": 7}, SettingError),
    ],
)
def test_arguments_that_are_wrong_are_refused_with_a_hint(arguments, change, error):
    with pytest.raises(error) as refused:
        RunnableRouter(**arguments | change)
    assert refused.value.hint
    assert SECRET not in str(refused.value)


def test_a_missing_argument_is_named_without_the_others_values(routes):
    with pytest.raises(SettingError, match="default") as refused:
        RunnableRouter(routes=routes)
    assert SECRET not in str(refused.value)


def test_a_target_that_is_no_runnable_is_named(models):
    with pytest.raises(SettingError, match="route 'code'"):
        Route("code", "Programs", target="openai:gpt-5")
    with pytest.raises(SettingError, match="fallback of route 'code'"):
        Route("code", "Programs", target=models["coder"], fallbacks=[7])
