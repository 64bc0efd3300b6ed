"""A model hub on the loopback that serves one repository from a directory."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(directory: Path, name: str, *, token: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """Serve `directory` as the model `name`; gives the endpoint and the paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            asked.append(self.path)
            path = self.path.partition("?")[0]
            if token and self.headers.get("Authorization") != f"Bearer {token}":
                return self._send(401, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access restricted"}, body)
            if path.startswith(f"/api/models/{name}/tree/"):
                files = [
                    {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": f"{number:040x}"}
                    for number, file in enumerate(directory.iterdir())
                ]
                return self._send(200, json.dumps(files).encode(), {"Content-Type": "application/json"}, body)
            if path.startswith(f"/api/models/{name}/"):
                files = [{"rfilename": file.name} for file in directory.iterdir()]
                description = {"id": name, "modelId": name, "sha": COMMIT, "siblings": files, "tags": []}
                return self._send(200, json.dumps(description).encode(), {"Content-Type": "application/json"}, body)
            file = directory / path.rpartition("/")[2]
            if not path.startswith(f"/{name}/resolve/") or not file.is_file():
                return self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)
            content = file.read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            return self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)

        def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
