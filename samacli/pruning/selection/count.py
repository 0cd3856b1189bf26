"""How many rows a fraction or a count means."""

from __future__ import annotations

from samacli.errors import SamaError


def keep_count(keep: float, rows: int, *, of: str = "the training split has") -> int:
    """Rows to keep: a fraction (up to 1) of `rows`, rounded, or a count (above 1).

    of: whose rows they are, for the message.

    Raises:
        SamaError: more than there are, or none.
    """
    count = round(keep * rows) if keep <= 1 else int(keep)
    if count > rows:
        raise SamaError(
            f"--keep {keep:g} asks for {count:,} rows, but {of} {rows:,}; "
            "give a count up to that, or a fraction up to 1"
        )
    if count < 1:
        raise SamaError(f"--keep {keep:g} of {rows:,} rows leaves none; keep more")
    return count
