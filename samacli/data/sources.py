"""Which source a recipe means, and one of its splits as a table.

A split is named by the recipe either as a split of the source at `data.path` or as a file of its
own. The kind of source is found from what stands at the path, unless the recipe says it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import datasets

from samacli.data import files, imagefolder, wrench
from samacli.data.confine import refuse_outside
from samacli.data.demo import read_demo
from samacli.data.hub import load_hub
from samacli.data.sheet import as_data
from samacli.data.table import Table
from samacli.errors import SamaError, nearest
from samacli.recipe.schema import Data

_ALIASES = (
    ("train", "training"),
    ("validation", "valid", "val", "dev"),
    ("test", "testing"),
)
_USUAL = {alias for group in _ALIASES for alias in group}
# What else a folder of images is called that holds a split, not a class.
_ALSO_SPLITS = {"meta", "clean", "trusted", "eval", "evaluation", "holdout", "unlabelled"}
_SHARD = re.compile(r"^(?P<split>.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?$")


class NoDataError(SamaError):
    """A folder that holds no data set of any kind."""


@dataclass
class Source:
    """A source at a path: the names of its splits, and how one of them is read."""

    name: str
    splits: list[str]
    read: Callable[[str], Table]


def make_opener(
    config: Data, tables: Mapping[str, Table] | None = None
) -> Callable[[str, str], Table]:
    """A function (name, option) -> Table that opens a split or a file by what the recipe calls it.

    tables: rows that a program has already, by name; they are looked at first.
    `option` ("data.meta") is named in messages. The source at `data.path` is opened once, and only
    when a split of it is asked for.
    """
    source: Source | None = None

    def open_table(name: str, option: str) -> Table:
        table = as_data(opened(name, option))
        if config.image_root is not None:
            table.base = Path(config.image_root).expanduser()
        return table

    def opened(name: str, option: str) -> Table:
        nonlocal source
        if tables is not None and name in tables:
            return replace(tables[name], notes=[])
        path = _file_named(config, name)
        if path is not None:
            return _read_path(config, path, option)
        if config.path is None:
            raise SamaError(
                f"{option} is '{name}', which is no file, and data.path does not say where a split "
                "of that name would be; set one of them"
            )
        if source is None:
            source = _open_source(config, config.path)
        found = match_split(name, source.splits)
        if found is None:
            raise SamaError(
                f"{source.name} has no split '{name}' ({option}); its splits are: "
                f"{', '.join(source.splits) or 'none'}{nearest(name, source.splits)}"
            )
        return source.read(found)

    return open_table


def match_split(name: str, splits: list[str]) -> str | None:
    """The split called `name`, or the one with another usual name for the same thing, in small or
    capital letters."""
    if name in splits:
        return name
    small = {split.lower(): split for split in reversed(splits)}
    for group in (*_ALIASES, (name,)):
        if name in group:
            return next((small[alias] for alias in group if alias in small), None)
    return None


def _file_named(config: Data, name: str) -> Path | None:
    """The file or folder that `name` means, or None when it is the name of a split."""
    candidates = [Path(name).expanduser()]
    if config.path is not None and config.source not in ("hub", "demo"):
        candidates.append(Path(config.path).expanduser() / name)
    written_as_file = files.file_kind(Path(name)) is not None or "/" in name
    for candidate in candidates:
        # A plain word is a split's name, even if the working directory has a file called so.
        if candidate.exists() and (written_as_file or config.path is None):
            return candidate
    if written_as_file:
        raise SamaError("there is no file " + ", nor ".join(str(path) for path in candidates))
    return None


def _read_path(config: Data, path: Path, option: str) -> Table:
    if path.is_dir():
        try:
            source = _open_folder(config, path, "auto")
        except NoDataError:
            raise SamaError(
                f"{option} is the folder {path}, which is neither a saved dataset nor an image "
                "folder with one folder a class, and holds no data files"
            ) from None
        return source.read(_split_of(source, path, option))
    kind = config.source if config.source in files.KINDS.values() else None
    return files.read_files([path], files.file_kind(path) or kind, csv_style(config))


def _split_of(source: Source, path: Path, option: str) -> str:
    """The split of a folder that an option of one split means: its only one, or its namesake."""
    if len(source.splits) == 1:
        return source.splits[0]
    role = option.rpartition(".")[2]
    names = {"meta": ("meta", "clean", "trusted"), "--data": ("train",)}.get(role, (role,))
    for name in names:
        found = match_split(name, source.splits)
        if found is not None:
            return found
    raise SamaError(
        f"{option} is the folder {path}, which holds several splits ({', '.join(source.splits)}); "
        f"name one of them: {path / source.splits[0]}"
    )


def csv_style(config: Data) -> files.CsvStyle:
    """How the recipe says that cells of CSV files are written."""
    return files.CsvStyle(config.quoting, config.escape)


def _open_source(config: Data, path: str) -> Source:
    local = Path(path).expanduser()
    kind = config.source
    if kind == "auto":
        kind = "hub" if not local.exists() and _may_be_hub_name(path) else kind
    if kind == "demo":
        demo = read_demo(path, config.columns.text, config.columns.image, config.columns.label)
        return Source(f"demo set {path}", list(demo), demo.__getitem__)
    if kind == "hub":
        loaded = load_hub(path, config.config, config.revision)
        return Source(f"hub dataset '{path}'", list(loaded), _hub_reader(path, loaded))
    if not local.exists():
        raise SamaError(f"there is no file or folder {local} (data.path)")
    if local.is_file():
        if kind in ("wrench", "imagefolder"):
            raise SamaError(f"data.source is {kind}, but data.path is the file {local}, no folder")
        named = None if kind == "auto" else kind
        style = csv_style(config)
        return Source(str(local), ["train"], lambda _: files.read_files([local], named, style))
    return _open_folder(config, local, kind)


def _may_be_hub_name(path: str) -> bool:
    """`name` or `owner/name`, and not written like a path or a data file."""
    return (
        re.fullmatch(r"[\w][\w.-]*(/[\w.-]+)?", path) is not None
        and files.file_kind(Path(path)) is None
    )


def _hub_reader(name: str, loaded: dict[str, datasets.Dataset]) -> Callable[[str], Table]:
    return lambda split: Table(loaded[split], f"split '{split}' of {name}")


def _open_folder(config: Data, folder: Path, kind: str) -> Source:
    image, label = config.columns.image, config.columns.label
    if kind == "wrench" or (kind == "auto" and wrench.is_wrench(folder)):
        return Source(
            f"WRENCH directory {folder}",
            [split for split, file in wrench.FILES.items() if (folder / file).is_file()],
            lambda split: wrench.read_wrench(
                folder, wrench.FILES[split], label, config.seed, _true_name(config)
            ),
        )
    if kind in ("auto", "arrow") and files.is_saved_arrow(folder):
        return Source(
            f"saved dataset {folder}",
            files.saved_splits(folder) or ["train"],
            lambda split: files.read_saved_arrow(folder, split),
        )
    if kind != "imagefolder":
        found = _files_by_split(folder, None if kind == "auto" else kind)
        if found:
            return Source(
                str(folder),
                list(found),
                lambda split: files.read_files(
                    found[split], None if kind == "auto" else kind, csv_style(config)
                ),
            )
    if kind in ("auto", "imagefolder") and imagefolder.has_classes(folder):
        splits = imagefolder.image_splits(folder, _USUAL | _ALSO_SPLITS)
        return Source(
            f"image folder {folder}",
            list(splits),
            lambda split: imagefolder.read_image_folder(splits[split], image, label),
        )
    wanted = "data files or images" if kind == "auto" else f"{kind} data"
    raise NoDataError(
        f"the folder {folder} holds no {wanted} that can be read; expected files named by split "
        "(train.csv, validation.jsonl, test.parquet …), a saved dataset, a WRENCH directory, or "
        "images in folders named by their class"
    )


def _true_name(config: Data) -> str:
    wanted = config.columns.true_label or "true_label"
    return wanted if wanted != config.columns.label else "true_label"


def _files_by_split(folder: Path, kind: str | None) -> dict[str, list[Path]]:
    """Data files in `folder` (or its `data/`) by split; the files of a split in name order.

    `train.csv` and `train-00000-of-00002.parquet` are named by their split. Files of one kind
    that no split's name tells apart are all of them the training split.
    """
    for place in (folder, folder / "data"):
        if not place.is_dir():
            continue
        found: dict[str, list[Path]] = {}
        for path in sorted(place.iterdir()):
            if not path.is_file() or path.name.startswith(".") or not _wanted(path, kind):
                continue
            refuse_outside(path, folder)
            stem = path.name.split(".")[0]
            shard = _SHARD.match(stem)
            found.setdefault(shard["split"] if shard else stem, []).append(path)
        for split, paths in found.items():
            kinds = {files.file_kind(path) for path in paths}
            if len(kinds) > 1:
                names = " and ".join(path.name for path in paths)
                raise SamaError(
                    f"{place} has several files for split '{split}' ({names}); set data.source or "
                    f"name the file in data.{split if split in ('train', 'test') else 'train'}"
                )
        if found and not (_USUAL | _ALSO_SPLITS) & set(found):
            kinds = {files.file_kind(paths[0]) for paths in found.values()}
            if len(kinds) == 1:
                return {"train": [path for paths in found.values() for path in paths]}
        if found:
            return found
    return {}


def _wanted(path: Path, kind: str | None) -> bool:
    found = files.file_kind(path)
    if kind is None:
        return found is not None
    return found == kind or {found, kind} <= {"json", "jsonl"}
