"""Figures in words, and whether two methods can be told apart."""

from __future__ import annotations

from dataclasses import dataclass

from samacli.training.difference import Difference

_ERROR = 0.05  # how often a clear verdict may be wrong


def signed(value: float, digits: int = 3) -> str:
    """`+0.012`, `−0.012`; 0 where it rounds to that."""
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else ("−" if value < 0 else "+") + text


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def size(count: float) -> str:
    """Bytes as MiB or GiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


@dataclass(frozen=True)
class Lead:
    """A difference that is one of `among` which are looked at together."""

    difference: Difference
    among: int = 1

    @property
    def clear(self) -> bool:
        """Whether chance makes such a difference, of all that are looked at, in a twentieth.

        Never from one seed.
        """
        level = 1 - _ERROR / 2 / max(self.among, 1)
        return abs(self.difference.mean) > self.difference.bound(level)

    @property
    def text(self) -> str:
        spread = self.difference.spread
        return signed(self.difference.mean) + ("" if spread is None else f" ± {spread:.3f}")
