"""The page's server: what it answers, and whom it does not."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import html5lib
import pytest

from samacli.errors import SamaError
from samacli.export.escape import printable
from samacli.review import Session, opened, served
from samacli.review import server as server_module
from tests.report.runs import pruning, write_run
from tests.report.test_report import HOSTILE

TEXTS = [text for text in HOSTILE if "\ud83d" not in text]


class Site:
    """The address, and requests to it."""

    def __init__(self, address: str, session: Session) -> None:
        parts = urllib.parse.urlsplit(address)
        assert parts.hostname == "127.0.0.1"
        self.port, self.path, self.session = parts.port, parts.path, session
        self.host = f"127.0.0.1:{parts.port}"

    def ask(
        self,
        path: str = "",
        method: str = "GET",
        body: str | None = None,
        *,
        whole: bool = False,
        **headers: str | None,
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body); a header of None is left out."""
        given: dict[str, str | None] = {"Host": self.host}
        if body is not None:
            given |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, 10)) as line:
            line.putrequest(
                method,
                path if whole else self.path + path,
                skip_host=True,
                skip_accept_encoding=True,
            )
            for name, value in given.items():
                if value is not None:
                    line.putheader(name, value)
            line.endheaders((body or "").encode())
            answer = line.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def decide(self, row: Any, label: Any, **headers: str | None) -> int:
        body = json.dumps({"row": row, "label": label})
        return self.ask("decide", "POST", body, **headers)[0]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    run = write_run(tmp_path / "run", texts=TEXTS, classes=["</script><b>", "=b()", "\x1bc"])
    with opened(run, 10) as session, served(session, 0) as address:
        yield Site(address, session)


def test_a_decision_is_taken_and_taken_back(site: Site) -> None:
    row = site.session.shown[0].row
    assert site.decide(row, 2) == 200
    assert site.session.decided == {row: 2}
    assert site.session.file.is_file()
    assert site.decide(row, None) == 200
    assert site.session.decided == {}


def test_only_who_knows_the_token_and_asks_this_machine(site: Site) -> None:
    row = site.session.shown[0].row
    other = site.path[:-2] + ("A" if site.path[-2] != "A" else "B") + "/"
    assert len(site.path) > 25
    for path in ("/", other, site.path.rstrip("/"), "/favicon.ico", f"/x{site.path}", "//"):
        assert site.ask(path, whole=True)[0] == 404
    for host in ("evil.example", f"evil.example:{site.port}", "127.0.0.1.evil.example", "", None):
        assert site.ask(Host=host)[0] == 403
        assert site.decide(row, 2, Host=host) == 403
    for host in ("localhost", f"localhost:{site.port + 1}", "[::1]:80"):
        assert site.ask(Host=host)[0] == 200, "a tunnel has a port of its own"
    assert site.session.decided == {}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": None}, 415),
        ({"Content_Length": None}, 411),
        ({"Content_Length": None, "Transfer_Encoding": "chunked"}, 411),
        ({"Content_Length": "-1"}, 411),
        ({"Content_Length": "201"}, 413),
        ({"Content_Length": "9" * 30}, 413),
    ],
)
def test_decisions_of_other_pages_are_refused(
    site: Site, headers: dict[str, str | None], status: int
) -> None:
    assert site.decide(site.session.shown[0].row, 2, **headers) == status
    assert site.session.decided == {}
    assert site.decide(site.session.shown[0].row, 2, Origin=f"http://{site.host}") == 200


def test_what_is_no_decision_is_refused(site: Site) -> None:
    rows = [one.row for one in site.session.all.values()]
    for row, label in [
        (1, 0), (-2, 0), (rows[12], 0), ("2", 0), (True, 0), (None, 0), (rows[0], 3), (rows[0], -1),
        (rows[0], "film"), (rows[0], True), (rows[0], 1.0), ([rows[0]], 0),
    ]:  # fmt: skip
        assert site.decide(row, label) == 400, (row, label)
    for body in ("", "{", "[]", "3", "[" * 150, '{"row": 2}', "\x00"):
        assert site.ask("decide", "POST", body)[0] == 400
    assert site.ask("elsewhere", "POST", "{}")[0] == 404
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "HEAD"):
        assert site.ask("decide", method)[0] == 501
    assert site.session.decided == {}
    assert not site.session.file.exists()


def test_no_file_is_to_be_had(site: Site) -> None:
    for path in (
        "../run/metrics.json", "..%2fmetrics.json", "text/../../metrics.json", "image/2", "text/1",
        "text/", "text", "text/2/3", "text/%C2%B2", "text/-2", "text/" + "9" * 5000, "reviewed.csv",
    ):  # fmt: skip
        assert site.ask(path)[0] == 404, path


def test_the_page_may_load_nothing_from_elsewhere(site: Site) -> None:
    status, headers, body = site.ask()
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers
    assert site.ask("nothing")[1]["Content-Security-Policy"] == policy
    page = body.decode()
    assert printable(page) == page
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    document = parser.parse(page)
    for element in document.iter():
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            assert name != "style"
            if name in ("src", "href", "action"):
                assert value == "data:,"
    assert len(list(document.iter("script"))) == 2
    assert not list(document.iter("b"))
    data = next(e for e in document.iter("script") if e.attrib.get("id") == "review-data")
    told = json.loads("".join(data.itertext()))
    assert told["classes"] == ["</script><b>", "=b()", "\ufffdc"]
    assert len(told["items"]) == 10


def test_texts_are_shown_whole_and_harmless(site: Site) -> None:
    for one in site.session.shown:
        status, headers, body = site.ask(f"text/{one.row}")
        assert status == 200
        assert headers["Content-Type"] == "application/json"
        assert json.loads(body) == {"texts": [printable(one.content[0])], "cut": False}


def test_images_are_copies(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", workflow="prune", images=True, methods=pruning())
    with opened(run, 5) as session, served(session, 0) as address:
        site = Site(address, session)
        first, second = session.shown[:2]
        status, headers, body = site.ask(f"image/{first.row}")
        assert (status, headers["Content-Type"]) == (200, "image/png")
        assert body.startswith(b"\x89PNG")
        (run / second.content[0]).write_text("<svg onload='alert(1)'/>")
        assert site.ask(f"image/{second.row}")[0] == 404
        assert site.decide(second.row, 0) == 200, "a file of the run, whatever is in it"
        (run / second.content[0]).unlink()
        assert site.ask(f"text/{first.row}")[0] == 404


def test_a_failure_is_told_to_the_page_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(row: int, label: int | None) -> None:
        raise SamaError("the disk is full")

    monkeypatch.setattr(site.session, "decide", broken)
    body = json.dumps({"row": site.session.shown[0].row, "label": 0})
    status, _, said = site.ask("decide", "POST", body)
    assert (status, said) == (409, b"the disk is full")
    monkeypatch.setattr(site.session, "decide", lambda row, label: 1 / 0)
    status, _, said = site.ask("decide", "POST", body)
    assert status == 500
    assert b"ZeroDivisionError" in said
    assert site.ask()[0] == 200
    # A browser that goes in the middle of a request.
    with socket.create_connection(("127.0.0.1", site.port)) as line:
        head = f"POST {site.path}decide HTTP/1.1\r\nHost: {site.host}\r\n"
        line.sendall(
            f"{head}Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{{".encode()
        )
    with socket.create_connection(("127.0.0.1", site.port)) as line:
        line.sendall(b"nonsense\r\n\r\n")
        assert b"Bad Request" in line.recv(1000)
    assert site.ask()[0] == 200
    assert capfd.readouterr() == ("", ""), "the token is in no log"


def test_a_request_that_never_ends_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module._Handler, "timeout", 0.3)
    run = write_run(tmp_path / "run")
    with opened(run, 5) as session, served(session, 0) as address:
        site = Site(address, session)
        with socket.create_connection(("127.0.0.1", site.port), 10) as line:
            line.sendall(b"GET / HTTP/1.1\r\n")
            assert site.ask()[0] == 200
            assert line.recv(1000) == b"", "closed in the end"


def test_the_port_is_ones_own_and_this_machines_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with opened(run, 5) as session, served(session, 0) as address:
        port = urllib.parse.urlsplit(address).port
        assert port is not None
        with (
            pytest.raises(SamaError, match=f"--port {port} is not to be had"),
            served(session, port),
        ):
            pass
        assert server_module._ADDRESS == "127.0.0.1"
    with opened(run, 5) as session, served(session, port) as again:
        assert f":{port}/" in again, "free again at once"
        assert again != address, "with another token"


def test_the_command_ends_with_what_was_decided_and_what_to_type(tmp_path: Path) -> None:
    run = write_run(tmp_path / "my run")
    command = [sys.executable, "-m", "samacli", "review", str(run), "--no-browser", "--limit", "5"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/\S+/", first)
        assert found is not None, first
        assert first.startswith("5 of 5 suspects to decide: ")
        assert "The 5 most suspicious of 20 are here" in process.stdout.readline()
        again = subprocess.run(command, capture_output=True, text=True)
        assert again.returncode == 2
        assert "under review by another" in again.stderr
        with urllib.request.urlopen(found[0]) as page:
            told = page.read().decode()
        rows = [item["row"] for item in json.loads(
            re.search(r'id="review-data">(.*?)</script>', told)[1]  # type: ignore[index]
        )["items"]]  # fmt: skip
        for row, label in zip(rows, (2, 2, 1, 0), strict=False):
            request = urllib.request.Request(
                found[0] + "decide", json.dumps({"row": row, "label": label}).encode(),
                {"Content-Type": "application/json"},
            )  # fmt: skip
            urllib.request.urlopen(request).close()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert err == ""
    assert (
        f"4 of 5 suspects decided: 2 suggestions accepted, 1 corrected, 1 label kept; all in "
        f"{run}/reviewed.csv" in out
    )
    assert f"next: sama reweight '{run}/recipe.yaml' --meta '{run}/reviewed.csv' --output" in out
    assert len((run / "reviewed.csv").read_text().splitlines()) == 5
    assert not (run / ".reviewed.csv.lock").exists()
