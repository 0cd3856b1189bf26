"""The report in a real browser: both themes, a phone's width, filters, and no complaint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from samacli.report import build_report
from tests.browser import Page, browser, chromium
from tests.report.runs import pruning, write_run
from tests.report.test_report import HOSTILE

pytestmark = pytest.mark.skipif(chromium() is None, reason="chromium is not installed")

BACKGROUND = "getComputedStyle(document.body).backgroundColor"
SHOWN = "[...document.querySelectorAll('#suspects .example')].filter(e => !e.hidden).length"
# Relative luminance and contrast by WCAG 2.2, of each text's colour against the page's.
CONTRAST = """(() => {
  const rgb = (colour) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((c) => c / 255);
  };
  const luminance = (colour) => rgb(colour)
    .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)$/.test(colour) && !/\\/ 0\\.?\\d*\\)/.test(colour)) return colour;
    }
  };
  const told = "p, li, td, th, dt, dd, a, h1, h2, caption, text";
  return Math.min(...[...document.querySelectorAll(told)]
    .map((e) => {
      const style = getComputedStyle(e);
      const ink = e.tagName === "text" ? style.fill : style.color;
      const pair = [luminance(ink), luminance(ground(e))];
      return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    }));
})()"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("browser")
    texts = [text for text in HOSTILE if "\ud83d" not in text] + ["a_very_long_word" * 40]
    wide = [f"class number {i}, whose name is long" for i in range(11)]
    return [
        build_report(write_run(folder / "text", texts=texts)),
        build_report(
            write_run(
                folder / "images", workflow="prune", images=True, classes=wide, methods=pruning()
            )
        ),
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_it_fits_and_complains_of_nothing(
    page: Page, reports: list[Path], theme: str, width: int
) -> None:
    for report in reports:
        page.problems.clear()
        page.requests.clear()
        page.show(report, width=width, theme=theme)
        assert page.problems == []
        assert [url for url in page.requests if not url.startswith("data:")] == [report.as_uri()]
        assert page.ask("typeof window.hacked") == "undefined"
        assert page.ask("document.documentElement.scrollWidth") <= width
        assert page.ask("[...document.images].every(i => i.complete && i.naturalWidth)") is True
        red = int(page.ask(BACKGROUND).split("(")[1].split(",")[0])
        assert red < 64 if theme == "dark" else red > 192
        assert page.ask(CONTRAST) >= 4.5


def test_the_button_turns_the_theme_round(page: Page, reports: list[Path]) -> None:
    page.show(reports[0], width=800, theme="light")
    light = page.ask(BACKGROUND)
    button = "document.getElementById('theme')"
    for expected in ("light", "dark"):
        page.ask(f"{button}.click()")
        assert page.ask("document.documentElement.dataset.theme") == expected
        assert expected in page.ask(f"{button}.textContent")
    assert page.ask(BACKGROUND) != light
    page.ask(f"{button}.click()")
    assert page.ask(BACKGROUND) == light


def test_examples_are_searched_and_filtered(page: Page, reports: list[Path]) -> None:
    page.show(reports[0], width=800)
    form = "document.querySelector('#suspects form')"
    assert page.ask(SHOWN) == 12
    page.ask("document.querySelector('#suspects .more').click()")
    everything = page.ask(SHOWN)
    assert everything == 20

    def fill(name: str, value: str) -> int:
        page.ask(f"{form}.elements.{name}.value = {value!r}")
        page.ask(f"{form}.dispatchEvent(new Event('input'))")
        return int(page.ask(SHOWN))

    found = fill("search", "ONERROR img")
    assert 0 < found < everything
    assert f"{found} of {found}" in page.ask(f"{form}.querySelector('output').textContent")
    assert fill("search", "nothing like it") == 0
    fill("search", "")
    assert fill("given", "money") == 12, "every suspect is labelled so"

    page.show(reports[1], width=800)
    name = page.ask(f"{form}.elements.given.options[3].value")
    of_name = f"document.querySelectorAll('#suspects .example[data-given=\"{name}\"]').length"
    assert fill("given", name) == page.ask(of_name) > 0


def test_without_scripts_every_example_is_there(page: Page, reports: list[Path]) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.show(reports[0], width=390)
        shown = page.call("DOM.getDocument", depth=-1)
        ids = page.call(
            "DOM.querySelectorAll", nodeId=shown["root"]["nodeId"], selector="#suspects .example"
        )
        assert len(ids["nodeIds"]) == 20
        hidden = page.call(
            "DOM.querySelectorAll", nodeId=shown["root"]["nodeId"], selector=".example[hidden]"
        )
        assert hidden["nodeIds"] == []
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
