"""Score shards: a folder of Parquet files that grows while a data set is scored.

    DIR/manifest.json              what is scored, with what, how, and (at the end) every shard
    DIR/scores-000000.parquet …    rows_a_shard rows each, the last one what is left

Shard i holds rows i·rows_a_shard and on of the data set. A shard appears by a rename, so one that
is there is whole: a run that was killed goes on with those that are not. Whoever goes on must score
the same data with the same model and settings, which the manifest tells. Several processes write
shards of their own; the first of them then sees that all are there and finishes the manifest.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from samacli.errors import SamaError, counted
from samacli.export.metrics import write_metrics
from samacli.store.output import check_parent, written

MANIFEST_FILE = "manifest.json"
_VERSION = 1
_SETTLED = ("model", "data", "settings")  # what must be the same when a run goes on
_POLL_SECONDS = 0.2


class ScoreShards:
    """The shards in one folder, of one scoring. Made by `open_shards`."""

    def __init__(self, folder: Path, rows_a_shard: int) -> None:
        self.folder = folder
        self.rows_a_shard = rows_a_shard

    def file(self, shard: int) -> Path:
        """Where shard number `shard` is, or will be."""
        return self.folder / f"scores-{shard:06d}.parquet"

    def rows(self, shard: int) -> int | None:
        """How many rows a finished shard has; None while it is not there, or not readable."""
        try:
            return pq.read_metadata(self.file(shard)).num_rows
        except (OSError, pa.ArrowException):
            return None

    def write(self, shard: int, columns: Mapping[str, Any]) -> None:
        """Write a shard, whole or not at all; columns of equal length (numpy or Arrow arrays)."""
        with written(self.file(shard)) as stage:
            pq.write_table(pa.table(dict(columns)), stage)
            # The name must not outlive the contents if the machine goes down.
            with stage.open("rb") as file:
                os.fsync(file.fileno())

    def finish(self, rows: int) -> None:
        """Say in the manifest that all `rows` rows are scored, and where each of them is.

        Raises:
            SamaError: a shard is missing or has not the rows that it should have.
        """
        shards = []
        for shard, expected in enumerate(sizes(rows, self.rows_a_shard)):
            found = self.rows(shard)
            if found != expected:
                raise SamaError(
                    f"{self.file(shard)} "
                    + (
                        "is missing"
                        if found is None
                        else f"has {counted(found, 'row')}, not {expected:,}"
                    )
                    + "; run the same command again, which goes on with the shards that are there"
                )
            shards.append(
                {"file": self.file(shard).name, "first": shard * self.rows_a_shard, "rows": found}
            )
        manifest = _read(self.folder)
        _write(self.folder, {**manifest, "finished": True, "rows": rows, "shards": shards})

    def wait_for(self, rows: int) -> None:
        """Wait until other processes have written their shards of all `rows` rows.

        By looking at the folder: a collective of torch would give up after its time-out. If a
        process fails, the launcher ends the others.
        """
        for shard, expected in enumerate(sizes(rows, self.rows_a_shard)):
            while self.rows(shard) != expected:
                time.sleep(_POLL_SECONDS)


def sizes(rows: int, rows_a_shard: int) -> list[int]:
    """The number of rows of each shard of a data set."""
    whole, left = divmod(rows, rows_a_shard)
    return [rows_a_shard] * whole + ([left] if left else [])


def open_shards(
    folder: Path,
    *,
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    rows_a_shard: int,
    overwrite: bool = False,
) -> ScoreShards:
    """The shards in `folder`, which is made, or goes on from where it was left.

    model, data, settings: what tells this scoring from others, as JSON values. overwrite: start
    again, without the shards of another scoring. Only one process calls this; others then call
    `join_shards`.

    Raises:
        SamaError: the folder holds another scoring and `overwrite` is not set, or holds something
            else, or cannot be written.
    """
    shards = ScoreShards(folder, rows_a_shard)
    ours = {
        "version": _VERSION,
        "model": dict(model),
        "data": dict(data),
        "settings": {**settings, "rows_a_shard": rows_a_shard},
    }
    if folder.is_file():
        raise SamaError(f"--output '{folder}' is a file; name a directory")
    check_parent("--output", folder / MANIFEST_FILE, called="directory")
    if not (folder / MANIFEST_FILE).exists():
        if any(not name.startswith(".") for name in os.listdir(folder)):
            raise SamaError(
                f"--output '{folder}' is not empty and holds no scores of ours (no "
                f"{MANIFEST_FILE}); name another directory"
            )
    elif overwrite:
        (folder / MANIFEST_FILE).unlink()
        for file in folder.glob("scores-*.parquet"):
            file.unlink()
    else:
        _check_same(folder, ours)
    for file in folder.glob(".scores-*.parquet"):
        file.unlink()  # begun by a process that was killed
    if not (folder / MANIFEST_FILE).exists():
        _write(folder, {**ours, "finished": False})
    return shards


def join_shards(folder: Path, rows_a_shard: int) -> ScoreShards:
    """The shards that another process has opened.

    Raises:
        SamaError: they are not to be seen from here.
    """
    if not (folder / MANIFEST_FILE).exists():
        raise SamaError(
            f"--output '{folder}' is not the same directory for all processes; put it on a file "
            "system that all machines share"
        )
    return ScoreShards(folder, rows_a_shard)


def is_finished(folder: Path) -> bool:
    """Whether the folder's manifest says that all rows are scored."""
    return bool(_read(folder).get("finished"))


def check_finished(folder: Path) -> None:
    """Refuse a folder of shards whose scoring has not come to its end; any other is let pass.

    Raises:
        SamaError: it has not, or its shards are not those that the manifest tells of.
    """
    if not (folder / MANIFEST_FILE).exists():
        return
    manifest = _read(folder)
    if not manifest.get("finished"):
        raise SamaError(
            f"the scores in {folder} are not finished; run the same sama score command again, "
            "which goes on with what is missing"
        )
    listed = {shard["file"] for shard in manifest["shards"]}
    found = {file.name for file in folder.glob("*.parquet")}
    for name in sorted(listed ^ found):
        fault = "is missing from" if name in listed else "is no shard of"
        raise SamaError(f"{name} {fault} the finished scores in {folder}; score them again")


def _check_same(folder: Path, ours: dict[str, Any]) -> None:
    theirs = _read(folder)
    if theirs.get("version") != _VERSION:
        raise SamaError(
            f"{folder / MANIFEST_FILE} is of another version of samacli; name another directory, "
            "or add --overwrite to start again"
        )
    # As JSON gives it back: tuples as lists, and so on.
    wanted = json.loads(json.dumps(ours))
    for part in _SETTLED:
        before, now = theirs.get(part, {}), wanted[part]
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                raise SamaError(
                    f"--output '{folder}' holds scores of another {part}: {key} was "
                    f"{_short(before.get(key))} and is {_short(now.get(key))}; name another "
                    "directory, or add --overwrite to start again"
                )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def _read(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST_FILE
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SamaError(f"{file} cannot be read: {error}") from error
    if not isinstance(manifest, dict):
        raise SamaError(f"{file} is no manifest of scores")
    return manifest


def _write(folder: Path, manifest: dict[str, Any]) -> None:
    with written(folder / MANIFEST_FILE) as stage:
        write_metrics(stage, manifest)
