"""Sessions in Redis, for several processes that serve the same users. Comes with `pip install "archroute[redis]"`."""

from __future__ import annotations

from typing import Any

from archroute.decision import Decision
from archroute.dispatch.sessions import SessionStore
from archroute.errors import SettingError

_ANSWERS_WITHIN = 0.25  # seconds; a turn that waits for its store longer is better off without


class RedisStore(SessionStore):
    """Keeps sessions in a Redis server; how many is bounded by their time to live and the server's own `maxmemory`.

    Args:
        url: The server's address, such as `redis://localhost:6379/0`, or a `redis.Redis` client of your own.
        ttl: Seconds until a session that has no turn is forgotten.
        prefix: What the keys begin with; routers whose sessions must not mix have different ones.

    Raises:
        SettingError: `ttl` is not positive, the address can't be read, or the package `redis` is missing.
    """

    def __init__(self, url: str | Any, *, ttl: float = 3600.0, prefix: str = "archroute:") -> None:
        if ttl <= 0:
            raise SettingError(f"ttl={ttl}", hint="give a positive number of seconds")
        self._client = _client(url) if isinstance(url, str) else url
        self._ttl, self._prefix = ttl, prefix

    def __repr__(self) -> str:
        return f"RedisStore(prefix={self._prefix!r})"  # an address may hold a password

    def get(self, key: str) -> Decision | None:
        """See `SessionStore`."""
        found = self._client.get(self._name(key))
        return None if found is None else Decision.model_validate_json(found)

    def put(self, key: str, decision: Decision) -> None:
        """See `SessionStore`."""
        self._client.set(self._name(key), decision.model_dump_json(), px=max(1, round(self._ttl * 1000)))

    def _name(self, key: str) -> bytes:
        return (self._prefix + key).encode(errors="surrogatepass")  # a key that came as JSON may have half a character


def _client(url: str) -> Any:
    try:
        import redis
    except ImportError as error:
        raise SettingError("the package redis is missing", hint='pip install "archroute[redis]"') from error
    try:
        return redis.Redis.from_url(
            url, socket_timeout=_ANSWERS_WITHIN, socket_connect_timeout=_ANSWERS_WITHIN, health_check_interval=30
        )
    except ValueError:
        raise SettingError("the address of the Redis server can't be read", hint="write redis://host:port/0") from None
