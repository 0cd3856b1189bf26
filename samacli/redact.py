"""Secrets out of text: whatever is shown or written passes here first.

Three kinds: the values of environment variables that are named as secrets (HF_TOKEN, WANDB_API_KEY
…), tokens known by their form, and credentials inside a URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_SECRET_NAME = re.compile(r"(TOKEN|API_?KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
_SHORTEST_SECRET = 8  # a shorter value, "true" say, is a word that texts are full of
_FORMS = (
    re.compile(r"\bhf_[A-Za-z0-9]{16,}"),  # Hugging Face
    re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,}"),  # GitHub
    re.compile(r"\bAKIA[0-9A-Z]{16}\b"),  # AWS
    re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    re.compile(r"(?<=://)[^/\s@'\"]+(?=@)"),  # user:password of a URL
    re.compile(r"(?i)(?<=\bbearer )[^\s'\"]+"),
    re.compile(
        r"(?i)(?<=[?&;])((?:access_?token|auth|token|api_?key|key|secret|password|sig|signature"
        r"|x-amz-[a-z-]+|credential)=)[^&\s'\"#]+"
    ),
)


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """`text` with `***` in place of every secret found in it.

    environment: whose secrets to look for; default: this process's.
    """
    for secret in _secrets(os.environ if environment is None else environment):
        text = text.replace(secret, HIDDEN)
    for form in _FORMS:
        text = form.sub(lambda found: (found.groups() or ("",))[0] + HIDDEN, text)
    return text


def redact_all(tree: Any) -> Any:
    """The same of every text in nested dicts, lists and tuples, keys included."""
    if isinstance(tree, str):
        return redact(tree)
    if isinstance(tree, dict):
        return {redact_all(key): redact_all(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [redact_all(value) for value in tree]
    return tree


def _secrets(environment: Mapping[str, str]) -> list[str]:
    """Values of variables that are named as secrets, the longest first."""
    values = {
        value
        for name, value in environment.items()
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET
    }
    return sorted(values, key=len, reverse=True)
