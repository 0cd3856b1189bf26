"""A nested state as two files: tensors in safetensors, everything else in JSON. No pickle.

A tree is dicts with string keys and lists, down to None, bool, int, float, str, tensors and NumPy
arrays. What is read back is equal to the bit; tuples come back as lists. `pack` makes a tree of a
result, `unpack` the result again.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Tree = Any

_TENSOR, _ARRAY, _FLOAT = "$tensor", "$array", "$float"


def write_tree(folder: Path, name: str, tree: Tree) -> None:
    """Write `tree` to `name`.json and `name`.safetensors in an existing folder.

    Raises TypeError for a leaf of another type, ValueError for a key that is reserved.
    """
    tensors: dict[str, Tensor] = {}
    plain = _without_tensors(tree, "", tensors)
    save_file(_separate(tensors), folder / f"{name}.safetensors")
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False)
    (folder / f"{name}.json").write_text(text, encoding="utf-8")


def read_tree(folder: Path, name: str) -> Tree:
    """What `write_tree` wrote; tensors on the CPU.

    Raises OSError, ValueError or safetensors' own error where the files are missing or damaged.
    """
    plain = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return _with_tensors(plain, load_file(folder / f"{name}.safetensors"))


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A directory to write into that takes the place of `folder` when the block ends well.

    It is on the disk before it gets its name, so that whatever happens `folder` is whole: the old
    one or the new. If the block fails, nothing is left of the new one.
    """
    stage = staging(folder)
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    try:
        yield stage
        commit(stage, folder)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def staging(folder: Path) -> Path:
    """Where `folder` is written before it gets its name: beside it, hidden."""
    return folder.with_name(f".{folder.name}.writing")


def commit(stage: Path, folder: Path) -> None:
    """Bring all of `stage` to the disk, then give it its name."""
    for path in [*stage.rglob("*"), stage]:
        _sync(path)
    if folder.exists():
        shutil.rmtree(folder)
    stage.rename(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows has no way to open a directory
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _without_tensors(tree: Tree, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, dict):
        for key in tree:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} at '{path}' is no string")
            if key.startswith("$"):
                raise ValueError(f"the key {key!r} at '{path}' begins with $")
        return {k: _without_tensors(v, f"{path}.{k}", tensors) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_tensors(v, f"{path}.{i}", tensors) for i, v in enumerate(tree)]
    if isinstance(tree, Tensor | np.ndarray):
        key = path.removeprefix(".")
        if isinstance(tree, Tensor):
            tensors[key] = tree.detach()
            return {_TENSOR: key}
        tensors[key] = torch.from_numpy(np.ascontiguousarray(tree))
        return {_ARRAY: key}
    if isinstance(tree, float) and not math.isfinite(tree):
        return {_FLOAT: repr(float(tree))}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"{type(tree).__name__} at '{path}' cannot be saved")


def _with_tensors(plain: Any, tensors: dict[str, Tensor]) -> Tree:
    if isinstance(plain, list):
        return [_with_tensors(value, tensors) for value in plain]
    if not isinstance(plain, dict):
        return plain
    if _TENSOR in plain:
        return tensors[plain[_TENSOR]]
    if _ARRAY in plain:
        return tensors[plain[_ARRAY]].numpy()
    if _FLOAT in plain:
        return float(plain[_FLOAT])
    return {key: _with_tensors(value, tensors) for key, value in plain.items()}


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, whole and in memory of their own: tied weights would be refused otherwise."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        value = tensor.cpu().contiguous()
        storage = value.untyped_storage()
        if storage.nbytes() != value.nbytes or storage.data_ptr() in seen:
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        result[name] = value
    return result


def pack(value: Any) -> Tree:
    """A dataclass of numbers, text, arrays, lists, dicts and such dataclasses; models become None.

    Where a field's type allows no model, `unpack` gives back an equal object.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: pack(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: pack(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [pack(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return None if isinstance(value, nn.Module) else value


def unpack(kind: Any, tree: Tree) -> Any:
    """An object of the type `kind` from what `pack` made of it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        chosen = [one for one in arguments if one is not types.NoneType]
        return None if tree is None else unpack(chosen[0], tree)
    if tree is None:
        return None
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: unpack(hints[name], value) for name, value in tree.items()})  # type: ignore[operator]
    if origin is dict:
        return {key: unpack(arguments[1], value) for key, value in tree.items()}
    if origin is tuple:
        inner = [arguments[0]] * len(tree) if arguments[-1] is Ellipsis else arguments
        return tuple(unpack(one, value) for one, value in zip(inner, tree, strict=True))
    if origin in (list, Sequence):
        return [unpack(arguments[0], value) for value in tree]
    return tree
