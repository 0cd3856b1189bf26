"""Which texts may be paths: asked once, where a recipe is read, so that no later look fails."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from samacli.errors import SamaError

_IMPOSSIBLE = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ)


def possible_path(text: str) -> str:
    """`text` itself, if it can name a local file, whether or not there is one.

    Raises:
        ValueError: it is a URL, or no system call would take it; says why.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        raise ValueError(
            "a URL is never fetched; download the file and name the copy, or give a dataset or "
            "model of the Hugging Face hub by its name (owner/name)"
        )
    if "\0" in text:
        raise ValueError("no file's name holds a null character")
    try:
        path = Path(text).expanduser()
        os.lstat(path)
    except RuntimeError as error:
        raise ValueError(f"the home directory in '{text}' is not known: {error}") from error
    except UnicodeError as error:
        raise ValueError("it holds characters that no file's name can hold") from error
    except OSError as error:
        if error.errno in _IMPOSSIBLE:
            raise ValueError(f"no file can be named so: {error.strerror}") from error
    return text


def local_path(path: str | Path, option: str) -> Path:
    """The path with `~` as the home directory that it stands for.

    option: what a message calls it.

    Raises:
        SamaError: nothing can be called so.
    """
    try:
        return Path(possible_path(str(path))).expanduser()
    except ValueError as error:
        raise SamaError(f"{option} '{path}': {error}") from None
