"""LangChain's own tests of chat models, over fakes that can do everything those tests can ask of a text model."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_archroute import ArchRouterChatModel, Route
from tests.engines import KeywordEngine
from tests.langchain.fakes import FakeModel


class _Routed:
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ArchRouterChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "routes": [Route("magic", "Questions on the magic function", target=FakeModel(label="magician"))],
            "default": FakeModel(label="generalist"),
            "model": KeywordEngine({"magic": ["magic"]}),
        }

    has_tool_calling = True
    has_tool_choice = True
    has_structured_output = True
    supports_json_mode = True
    returns_usage_metadata = True
    supports_anthropic_inputs = True
    supports_image_inputs = True
    supports_image_urls = True
    supports_image_tool_message = True
    supports_pdf_inputs = True
    supports_pdf_tool_message = True
    supports_audio_inputs = True
    supports_model_override = True
    model_override_value = "another-model"


class TestUnit(_Routed, ChatModelUnitTests):
    pass


class TestIntegration(_Routed, ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _files_to_send(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The tests fetch a picture, a recording and a document only to send them on."""
        monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(200, content=b"bytes of a file"))
