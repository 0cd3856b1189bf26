"""docs/licences.md: every package that samacli needs at run time, with its licence.

From the installed packages' own metadata, without a network. `make licences` writes the page; the
tests refuse a dependency whose licence is not in `ALLOWED`.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PAGE = Path(__file__).with_name("licences.md")
HEAD = """# Licences of what samacli needs

Made by `make licences` from the installed packages' own metadata: samacli's dependencies and
theirs, without the extras for development. All may be used, changed and passed on, also in closed
products; MPL-2.0 asks for the sources of its own files where they were changed.

| package | licence |
| --- | --- |
"""
# Permissive, or weakly protective of their own files alone.
ALLOWED = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python|Zlib|MPL|Mozilla|Unlicense|CC0|HPND|0BSD|CNRI|BSL-1"
    r"|Public Domain|Historical Permission|Dual License",
    re.IGNORECASE,
)
# The whole product would have to follow; "LGPL" and "or" leave a choice.
FORBIDDEN = re.compile(r"(?<!L)GPL(?!.* OR )|AGPL|SSPL|Commons Clause|NonCommercial", re.IGNORECASE)
# Said by no metadata field, read in the package's own LICENSE file.
READ = {"fonttools": "MIT"}


def needed(root: str = "samacli", extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """`root`'s dependencies and theirs that are installed and wanted here, by name."""
    found: dict[str, Distribution] = {}
    waiting = [(root, extras)]
    seen = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            one = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform, or an optional one
        found[one.name.lower().replace("_", "-")] = one
        for line in one.requires or []:
            needs = Requirement(line)
            marker = needs.marker
            asked = [{"extra": extra} for extra in wanted] or [{"extra": ""}]
            if marker is None or any(marker.evaluate(context) for context in asked):
                waiting.append((needs.name, frozenset(needs.extras)))
    found.pop(root)
    return dict(sorted(found.items()))


def licence(package: Distribution) -> str:
    """What the metadata say: the SPDX expression, the classifiers, or the licence's first line."""
    about = package.metadata
    if about.get("License-Expression"):
        return about["License-Expression"]
    classifiers = [
        line.split("::")[-1].strip()
        for line in about.get_all("Classifier") or []
        if line.startswith("License ::") and not line.endswith("OSI Approved")
    ]
    if classifiers:
        return ", ".join(dict.fromkeys(classifiers))
    said = (about.get("License") or "").strip().splitlines()
    if said:
        return said[0]
    return READ.get(package.name.lower(), "not said")


def page() -> str:
    lines = [f"| {name} | {licence(package)} |" for name, package in needed().items()]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
