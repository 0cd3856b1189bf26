"""What a non-editable installation carries."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import tomllib
from packaging.requirements import Requirement
from packaging.version import Version

import samacli
from samacli.recipe import built_in_recipes

ROOT = Path(__file__).resolve().parents[1]


def test_a_wheel_carries_every_recipe_and_finds_them(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    unpacked = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    (metadata,) = unpacked.glob("*.dist-info/METADATA")
    assert "License-Expression: Apache-2.0" in metadata.read_text(encoding="utf-8")
    (licence,) = unpacked.glob("*.dist-info/licenses/LICENSE")
    assert "Apache License" in licence.read_text(encoding="utf-8")
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "from samacli.recipe import built_in_recipes; "
            "print(*built_in_recipes(), next(iter(built_in_recipes().values())))",
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(unpacked), "PATH": ""},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert found[:-1] == list(built_in_recipes())
    assert found[-1].startswith(str(unpacked))


def test_changelog_and_citation_are_of_this_version() -> None:
    import yaml

    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert changes.split("\n## ")[1].startswith(samacli.__version__)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == samacli.__version__
    assert citation["license"] == "Apache-2.0"
    assert citation["preferred-citation"]["authors"]


def test_the_readme_names_only_recipes_that_exist() -> None:
    import re

    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"sama (?:reweight|prune) ([a-z][a-z0-9-]+)(?=\s)", text):
        assert name in built_in_recipes(), name


def test_the_oldest_constraints_are_the_lower_bounds() -> None:
    """What was tried at its oldest is what may be installed, and nothing older."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [Requirement(line) for line in project["dependencies"]]
    bounds = {r.name: Version(next(iter(r.specifier)).version) for r in needed}
    assert all(str(r.specifier).startswith(">=") for r in needed)
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {name: Version(version) for name, version in pinned.items()} == bounds
