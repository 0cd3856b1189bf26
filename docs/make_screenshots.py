"""docs/screenshots/*.png: the demos' reports, and their review, in a headless Chromium.

Run it by `make report-screenshots`, which runs the demos first where they have not been run.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from samacli.report import build_report
from samacli.review import opened, served
from tests.browser import Page, browser, chromium

SHOTS = (("light", 1100, 1500), ("dark", 1100, 1500), ("narrow", 390, 2000))
REVIEW_SHOTS = (("light", 1100, 900), ("dark", 1100, 900), ("narrow", 360, 800))
RUNS = ("demo-text", "demo-vision")


def main(runs: Path, folder: Path) -> None:
    if chromium() is None:
        sys.exit("chromium is not installed; on Debian: apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as page:
        for run in RUNS:
            report = build_report(runs / run)
            for name, width, height in SHOTS:
                page.show(report, width=width, theme="dark" if name == "dark" else "light")
                save(page, folder / f"{run}-{name}.png", height)
            review(page, runs / run, folder)


def review(page: Page, run: Path, folder: Path) -> None:
    """`sama review` with some decisions made, on a copy of the run."""
    with tempfile.TemporaryDirectory() as there:
        own = Path(there, "runs", run.name)
        shutil.copytree(run, own, ignore=shutil.ignore_patterns("model", "reviewed*"))
        asked = opened(own.relative_to(there), 1000)
        with contextlib.chdir(there), asked as session, served(session, 0) as address:
            for name, width, height in REVIEW_SHOTS:
                theme = "dark" if name == "dark" else "light"
                page.show(address, width=width, height=height, theme=theme)
                page.press(*"aaara2aaaraaa")
                page.wait("document.querySelector('[data-part=content]').children.length > 0")
                page.wait("document.getAnimations().every((a) => a.playState === 'finished')")
                file = f"{run.name.replace('demo', 'review')}-{name}.png"
                save(page, folder.resolve() / file, None)


def save(page: Page, file: Path, height: int | None) -> None:
    assert page.problems == [], page.problems
    picture = Image.open(io.BytesIO(page.picture(height=height)))
    # A page has few colours: a palette halves the file and shows no difference.
    few = picture.convert("RGB").quantize(192, dither=Image.Dither.NONE)
    few.save(file, optimize=True)


if __name__ == "__main__":
    main(Path("runs"), Path("docs/screenshots"))
