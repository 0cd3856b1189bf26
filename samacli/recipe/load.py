"""From a recipe's name or file, and KEY=VALUE overrides, to a validated `Recipe`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from samacli.errors import SamaError, nearest, reason
from samacli.recipe.other_data import aside, sentence
from samacli.recipe.paths import possible_path
from samacli.recipe.retired import without_retired
from samacli.recipe.schema import Recipe
from samacli.redact import redact, redact_all
from samacli.registry import PRESETS

EXTENDS = "extends"  # a recipe file's key: the recipe that it starts from
PRESET = "preset"
# What no result depends on: words, when a run is saved, who is told of it, how images are decoded.
CHANGES_NO_RESULT = ("description", "checkpoint", "track", "track_folder", "data.workers")
_Model = TypeVar("_Model", bound=BaseModel)
_PACKAGE = Path(__file__).resolve().parent.parent
# A wheel carries the recipes inside the package; a checkout keeps them at its top level.
_RECIPE_FOLDERS = (_PACKAGE / "_recipes", _PACKAGE.parent / "recipes")


class _Loader(yaml.SafeLoader):
    """YAML without surprises: duplicate keys are errors, and 1e-3 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                continue  # the base class says what is wrong with it
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def built_in_recipes() -> dict[str, Path]:
    """The names of the recipes that come with samacli, sorted, each with its file."""
    return built_in(".")


def built_in(subfolder: str) -> dict[str, Path]:
    """The names of the YAML files in a subfolder of the recipes', sorted, each with its file."""
    for folder in _RECIPE_FOLDERS:
        if folder.is_dir():
            return {path.stem: path for path in sorted((folder / subfolder).glob("*.yaml"))}
    return {}


def recipe_path(name: str) -> Path:
    """The file of a recipe given by built-in name or by path.

    Raises:
        SamaError: there is no such file and no built-in recipe of that name.
    """
    try:
        path = Path(possible_path(name)).expanduser()
    except ValueError as error:
        raise SamaError(f"the recipe {_short(name)} cannot be read: {error}") from error
    looks_like_a_path = path.suffix in (".yaml", ".yml") or len(path.parts) > 1
    if looks_like_a_path:
        if path.is_dir():
            raise SamaError(f"the recipe '{name}' is a directory; name the YAML file in it")
        if not path.is_file():
            raise SamaError(
                f"the recipe file '{name}' does not exist; "
                "`sama recipes ls` lists the built-in ones"
            )
        return path
    known = built_in_recipes()
    if name not in known:
        raise SamaError(
            f"there is no recipe '{name}'{nearest(name, known)} (`sama recipes ls` lists them; "
            "a recipe of your own ends in .yaml)"
        )
    return known[name]


def recipe_text(path: Path) -> str:
    """What a recipe's file holds. Raises SamaError if it cannot be read or is not UTF-8 text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SamaError(f"the recipe file '{path}' cannot be read: {error}") from error


def read_yaml(text: str, where: str, kind: str = "recipe") -> dict[str, Any]:
    """Parse a recipe's text into nested dicts; `kind` and `where` name the file in errors."""
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SamaError(f"the {kind} '{where}'{place} is not valid YAML: {problem}") from error
    except (ValueError, RecursionError) as error:  # a date such as 2024-99-99, deep nesting
        raise SamaError(f"the {kind} '{where}' is not valid YAML: {reason(error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SamaError(
            f"the {kind} '{where}' must be a mapping of keys to values at its top level"
        )
    return content


def load_recipe(
    name: str | None,
    overrides: Sequence[str] = (),
    values: dict[str, Any] | None = None,
    *,
    rows: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Recipe:
    """Read, override and validate a recipe.

    From the weakest to the strongest: the schema's defaults, the recipe that the file extends, the
    file's preset, the file, a preset given here, overrides, values. One preset counts: the last.
    Of a built-in recipe that others' data are given to, `other_data.aside` is left out.

    Args:
        name: built-in name or file; None starts from the schema's defaults.
        overrides: `KEY=VALUE` strings with dotted keys; the value is YAML.
        values: dotted key to value, from command-line options; they win over `overrides`.
        rows: the training rows are in memory, none that a recipe knows of.
        note: told what of the recipe is left out.

    Raises:
        SamaError: no such recipe, or an unknown key, a wrong type or an impossible value.
    """
    where = "(command line)" if name is None else str(recipe_path(name))
    files = [] if name is None else recipe_layers(recipe_path(name))
    given = [*(_split_override(override) for override in overrides), *(values or {}).items()]
    layers = _on_other_data(files, given, rows=rows, note=note)
    presets = [value for key, value in given if key == PRESET]
    content = merged(layers, with_preset=not presets)
    if presets:
        _apply(content, presets[-1])
    for key, value in given:
        _set(content, key, value)
    return validate(content, where)


def _on_other_data(
    files: Sequence[tuple[Path, dict[str, Any]]],
    given: Sequence[tuple[str, Any]],
    *,
    rows: bool,
    note: Callable[[str], None],
) -> list[dict[str, Any]]:
    """What recipe files say, the built-in ones without what they say of their own data alone where
    others are trained on (see `aside`)."""
    known = {path.resolve() for path in built_in_recipes().values()}
    count = sum(path.resolve() in known for path, _ in files)  # these extend none but each other
    built_in = merged([content for _, content in files[:count]], with_preset=False)
    own = [content for _, content in files[count:]]
    later = [pair for content in own for pair in flattened(content).items()] + list(given)
    left = aside(built_in, later, rows=rows)
    if not left:
        return [content for _, content in files]
    told = sentence(files[count - 1][0].stem, left, [key for key, _ in later])
    if told is not None:
        note(told)
    return [*(_without(content, left) for _, content in files[:count]), *own]


def _without(content: Mapping[str, Any], keys: Iterable[str], prefix: str = "") -> dict[str, Any]:
    return {
        key: _without(value, keys, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in content.items()
        if f"{prefix}{key}" not in keys
    }


# Who says the first does not want the second that stands below.
_INSTEAD = {"training.epochs": "training.steps"}


def merged(layers: Sequence[dict[str, Any]], *, with_preset: bool = True) -> dict[str, Any]:
    """Layers of a recipe as one: each over those before it, section by section.

    The last preset that is named counts, at its layer's place.
    """
    content: dict[str, Any] = {}
    naming = [i for i, layer in enumerate(layers) if PRESET in layer]
    for i, layer in enumerate(layers):
        if with_preset and naming and i == naming[-1]:
            _apply(content, layer[PRESET])
        said = flattened(layer)
        for key, other in _INSTEAD.items():
            if key in said and other not in said:
                _set(content, other, None)
        content = _over(content, layer)
    return content


def recipe_layers(path: Path, seen: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """A recipe file with what it says, after the one that it extends, and so on."""
    own = path.resolve()
    if own in seen:
        ring = " → ".join(f"'{file}'" for file in (*seen[seen.index(own) :], own))
        raise SamaError(f"recipes extend each other in a ring: {ring}; take one {EXTENDS} out")
    content = read_yaml(recipe_text(path), str(path))
    if EXTENDS not in content:
        return [(path, content)]
    name = content.pop(EXTENDS)
    if not isinstance(name, str):
        raise SamaError(
            f"recipe '{path}': {EXTENDS} should be a built-in recipe's name or a YAML file, "
            f"got {_short(name)}"
        )
    try:
        beside = path.parent / Path(possible_path(name)).expanduser()
        base = beside if beside.suffix and beside.is_file() else recipe_path(name)
    except (SamaError, ValueError) as error:
        raise SamaError(f"recipe '{path}': {EXTENDS}: {error}") from error
    return [*recipe_layers(base, (*seen, own)), (path, content)]


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested sections under dotted keys; an empty section has none."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _over(content: dict[str, Any], layer: dict[str, Any]) -> dict[str, Any]:
    """`layer`'s values over `content`'s, mapping by mapping; lists are replaced whole."""
    result = dict(content)
    for key, value in layer.items():
        below = result.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            result[key] = _over(below, value)
        else:
            result[key] = value
    return result


def _apply(content: dict[str, Any], preset: object) -> None:
    """Set a preset's values; a name that is none is left to the schema to refuse."""
    for key, value in PRESETS.get(preset, {}).items() if isinstance(preset, str) else ():
        _set(content, key, value)


def validate(content: dict[str, Any], where: str) -> Recipe:
    """`content` as a `Recipe`, or a SamaError for the first thing wrong with it."""
    try:
        content = without_retired(content)
    except ValueError as error:
        raise SamaError(f"recipe '{where}': {error}") from error
    return validate_as(Recipe, content, where, kind="recipe")


def validate_as(model: type[_Model], content: dict[str, Any], where: str, *, kind: str) -> _Model:
    """`content` as any such model, or a SamaError for the first thing wrong with it.

    kind: what the file is, where: its name, both for the sentence.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise SamaError(_explain(error, model, f"{kind} '{where}'", kind)) from error
    except UnicodeEncodeError as error:  # which pydantic lets through
        raise SamaError(
            f"{kind} '{where}': {error.object!a} holds half a character; take it out"
        ) from error


def dump_recipe(recipe: Recipe) -> str:
    """The recipe, every value spelled out, as YAML that `load_recipe` reads back unchanged.

    But for secrets: what looks like a token or a password is written as `***`.
    """
    # Value by value: in the text a bare *** would be no YAML.
    content = redact_all(recipe.model_dump(mode="json"))
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def result_relevant(content: dict[str, Any]) -> dict[str, Any]:
    """What a result depends on in a recipe, as a mapping: a copy without CHANGES_NO_RESULT."""
    return {
        key: {k: v for k, v in value.items() if f"{key}.{k}" not in CHANGES_NO_RESULT}
        if isinstance(value, dict)
        else value
        for key, value in content.items()
        if key not in CHANGES_NO_RESULT
    }


def resolve_paths(recipe: Recipe) -> Recipe:
    """The same recipe with its local paths absolute, so that it runs from any directory."""
    data = recipe.data
    changed: dict[str, Any] = {}

    def absolute(field: str, value: str) -> str:
        # A split's name may also be the name of something lying about in this directory.
        plain = not Path(value).suffix and "/" not in value
        if plain and field not in ("path", "image_root"):
            return value
        path = Path(value).expanduser()
        return str(path.resolve()) if path.exists() else value

    if data.source not in ("hub", "demo"):
        for field in ("path", "train", "validation", "test", "image_root"):
            if (value := getattr(data, field)) is not None:
                changed[field] = absolute(field, value)
        metas = [absolute("meta", name) for name in data.metas]
        changed["meta"] = metas[0] if len(metas) == 1 else metas or None
    name = recipe.model.name
    model = recipe.model
    if Path(name).expanduser().is_dir():
        model = model.model_copy(update={"name": str(Path(name).expanduser().resolve())})
    return recipe.model_copy(update={"data": data.model_copy(update=changed), "model": model})


def _split_override(override: str) -> tuple[str, Any]:
    key, equals, value = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise SamaError(
            f"'{override}' is not an override; write KEY=VALUE, such as training.epochs=2"
        )
    try:
        return key, yaml.load(value, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SamaError(
            f"the value of the override '{override}' is not valid YAML; quote it"
        ) from error


def _set(content: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, last = dotted.split(".")
    for depth, section in enumerate(sections):
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            path = ".".join(sections[: depth + 1])
            raise SamaError(f"cannot set {dotted}: {path} holds a value, not a section of keys")
    content[last] = value
    if dotted in _INSTEAD:
        content.pop(_INSTEAD[dotted].rpartition(".")[2], None)


_OR_AUTO = "literal['auto']"
# What pydantic calls the branches of a union, in the place of an error.
_BRANCH = re.compile(r"function-|constrained-|list\[|(int|float|bool)$")


def _explain(error: ValidationError, model: type[BaseModel], where: str, kind: str) -> str:
    """One sentence for the first error: the key's path, what was expected, the nearest name."""
    # What may be `auto` fails twice: as a value, which is told, and as that word.
    errors = [one for one in error.errors() if _OR_AUTO not in one["loc"]]
    first = errors[0]
    or_auto = any(
        _OR_AUTO in one["loc"] and one["loc"][:2] == first["loc"][:2] for one in error.errors()
    )
    loc = [part for part in map(str, first["loc"]) if not _BRANCH.match(part)]
    key = ".".join(loc)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key {key}{_nearest_key(key, model)}{more}"
    if first["type"] == "value_error":
        message = str(first.get("ctx", {}).get("error", first["msg"]))
    else:
        message = first["msg"].replace("Input should be", "should be")
        message += " (or auto)" if or_auto else ""
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        message += nearest(first["input"], re.findall(r"'([^']+)'", message))
    got = first["input"]
    shown = "" if isinstance(got, dict | BaseModel) else f", got {_short(got)}"
    return f"{where}: {key or kind}: {message}{shown}{more}"


def _short(value: Any) -> str:
    text = redact(repr(value))  # before it is cut, which could hide what tells a secret
    return text if len(text) <= 60 else text[:57] + "…"


def _nearest_key(key: str, model: type[BaseModel]) -> str:
    known = dict.fromkeys(_keys(model))
    close = nearest(key, known)
    if close:
        return close
    # The right name in the wrong section (lr → training.optimizer.learning_rate is out of reach,
    # but unroll → meta.unroll is not).
    last = key.rsplit(".", 1)[-1]
    for candidate in known:
        if candidate.rsplit(".", 1)[-1] == last:
            return f"; did you mean '{candidate}'?"
    return nearest(last, {candidate.rsplit(".", 1)[-1] for candidate in known})


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _keys(kind, f"{prefix}{name}.")
