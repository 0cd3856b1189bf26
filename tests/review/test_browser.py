"""The page of `sama review` in a real browser, typed at as a person does."""

from __future__ import annotations

import contextlib
import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from samacli.report import build_report
from samacli.review import Session, opened, served
from samacli.review import session as session_module
from tests.browser import Page, browser, chromium
from tests.report.runs import pruning, write_run
from tests.report.test_browser import BACKGROUND, CONTRAST
from tests.report.test_report import HOSTILE

pytestmark = pytest.mark.skipif(chromium() is None, reason="chromium is not installed")

TEXTS = [text for text in HOSTILE if "\ud83d" not in text] + [
    "a_very_long_word" * 40,
    " two\n\nlines ",
]
MANY = [f"class {name}, whose name is long" for name in "abcdefghijkl"]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as found:
        yield found


@contextlib.contextmanager
def shown(page: Page, run: Path, width: int = 1100, theme: str = "light") -> Iterator[Session]:
    with opened(run, 1000) as session, served(session, 0) as address:
        page.show("about:blank", width=width)  # what was under way is over
        page.problems.clear()
        page.requests.clear()
        page.show(address, width=width, theme=theme)
        page.wait(f"document.querySelector('{part('content')}').children.length > 0")
        yield session
        urls = [url for url in page.requests if not url.startswith("data:")]
        assert urls
        assert all(url.startswith(address) for url in urls), urls


def part(name: str) -> str:
    return f'[data-part="{name}"]'


def text(page: Page, name: str) -> str:
    return str(page.ask(f"document.querySelector('{part(name)}').textContent"))


def is_shown(page: Page, name: str) -> bool:
    return bool(page.ask(f"document.querySelector('{part(name)}').checkVisibility()"))


def choose(page: Page, name: str, value: str) -> None:
    page.ask(f"document.querySelector('{part(name)}').value = {value!r}")
    page.ask(f"document.querySelector('{part(name)}').dispatchEvent(new Event('change'))")


def saved(run: Path) -> list[dict[str, str]]:
    with (run / "reviewed.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def until_saved(session: Session, decided: int | dict[int, int]) -> None:
    """Until so many, or just these, are decided."""
    until = time.monotonic() + 20
    while decided not in (len(session.decided), session.decided):
        assert time.monotonic() < until, session.decided
        time.sleep(0.02)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Classes sport, money, film; the suspects are given money, and film is suggested."""
    return write_run(tmp_path / "run", texts=TEXTS)


def test_it_is_done_with_the_keyboard_alone(page: Page, run: Path) -> None:
    with shown(page, run) as session:
        rows = [one.row for one in session.shown]
        assert text(page, "count") == "0 of 20 decided"
        assert text(page, "suggested") == "film"
        assert text(page, "kept") == "money"
        page.press("a", "r", "1", "2", "3")
        assert text(page, "count") == "5 of 20 decided"
        assert text(page, "tally") == "2 accepted, 1 corrected, 2 kept"
        assert text(page, "title") == "6 of 20"
        page.press("ArrowRight", "j", "ArrowLeft")
        assert text(page, "title") == "7 of 20"
        page.press("u")
        assert text(page, "count") == "4 of 20 decided"
        assert text(page, "title") == "5 of 20"
        assert "Given money, suggested film" not in text(page, "said")
        page.press("R")
        assert text(page, "said").startswith("kept: money. Given money, suggested film.")
        until_saved(session, dict(zip(rows, (2, 1, 0, 1, 1), strict=False)))
        assert page.problems == []
    assert [line["label"] for line in saved(run)] == ["film", "money", "sport", "money", "money"]


def test_one_goes_on_where_one_stopped_and_undoes_what_was_before(page: Page, run: Path) -> None:
    with shown(page, run) as session:
        page.press("a", "a", "1")
        until_saved(session, 3)
    with shown(page, run) as session:
        assert text(page, "count") == "3 of 20 decided"
        assert text(page, "title") == "4 of 20"
        page.press("u")
        until_saved(session, 2)
        assert text(page, "title") == "3 of 20"
        choose(page, "show", "decided")
        assert text(page, "title") == "1 of 20"
        assert text(page, "verdict") == "accepted: film"
        pressed = "document.querySelectorAll('.answer[aria-pressed=true]').length"
        assert page.ask(pressed) == 1
        page.press("1")
        assert text(page, "tally") == "1 accepted, 1 corrected"
        page.press("u", "u")
        assert text(page, "tally") == "1 accepted", "the first is as it was, the second open again"


def test_all_that_is_decided_says_how_to_go_on(page: Page, run: Path) -> None:
    with shown(page, run) as session:
        page.press(*"a" * 20)
        assert is_shown(page, "done")
        assert not is_shown(page, "case")
        assert text(page, "done-words") == "All decided."
        assert "Ctrl-C" in text(page, "done-next")
        page.press("a", "1")
        assert text(page, "count") == "20 of 20 decided", "nothing is there to decide"
        page.press("u")
        assert is_shown(page, "case")
        until_saved(session, 19)


def test_examples_are_filtered_by_their_given_class(page: Page, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", classes=["w", "x", "y", "z"])
    with shown(page, run) as session:
        options = f"[...document.querySelector('{part('given')}').options].map(o => o.text)"
        assert page.ask(options) == ["any label", "w", "x", "y", "z"]
        choose(page, "given", "2")
        of_class = sum(one.given == "y" for one in session.shown)
        assert text(page, "count") == f"0 of {of_class} decided"
        assert text(page, "kept") == "y"
        page.press(*"a" * of_class)
        assert text(page, "done-words") == "Nothing left with this filter."
        until_saved(session, of_class)
        assert {session.all[row].given for row in session.decided} == {"y"}


def test_one_of_many_classes_is_found_by_typing(page: Page, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", classes=MANY)
    with shown(page, run) as session:
        first, second = session.shown[:2]
        page.press("/", *"CLASS k", "Enter")
        until_saved(session, 1)
        assert session.decided == {first.row: 10}
        page.press("/", *"a1", "Escape", "3")
        until_saved(session, 2)
        assert session.decided[second.row] == 2, "what is typed into the field decides nothing"


def test_a_digit_that_names_a_class_is_its_key(page: Page, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", workflow="prune", images=True,
                    classes=[str(i) for i in range(10)], methods=pruning())  # fmt: skip
    with shown(page, run) as session:
        page.wait("document.images.length && document.images[0].naturalWidth === 8")
        page.press("0", "9")
        until_saved(session, 2)
        assert [session.classes[label] for label in session.decided.values()] == ["0", "9"]
        assert page.problems == []


def test_keys_are_told_and_modifiers_are_the_browsers(page: Page, run: Path) -> None:
    with shown(page, run) as session:
        page.press("?")
        assert is_shown(page, "help")
        page.press("a")
        page.press("Escape")
        assert not is_shown(page, "help")
        page.call("Input.dispatchKeyEvent", type="keyDown", key="a", modifiers=2)
        page.call("Input.dispatchKeyEvent", type="keyDown", key="a", text="a", autoRepeat=True)
        assert text(page, "count") == "0 of 20 decided"
        # By Tab to a button, and with Enter.
        page.ask(f"document.querySelector('{part('content')}').focus()")
        page.press("Tab")
        assert page.ask("document.activeElement.dataset.do") == "accept"
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.ask(outline) == "solid", "focus is seen"
        page.press("Enter")
        assert text(page, "tally") == "1 accepted"
        until_saved(session, 1)


def test_what_is_not_saved_is_said_and_taken_back(
    page: Page, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shown(page, run) as session:
        page.press("a")
        until_saved(session, 1)
        real = session_module.written

        @contextlib.contextmanager
        def full(_: Path) -> Any:
            raise OSError(28, "No space left on device")
            yield

        monkeypatch.setattr(session_module, "written", full)
        page.press("r", "r")
        page.wait(f"!document.querySelector('{part('trouble')}').hidden")
        assert "No space left on device" in text(page, "trouble")
        assert text(page, "count") == "1 of 20 decided"
        assert text(page, "title") == "2 of 20"
        monkeypatch.setattr(session_module, "written", real)
        page.press("r")
        page.wait(f"document.querySelector('{part('trouble')}').hidden")
        assert session.counts.kept == 1
    page.press("r")
    page.wait(f"!document.querySelector('{part('trouble')}').hidden")
    assert "sama review has ended" in text(page, "trouble")
    assert text(page, "count") == "2 of 20 decided"
    page.problems.clear()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_it_fits_and_complains_of_nothing(
    page: Page, tmp_path: Path, theme: str, width: int
) -> None:
    runs = [
        write_run(tmp_path / "text", texts=TEXTS, classes=MANY),
        write_run(tmp_path / "a-very-long-name-of-a-run" / "image" / ("long" * 20),
                  workflow="prune", images=True, methods=pruning()),
    ]  # fmt: skip
    for run in runs:
        with shown(page, run, width, theme) as session:
            for _ in range(min(len(TEXTS), 8)):
                page.press("a")
                page.wait(f"document.querySelector('{part('content')}').children.length > 0")
                assert page.ask("document.documentElement.scrollWidth") <= width
            page.press("k")
            assert page.ask(CONTRAST) >= 4.5
            assert page.ask("typeof window.hacked") == "undefined"
            red = int(page.ask(BACKGROUND).split("(")[1].split(",")[0])
            assert red < 64 if theme == "dark" else red > 192
            unnamed = "[...document.querySelectorAll('button')].filter(b => !b.textContent.trim())"
            assert page.ask(f"{unnamed}.length") == 0
            assert page.ask("document.querySelectorAll('[role=status], [role=alert]').length") == 2
            until_saved(session, session.counts.decided)
            assert page.problems == []


def test_nothing_moves_for_who_wants_it_still(page: Page, run: Path) -> None:
    moving = f"getComputedStyle(document.querySelector('{part('content')} > *')).animationName"
    with shown(page, run):
        assert page.ask(moving) == "arrive", "else nothing was tested"
        page.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-reduced-motion", "value": "reduce"}],
        )
        assert page.ask(moving) == "none"


# The report's download


def downloaded(page: Page, folder: Path) -> bytes:
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    page.ask("document.querySelector('#review-dialog .download').click()")
    until = time.monotonic() + 20
    while not (folder / "reviewed.csv").is_file():
        assert time.monotonic() < until, list(folder.iterdir())
        time.sleep(0.02)
    return (folder / "reviewed.csv").read_bytes()


@pytest.mark.parametrize("images", [False, True])
def test_a_report_downloads_what_a_review_saves(page: Page, tmp_path: Path, images: bool) -> None:
    classes = ["sport", "=money()", 'fi"lm, too']
    more: dict[str, Any] = {"images": True} if images else {"texts": TEXTS}
    run = write_run(tmp_path / "run", classes=classes, **more)
    report = build_report(run)
    page.problems.clear()
    page.requests.clear()
    page.show(report, width=1100)
    page.press("a")
    assert page.ask("document.querySelector('#review-dialog .download').disabled") is True
    page.ask("document.getElementById('review-open').click()")
    page.press("a", "r", "1", "2", "3", "u")
    assert text(page, "count") == "4 of 20 decided"
    (tmp_path / "downloads").mkdir()
    found = downloaded(page, tmp_path / "downloads")
    with opened(run, 1000) as session:
        rows = [one.row for one in session.shown]
        for row, label in zip(rows, (2, 1, 0, 1), strict=False):
            session.decide(row, label)
    assert found == (run / "reviewed.csv").read_bytes()
    assert page.problems == []
    urls = {url for url in page.requests if not url.startswith(("data:", "blob:"))}
    assert urls == {report.as_uri()}

    # Kept by the browser, and shown on the cards.
    page.show(report, width=1100)
    assert page.ask("document.getElementById('review-kept').textContent").startswith("4 decided")
    cards = "[...document.querySelectorAll('#suspects [data-decided]')].map(c => c.dataset.decided)"
    assert page.ask(cards) == [classes[i] for i in (2, 1, 0, 1)]
    page.ask("document.getElementById('review-open').click()")
    assert text(page, "title") == "5 of 20"
    page.press("Escape")
    assert page.ask("document.getElementById('review-dialog').open") is False


def test_a_report_has_no_line_of_what_it_does_not_show_whole(page: Page, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", texts=["word " * 5000])
    page.show(build_report(run), width=360)
    page.ask("document.getElementById('review-open').click()")
    page.wait(f"document.querySelector('{part('content')}').textContent.includes('too long')")
    page.press("a", "r", "1")
    assert text(page, "count") == "0 of 20 decided"
    assert page.ask("document.querySelector('#review-dialog').scrollWidth") <= 360
