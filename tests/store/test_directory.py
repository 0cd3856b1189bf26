"""Results appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from samacli.errors import SamaError
from samacli.store.output import check_output, staged


def finish(output: Path, content: str, *, overwrite: bool = False) -> None:
    with staged(output, overwrite=overwrite) as stage:
        (stage / "metrics.json").write_text(content)


def test_a_block_that_ends_well_takes_its_place(tmp_path: Path) -> None:
    finish(tmp_path / "deep" / "out", "one")
    assert (tmp_path / "deep" / "out" / "metrics.json").read_text() == "one"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"], "no stage is left behind"


def test_a_block_that_fails_leaves_the_earlier_run(tmp_path: Path) -> None:
    output = tmp_path / "out"
    finish(output, "one")

    def fail() -> None:
        with staged(output, overwrite=True) as stage:
            (stage / "metrics.json").write_text("half")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert (output / "metrics.json").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_overwritten_run_is_replaced_whole(tmp_path: Path) -> None:
    output = tmp_path / "out"
    finish(output, "one")
    (output / "old-file").write_text("")
    finish(output, "two", overwrite=True)
    assert [p.name for p in output.iterdir()] == ["metrics.json"]
    assert (output / "metrics.json").read_text() == "two"


def test_what_must_not_be_written_is_refused(tmp_path: Path) -> None:
    finish(tmp_path / "out", "one")
    with pytest.raises(SamaError, match="already holds a finished run; add --overwrite"):
        check_output(tmp_path / "out", overwrite=False)
    check_output(tmp_path / "out", overwrite=True)
    (tmp_path / "out" / "reviewed.csv").write_text("hours of a person's")
    with pytest.raises(SamaError, match=r"holds reviewed\.csv, which was made by hand"):
        check_output(tmp_path / "out", overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(SamaError, match="is a file"):
        check_output(tmp_path / "file", overwrite=True)
    with pytest.raises(SamaError, match="holds no samacli run"):
        check_output(tmp_path, overwrite=True)


def test_the_result_has_ordinary_permissions(tmp_path: Path) -> None:
    finish(tmp_path / "out", "one")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode
