"""From what a user writes after `model=` to the engine that decides."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from weakref import WeakValueDictionary

from platformdirs import user_cache_dir

from archroute.engines.base import Engine
from archroute.errors import ModelError, SettingError

logger = logging.getLogger("archroute")

DEFAULT_MODEL = "katanemo/Arch-Router-1.5B"
"""The model hub id of Arch-Router."""

EMBEDDED = "embedded"
"""The name of the model that comes with the package."""

# Routers of one process share an engine: its weights are loaded once.
_engines: WeakValueDictionary[str, Engine] = WeakValueDictionary()
_loading = threading.Lock()


def cache_directory() -> Path:
    """Where prepared models are kept: `ARCHROUTE_HOME`, else the user's cache directory."""
    return Path(os.environ.get("ARCHROUTE_HOME") or user_cache_dir("archroute"))


def split_revision(model: str) -> tuple[str, str]:
    """A hub id and the revision asked for: `org/name@revision`, else `main`."""
    name, _, revision = model.partition("@")
    return name, revision or "main"


def prepared_directory(model: str) -> Path:
    """Where `archroute pull` puts the prepared form of the hub model `org/name[@revision]`."""
    name, revision = split_revision(model)
    return cache_directory() / name.replace("/", "--") / revision.replace("/", "--")


def is_prepared(directory: Path) -> bool:
    """Whether a prepared model is complete in `directory`."""
    return (directory / "quanto_qmap.json").is_file()


def load_engine(model: str | Path | Engine | None = None) -> Engine:
    """The engine that `model` names.

    Args:
        model: `"embedded"`; a hub id `org/name`, or `org/name@revision`; a directory that holds a checkpoint; an engine; or None,
            for the prepared Arch-Router if there is one on this machine, else the embedded model.

    Raises:
        ModelError: No such model, or it can't be loaded.
        DownloadError: The hub could not be reached.
        SettingError: `model` is something else.
    """
    if isinstance(model, Engine):
        return model
    if model is None:
        prepared = is_prepared(prepared_directory(DEFAULT_MODEL))
        model = DEFAULT_MODEL if prepared else EMBEDDED
        if not prepared:
            logger.warning("deciding with the embedded model; `archroute pull` installs %s", DEFAULT_MODEL)
        else:
            logger.info('deciding with %s; model="embedded" is the small one', DEFAULT_MODEL)
    if not isinstance(model, str | Path):
        raise SettingError(
            f"model is a {type(model).__name__}", hint='use "embedded", a hub id, a directory or an engine'
        )
    with _loading:
        key = str(model)
        engine = _engines.get(key)
        if engine is None:
            engine = _engines[key] = _load(model)
        return engine


def _load(model: str | Path) -> Engine:
    if model == EMBEDDED:
        from archroute.engines.embedded import EmbeddedEngine

        return EmbeddedEngine()
    from archroute.engines.arch_router import ArchRouterEngine

    if Path(model).is_dir():
        return ArchRouterEngine.from_directory(Path(model))
    if isinstance(model, Path) or model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise ModelError(
            f"there is no directory {model}", hint=f'use "embedded", a hub id such as {DEFAULT_MODEL}, or a directory'
        )
    directory = prepared_directory(model)
    if not is_prepared(directory):
        from archroute.engines.arch_router.prepare import pull

        logger.info("preparing %s in %s", model, directory)
        pull(model, directory)
    return ArchRouterEngine.from_directory(directory, name=model)
