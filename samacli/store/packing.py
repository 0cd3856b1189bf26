"""Results as trees (`samacli.store.tree`) and back: dataclasses of plain fields."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from torch import nn

from samacli.store.tree import Tree


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
