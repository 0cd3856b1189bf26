"""A page for one person on this machine: what it answers, and whom it does not.

It listens on 127.0.0.1 alone. Whoever asks must know the token in the address, a secret of this
call, and must ask for this machine by name (the Host header: a page of another site whose name has
been pointed here asks for that name). A decision is taken from the page itself alone (Origin,
Sec-Fetch-Site, JSON), and is a number or two. The page may load nothing from elsewhere.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from samacli.errors import SamaError
from samacli.report.page import review_page, review_policy
from samacli.review.session import Session

_ADDRESS = "127.0.0.1"
_OWN_NAMES = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")  # a tunnel has its own port
_BODY_AT_MOST = 200  # bytes
_TEXT = "text/plain; charset=utf-8"
_PATIENCE = 30.0  # seconds for a request to come


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sama", ""
    timeout = _PATIENCE
    server: _Server

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, answer: Callable[[list[str]], tuple[str, bytes]]) -> None:
        if self.server.over:  # for a browser that has kept its connection
            self.close_connection = True
            return
        try:
            status, (kind, body) = HTTPStatus.OK, answer(self._asked())
        except OSError:  # the browser has gone
            raise
        except Exception as error:
            self.close_connection = True  # a body may be left unread
            status, kind, said = HTTPStatus.INTERNAL_SERVER_ERROR, _TEXT, str(error)
            if isinstance(error, _RefusedError):
                status = error.status
            elif isinstance(error, SamaError):
                status = HTTPStatus.CONFLICT
            else:
                said = f"{type(error).__name__}: {said} (this is a bug in samacli or a library)"
            body = said.encode()
        self._send(status, kind, body)

    def _asked(self) -> list[str]:
        """The parts of the path behind the token."""
        if not _OWN_NAMES.fullmatch(self.headers.get("Host", "")):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "this page has another name")
        token, slash, rest = self.path.partition("?")[0].removeprefix("/").partition("/")
        known = hmac.compare_digest(token.encode(), self.server.token.encode())
        if not (known and slash):
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")
        return rest.split("/")

    def _get(self, asked: list[str]) -> tuple[str, bytes]:
        session = self.server.session
        if asked == [""]:
            page = review_page(
                session.run, session.page_data(), str(session.file), self.server.remark
            )
            return "text/html; charset=utf-8", page.encode()
        suspect = session.suspect(_number(asked[1])) if len(asked) == 2 else None
        if suspect is not None and asked[0] == "text" and session.run.image_column is None:
            return "application/json", json.dumps(session.texts(suspect)).encode()
        if suspect is not None and asked[0] == "image" and session.run.image_column is not None:
            kind, data = session.image(suspect)
            if data:
                return f"image/{kind}", data
        raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _post(self, asked: list[str]) -> tuple[str, bytes]:
        told = self.headers.get
        same = f"http://{told('Host')}"
        if told("Origin", same) != same or told("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise _RefusedError(HTTPStatus.FORBIDDEN, "another page may not decide here")
        if told("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a decision is JSON")
        if "Transfer-Encoding" in self.headers or not re.fullmatch(
            r"\d+", told("Content-Length", "")
        ):
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "a decision has a length")
        length = int(told("Content-Length", "")[:9])
        if length > _BODY_AT_MOST:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a decision is shorter")
        body = self.rfile.read(length)
        if asked != ["decide"]:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")
        session = self.server.session
        try:
            said = json.loads(body)
            row, label = said["row"], said["label"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise _RefusedError(
                HTTPStatus.BAD_REQUEST, "a decision has a row and a label"
            ) from None
        known = label is None or (type(label) is int and 0 <= label < len(session.classes))
        if type(row) is not int or session.suspect(row) is None or not known:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "there is no such suspect or class")
        session.decide(row, label)
        return "application/json", json.dumps({"decided": session.counts.decided}).encode()

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": self.server.policy,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses by itself: other methods, requests that are none."""
        self.close_connection = True
        self._send(HTTPStatus(code), _TEXT, HTTPStatus(code).phrase.encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: addresses hold the token."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, session: Session, port: int, remark: str) -> None:
        super().__init__((_ADDRESS, port), _Handler)
        self.session, self.remark, self.over = session, remark, False
        self.token = secrets.token_urlsafe(24)
        self.policy = review_policy()

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without asking who this machine is
        self.server_name, self.server_port = _ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is no failure."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1


@contextmanager
def served(session: Session, port: int, remark: str = "") -> Iterator[str]:
    """The address of the page, while it is served.

    port: 0 for any that is free. remark: said at the page's foot.

    Raises:
        SamaError: the port is not to be had.
    """
    try:
        server = _Server(session, port, remark)
    except OSError as error:
        raise SamaError(
            f"--port {port} is not to be had ({error.strerror}); name another, or none"
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield f"http://{_ADDRESS}:{server.server_port}/{server.token}/"
    finally:
        server.over = True
        server.shutdown()
        server.server_close()
        thread.join()
