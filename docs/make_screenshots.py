"""docs/screenshots/*.png: the reports of the demos in a headless Chromium.

Run it by `make report-screenshots`, which runs the demos first where they have not been run.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from samacli.report import build_report
from tests.browser import browser, chromium

SHOTS = (("light", 1100, 1500), ("dark", 1100, 1500), ("narrow", 390, 2000))


def main(runs: Path, folder: Path) -> None:
    if chromium() is None:
        sys.exit("chromium is not installed; on Debian: apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as page:
        for run in ("demo-text", "demo-vision"):
            report = build_report(runs / run)
            for name, width, height in SHOTS:
                page.show(report, width=width, theme="dark" if name == "dark" else "light")
                assert page.problems == [], page.problems
                picture = Image.open(io.BytesIO(page.picture(height=height)))
                # A page has few colours: a palette halves the file and shows no difference.
                few = picture.convert("RGB").quantize(192, dither=Image.Dither.NONE)
                few.save(folder / f"{run}-{name}.png", optimize=True)


if __name__ == "__main__":
    main(Path("runs"), Path("docs/screenshots"))
