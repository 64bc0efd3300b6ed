"""Policies in YAML: the project's own file, and Plano's (archgw's) configuration.

    policies:
      - name: code_generation
        description: Writing new functions, scripts or boilerplate
        models: [openai:gpt-5, openai:gpt-5-mini]    # optional; or `model: openai:gpt-5`
      - name: travel                                 # a domain: it has actions
        description: Anything about trips
        actions:
          - name: flight_booking
            description: Finding and booking flights
    default: openai:gpt-5-mini                       # optional: the model for what fits no policy

Of Plano's configuration, versions 0.1 to 0.4, the routing preferences, their models and the default are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from archroute.errors import FileFormatError, PolicyError
from archroute.policy import Domain, Policy, PolicySet

_Location = tuple[int | str, ...]
_Schema = TypeVar("_Schema", bound=BaseModel)
_PLANO_KEYS = {"llm_providers", "model_providers", "routing_preferences"}


class _PolicyEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    description: str
    model: str | None = None
    models: list[str] = []

    @property
    def bound(self) -> list[str]:
        return [self.model, *self.models] if self.model else self.models


class _DomainEntry(_PolicyEntry):
    actions: list[_PolicyEntry] = []


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    policies: list[_DomainEntry]
    default: str | None = None


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

    def __init__(self, source: str | Path) -> None:
        inline = isinstance(source, str) and "\n" in source
        self.name = "policies" if inline else str(source)
        if inline:
            self.text = str(source)
        else:
            try:
                self.text = Path(source).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise FileFormatError(f"{source}: can't be read: {error}", hint="check the path") from error
        try:
            self.data: Any = yaml.safe_load(self.text)
            self.root = yaml.compose(self.text, Loader=yaml.SafeLoader)
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
            if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                node = node.value[key]
            elif isinstance(node, yaml.MappingNode):
                node = next((value for name, value in node.value if name.value == key), None)
            else:
                node = None
            line = node.start_mark.line + 1 if node else line
        return FileFormatError(f"{self.name}, line {line}, field {field.lstrip('.') or '(the whole)'}: {problem}")

    def parse(self, schema: type[_Schema]) -> _Schema:
        """The data as `schema`; only the fault's place and kind are told, never values, which may be secret."""
        try:
            return schema.model_validate(self.data)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            raise self.fault(tuple(first["loc"]), first["msg"]) from None

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
    document = _Source(source)
    if not isinstance(document.data, dict):
        raise document.fault((), "a mapping with the key `policies` is wanted")
    if "policies" not in document.data and _PLANO_KEYS & set(document.data):
        return _from_plano(document)
    return _from_file(document)


def write_policies(policies: PolicySet) -> str:
    """The policy file that holds `policies`."""

    def entry(policy: Policy) -> dict[str, Any]:
        bound = policies.models.get(policy.name)
        return {
            "name": policy.name,
            "description": policy.description,
            **({"models": list(bound)} if bound else {}),
        }

    entries = []
    for policy in policies.policies:
        if isinstance(policy, Domain):
            entries.append(entry(policy.route) | {"actions": [entry(action) for action in policy.actions]})
        else:
            entries.append(entry(policy))
    document: dict[str, Any] = {"policies": entries}
    if policies.default is not None:
        document["default"] = policies.default
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def _from_file(document: _Source) -> PolicySet:
    parsed = document.parse(_File)
    models: dict[str, list[str]] = {}

    def read(entry: _PolicyEntry, location: _Location) -> Policy:
        if entry.bound:
            models[entry.name] = entry.bound
        return document.policy(entry, location)

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
    return PolicySet(policies, models=models, default=parsed.default)


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
