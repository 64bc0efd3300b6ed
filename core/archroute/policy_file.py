"""Policies in YAML: the project's own file, and Plano's (archgw's) configuration.

    policies:
      - name: code_generation
        description: Writing new functions, scripts or boilerplate
        models: {openai:gpt-5: 0.95, openai:new: 0.05}   # a split: each session stays on a side
        fallbacks: [openai:gpt-5-mini]                   # tried in order when those fail, before the default
        shadows: [openai:newer]                          # asked beside, their answers dropped
        timeout: 20                                      # seconds until an answer must have begun
        min_confidence: 0.6                              # this route's own
        on_failure: raise                                # or `default`, as without it: the default serves
      - name: travel                                     # a domain: it has actions
        description: Anything about trips
        model: openai:gpt-5
        actions:
          - name: flight_booking
            description: Finding and booking flights
            models: [openai:gpt-5, openai:gpt-5-mini]    # preferred first
    default: openai:gpt-5-mini                           # the model for what fits no policy
    models:                                              # what is known of models
      openai:gpt-5: {images: true, tools: true, context: 400000, input_price: 1.25, output_price: 10}

Beside `policies`, and a policy's name and description, all of it may be left out. Domains and actions take the same keys.
Of Plano's configuration, versions 0.1 to 0.4, the routing preferences, their models and the default are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError

from archroute.errors import FileFormatError, PolicyError
from archroute.policy import Domain, Policy, PolicySet
from archroute.serving import ModelInfo, OnFailure, Serving, check_shares

_Location = tuple[int | str, ...]
_Schema = TypeVar("_Schema", bound=BaseModel)
_PLANO_KEYS = {"llm_providers", "model_providers", "routing_preferences"}

_Name = Annotated[str, Field(min_length=1)]
_Flag = Annotated[bool, Field(strict=True)]
_Count = Annotated[int, Field(gt=0, strict=True)]
_Seconds = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
_Price = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
_Probability = Annotated[float, Field(ge=0, le=1, strict=True)]
_NAMES = TypeAdapter(list[_Name])
_SHARES = TypeAdapter(dict[_Name, _Probability])


def _names_or_shares(value: Any) -> list[str] | dict[str, float]:
    # Not a union: the place of its faults would name the member that was tried, which is no field of the file.
    return _SHARES.validate_python(value) if isinstance(value, dict) else _NAMES.validate_python(value)


class _PolicyEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    description: str
    model: _Name | None = None
    models: Annotated[list[str] | dict[str, float], PlainValidator(_names_or_shares)] = []
    fallbacks: list[_Name] = []
    shadows: list[_Name] = []
    timeout: _Seconds | None = None
    min_confidence: _Probability | None = None
    on_failure: OnFailure = "default"

    @property
    def shares(self) -> dict[str, float]:
        return self.models if isinstance(self.models, dict) else {}

    @property
    def bound(self) -> Iterator[tuple[str, _Location]]:
        """The models that can serve, in order, and where they stand."""
        if self.model:
            yield self.model, ("model",)
        for place, name in enumerate(self.models):
            yield name, ("models", name if self.shares else place)
        for place, name in enumerate(self.fallbacks):
            yield name, ("fallbacks", place)

    @property
    def serving(self) -> Serving | None:
        """How its turns are served, if anything is said of it."""
        if not self.shares and not {"shadows", "timeout", "min_confidence", "on_failure"} & self.model_fields_set:
            return None
        return Serving(self.shares, tuple(self.shadows), self.timeout, self.min_confidence, self.on_failure)


class _DomainEntry(_PolicyEntry):
    actions: list[_PolicyEntry] = []


class _InfoEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    images: _Flag | None = None
    tools: _Flag | None = None
    context: _Count | None = None
    input_price: _Price | None = None
    output_price: _Price | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    policies: list[_DomainEntry]
    default: str | None = None
    models: dict[_Name, _InfoEntry] = Field(default_factory=dict)


class _Preference(BaseModel):
    name: str
    description: str
    models: list[str] = []


class _Provider(BaseModel):
    model: str
    default: bool = False
    routing_preferences: list[_Preference] = []


class _Alias(BaseModel):
    target: str


class _Plano(BaseModel):
    llm_providers: list[_Provider] = []
    model_providers: list[_Provider] = []
    routing_preferences: list[_Preference] = []
    model_aliases: dict[str, _Alias] = Field(default_factory=dict)


class _Source:
    """YAML text that can tell at which line a field stands."""

    def __init__(self, text: str | bytes, name: str) -> None:
        self.name = name
        try:
            text = text if isinstance(text, str) else text.decode()
        except UnicodeDecodeError as error:
            raise FileFormatError(f"{name}: can't be read: {error}", hint="write it in UTF-8") from error
        try:
            self.data: Any = yaml.safe_load(text)
            self.root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise FileFormatError(
                f"{self.name}, line {line}: no valid YAML: {error.problem}", hint="quote texts that hold a colon"
            ) from error
        except (yaml.YAMLError, ValueError) as error:
            raise FileFormatError(f"{self.name}: no valid YAML: {error}") from error

    def fault(self, location: _Location, problem: str) -> FileFormatError:
        """The error for a problem at `location`, which says its line and field."""
        node, line, field = self.root, 1, ""
        for key in location:
            field += f"[{key}]" if isinstance(key, int) else f".{key}"
            mark = None
            if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                node = node.value[key]
                mark = node.start_mark
            elif isinstance(node, yaml.MappingNode):
                # The key's line: its value may begin further down.
                pairs = ((value, name.start_mark) for name, value in node.value if name.value == str(key))
                node, mark = next(pairs, (None, None))
            else:
                node = None
            line = mark.line + 1 if mark else line
        return FileFormatError(f"{self.name}, line {line}, field {field.lstrip('.') or '(the whole)'}: {problem}")

    def parse(self, schema: type[_Schema]) -> _Schema:
        """The data as `schema`; only the fault's place and kind are told, never values, which may be secret."""
        try:
            return schema.model_validate(self.data)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            raise self.fault(tuple(key for key in first["loc"] if key != "[key]"), first["msg"]) from None

    def refuse_keys_twice(self) -> None:
        """YAML itself lets the last of them win, so that a model's share or a whole policy would be lost in silence."""
        nodes, seen = [self.root], set()
        while nodes:
            node = nodes.pop()
            if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
                continue  # a node that is referred to may hold itself
            seen.add(id(node))
            if isinstance(node, yaml.SequenceNode):
                nodes += node.value
                continue
            keys: set[tuple[str, str]] = set()
            for key, value in node.value:
                nodes.append(value)
                if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                    continue
                if (key.tag, key.value) in keys:
                    raise FileFormatError(
                        f"{self.name}, line {key.start_mark.line + 1}, field {key.value}: it is there twice"
                    )
                keys.add((key.tag, key.value))

    def policy(self, entry: _PolicyEntry | _Preference, location: _Location) -> Policy:
        try:
            return Policy(entry.name, entry.description)
        except PolicyError as error:
            raise self.fault(location, str(error)) from error


def read_policies(source: str | Path) -> PolicySet:
    """Read a policy file or a Plano configuration.

    Args:
        source: A file's path, or YAML text of more than one line.

    Raises:
        FileFormatError: It can't be read; the message names the line and the field.
        PolicyError: The policies are read but not valid together.
    """
    if isinstance(source, str) and "\n" in source:
        return parse_policies(source, "policies")
    try:
        text = Path(source).read_bytes()
    except OSError as error:
        raise FileFormatError(f"{source}: can't be read: {error}", hint="check the path") from error
    return parse_policies(text, str(source))


def parse_policies(text: str | bytes, name: str) -> PolicySet:
    """`read_policies` of text that was read already.

    Args:
        text: What a policy file or a Plano configuration holds.
        name: What errors call it.

    Raises:
        As `read_policies`.
    """
    document = _Source(text, name)
    if not isinstance(document.data, dict):
        raise document.fault((), "a mapping with the key `policies` is wanted")
    if "policies" not in document.data and _PLANO_KEYS & set(document.data):
        return _from_plano(document)
    return _from_file(document)


def write_policies(policies: PolicySet) -> str:
    """The policy file that holds `policies`."""

    def entry(policy: Policy) -> dict[str, Any]:
        return {"name": policy.name, "description": policy.description, **_served(policies, policy.name)}

    entries = []
    for policy in policies.policies:
        if isinstance(policy, Domain):
            entries.append(entry(policy.route) | {"actions": [entry(action) for action in policy.actions]})
        else:
            entries.append(entry(policy))
    document: dict[str, Any] = {"policies": entries}
    if policies.default is not None:
        document["default"] = policies.default
    if policies.info:
        document["models"] = {name: _said(asdict(info)) for name, info in policies.info.items()}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def _served(policies: PolicySet, route: str) -> dict[str, Any]:
    """What a route's entry says beside its name and description."""
    bound = list(dict.fromkeys(policies.models.get(route, ())))
    serving = policies.serving.get(route)
    if serving is None:
        return {"models": bound} if bound else {}
    arms = {name: serving.shares[name] for name in (*bound, *serving.shares) if name in serving.shares}
    said = _said(
        {
            "models": arms or bound or None,
            "fallbacks": [name for name in bound if arms and name not in arms] or None,
            "shadows": list(serving.shadows) or None,
            "timeout": serving.timeout,
            "min_confidence": serving.min_confidence,
        }
    )
    # Said at any rate where nothing else is of the serving, so that it is read back.
    if serving.on_failure != "default" or serving == Serving():
        said["on_failure"] = serving.on_failure
    return said


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _from_file(document: _Source) -> PolicySet:
    document.refuse_keys_twice()
    parsed = document.parse(_File)
    models: dict[str, list[str]] = {}
    serving: dict[str, Serving] = {}

    def read(entry: _PolicyEntry, location: _Location) -> Policy:
        policy = document.policy(entry, location)
        _check_models(document, entry, location)
        if bound := [name for name, _ in entry.bound]:
            models[entry.name] = bound
        if entry.serving:
            serving[entry.name] = entry.serving
        return policy

    policies: list[Policy | Domain] = []
    for number, entry in enumerate(parsed.policies):
        policy = read(entry, ("policies", number))
        if "actions" in entry.model_fields_set:
            actions = [
                read(action, ("policies", number, "actions", place)) for place, action in enumerate(entry.actions)
            ]
            policies.append(Domain(policy.name, policy.description, actions))
        else:
            policies.append(policy)
    info = {name: ModelInfo(**dict(entry)) for name, entry in parsed.models.items()}
    return PolicySet(policies, models=models, default=parsed.default, serving=serving, info=info)


def _check_models(document: _Source, entry: _PolicyEntry, location: _Location) -> None:
    if isinstance(entry.models, dict):
        try:
            check_shares(entry.models)
        except PolicyError as error:
            raise document.fault((*location, "models"), str(error)) from None
        if entry.model:
            raise document.fault((*location, "model"), "the policy has a split already: name it there, or in fallbacks")
    if entry.fallbacks and not entry.model and not entry.models:
        raise document.fault((*location, "fallbacks"), "there is no model that they stand in for")
    shadows = ((name, ("shadows", place)) for place, name in enumerate(entry.shadows))
    for named in (entry.bound, shadows):
        seen: set[str] = set()
        for name, place in named:
            if name in seen:
                raise document.fault((*location, *place), "the model is there twice")
            seen.add(name)


def _from_plano(document: _Source) -> PolicySet:
    parsed = document.parse(_Plano)
    key = "model_providers" if parsed.model_providers else "llm_providers"
    providers = parsed.model_providers or parsed.llm_providers
    placed: list[tuple[_Preference, Sequence[str], _Location]] = [
        (preference, preference.models, ("routing_preferences", number))
        for number, preference in enumerate(parsed.routing_preferences)
    ]
    for place, provider in enumerate(providers):
        for number, preference in enumerate(provider.routing_preferences):
            placed.append((preference, [provider.model], (key, place, "routing_preferences", number)))
    if not placed:
        raise document.fault((), "the configuration has no routing_preferences")

    def resolved(names: Iterable[str]) -> list[str]:
        return [parsed.model_aliases[name].target if name in parsed.model_aliases else name for name in names]

    default = next((provider.model for provider in providers if provider.default), None)
    return PolicySet(
        [document.policy(preference, location) for preference, _, location in placed],
        models={preference.name: resolved(models) for preference, models, _ in placed if models},
        default=default,
    )
