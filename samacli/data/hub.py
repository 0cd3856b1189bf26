"""Datasets on the Hugging Face hub. Code that a repository brings along is never run."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import datasets
import huggingface_hub
from huggingface_hub import errors as hub_errors

from samacli.data.table import quiet_datasets
from samacli.errors import SamaError, nearest

_PROBE_SECONDS = 10.0


def load_hub(name: str, config: str | None, revision: str | None) -> dict[str, datasets.Dataset]:
    """Every split of a hub dataset, memory-mapped, by name.

    The hub is asked once whether it has the dataset; when it can't be reached the local cache is
    used if it has the dataset, and else one sentence says so at once, where the library alone
    would go on trying for half a minute. Raises SamaError.
    """
    offline = not _reachable(name, revision)
    try:
        with quiet_datasets(), _quiet_hub(), _offline(offline):
            loaded = datasets.load_dataset(name, config, revision=revision)
    except Exception as error:  # many types, some of them private; each ends in one sentence
        raise SamaError(_sentence(error, name, config, offline)) from error
    if not isinstance(loaded, datasets.DatasetDict):
        raise SamaError(f"the hub dataset '{name}' has no splits that can be read")
    return dict(loaded)


def stream_hub(
    name: str, config: str | None, revision: str | None
) -> tuple[dict[str, datasets.IterableDataset], str]:
    """Every split of a hub dataset as a stream, by name, and the commit that they are of.

    Nothing is fetched but what is read. Raises SamaError.
    """
    if not _reachable(name, revision):
        raise SamaError(
            f"the hub can't be reached, and the dataset '{name}' is to be streamed from it; "
            "connect, or leave --stream out if it is in the local cache"
        )
    try:
        with quiet_datasets(), _quiet_hub():
            commit = huggingface_hub.HfApi().dataset_info(name, revision=revision).sha
            loaded = datasets.load_dataset(name, config, revision=commit, streaming=True)
    except Exception as error:  # many types, some of them private; each ends in one sentence
        raise SamaError(_sentence(error, name, config, False)) from error
    return dict(loaded), str(commit)


def _reachable(name: str, revision: str | None) -> bool:
    """False when there is no connection; SamaError when the hub answers that there is no such."""
    if huggingface_hub.is_offline_mode():
        return False
    try:
        huggingface_hub.HfApi().dataset_info(name, revision=revision, timeout=_PROBE_SECONDS)
    except hub_errors.RevisionNotFoundError as error:
        raise SamaError(f"the hub dataset '{name}' has no revision '{revision}'") from error
    except hub_errors.GatedRepoError as error:
        raise SamaError(
            f"the hub dataset '{name}' is gated: ask for access on its page and log in with "
            "`hf auth login`"
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise SamaError(
            f"there is no dataset '{name}' on the hub, nor a file or folder of that name; check "
            "data.path (a private dataset needs `hf auth login`)"
        ) from error
    except hub_errors.HFValidationError as error:
        raise SamaError(
            f"'{name}' is neither a file or folder nor a possible name of a hub dataset; check "
            "data.path"
        ) from error
    except Exception:  # no route, no name service, a proxy's refusal: all mean "not reachable"
        return False
    return True


def _sentence(error: Exception, name: str, config: str | None, offline: bool) -> str:
    message = str(error)
    if "Dataset scripts are no longer supported" in message:
        return (
            f"the hub dataset '{name}' needs its own loading script, which is never run here; "
            "choose a copy of it in Parquet (often data.revision=refs/convert/parquet)"
        )
    if "Config name is missing" in message or re.search(r"BuilderConfig .* not found", message):
        known = _names_in(message)
        fault = f"no configuration '{config}'" if config else "several configurations"
        return (
            f"the hub dataset '{name}' has {fault}; set data.config to one of: "
            f"{', '.join(known[:12])}{nearest(config or '', known)}"
        )
    if offline:
        what = f"'{name}'" if config is None else f"'{name}' with configuration '{config}'"
        return (
            f"there is no file or folder '{name}', the hub can't be reached, and the local cache "
            f"has no dataset {what}; connect, or set data.path to a local copy"
        )
    first = message.splitlines()[0] if message else type(error).__name__
    return f"cannot load the hub dataset '{name}': {first}"


def _names_in(message: str) -> list[str]:
    listed = message[message.find("[") + 1 : message.find("]")]
    return [part.strip().strip("'\"") for part in listed.split(",") if part.strip()]


@contextmanager
def _offline(yes: bool) -> Iterator[None]:
    """Make the libraries look in their caches only."""
    if not yes:
        yield
        return
    with (
        mock.patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", True),
        mock.patch.object(datasets.config, "HF_HUB_OFFLINE", True),
    ):
        yield


@contextmanager
def _quiet_hub() -> Iterator[None]:
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
