"""A hub in miniature: the few addresses of the Hugging Face hub that reading a dataset asks for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

SHA = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(repositories: dict[str, dict[str, bytes]]) -> Iterator[str]:
    """Serve datasets, each {file path: content} at revision main; yields the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        # No connection outlives its answer, so that a closed hub is gone at once.
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            asked = json.loads(self.rfile.read(size) or b"{}")
            parts = unquote(urlparse(self.path).path).strip("/").split("/")
            files = repositories.get("/".join(parts[2:4]), {})
            paths = [path for path in asked.get("paths", []) if path in files]
            self._send(200, json.dumps([_entry(path, files[path]) for path in paths]).encode())

        def _answer(self, with_body: bool) -> None:
            parts = unquote(urlparse(self.path).path).strip("/").split("/")
            if parts[:2] == ["api", "datasets"]:
                self._api("/".join(parts[2:4]), parts[4:])
            elif parts[0] == "datasets" and parts[3:4] == ["resolve"]:
                self._file("/".join(parts[1:3]), parts[4], "/".join(parts[5:]), with_body)
            else:
                self._send(404, b"{}")

        def _api(self, name: str, rest: list[str]) -> None:
            files = repositories.get(name)
            if files is None:
                self._send(404, b'{"error": "Repository not found"}', code="RepoNotFound")
                return
            if rest[:1] in (["revision"], ["tree"]) and rest[1] not in ("main", SHA):
                self._send(404, b'{"error": "Invalid rev id"}', code="RevisionNotFound")
                return
            if rest[:1] == ["tree"]:
                folder = "/".join(rest[2:])
                prefix = f"{folder}/" if folder else ""
                listed = [_entry(p, c) for p, c in files.items() if p.startswith(prefix)]
                self._send(200, json.dumps(listed).encode())
                return
            info = {
                "id": name,
                "sha": SHA,
                "private": False,
                "gated": False,
                "disabled": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "lastModified": "2024-01-01T00:00:00.000Z",
                "siblings": [{"rfilename": path} for path in files],
            }
            self._send(200, json.dumps(info).encode())

        def _file(self, name: str, revision: str, path: str, with_body: bool) -> None:
            content = repositories.get(name, {}).get(path)
            if content is None:
                self._send(404, b"", code="EntryNotFound")
                return
            etag = hashlib.sha1(content).hexdigest()
            self._send(200, content, etag=etag, with_body=with_body)

        def _send(
            self,
            status: int,
            body: bytes,
            *,
            code: str | None = None,
            etag: str | None = None,
            with_body: bool = True,
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.send_header("X-Repo-Commit", SHA)
            if code is not None:
                self.send_header("X-Error-Code", code)
            if etag is not None:
                self.send_header("ETag", f'"{etag}"')
            self.end_headers()
            if with_body and self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _entry(path: str, content: bytes) -> dict[str, object]:
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}
