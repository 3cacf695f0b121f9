"""The budgets that a ledger kept when it was last looked at, in a file beside its journals.

Whoever starts while the ledger cannot be read keeps to these: to take it for one without budgets would lift its limits.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from tidegate.jsontext import decode, encode

_NAME = "budgets.json"


def remember(folder: Path, budgets: Sequence[tuple[str, str]]) -> None:
    """Keep them, if they are others than before. What cannot be written is not kept: this is a second line."""
    known = remembered(folder)
    if list(budgets) == (known or []):
        return
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = folder / f"{_NAME}.{os.getpid()}"
        new.write_bytes(encode([list(budget) for budget in budgets]))
        new.replace(folder / _NAME)


def remembered(folder: Path) -> list[tuple[str, str]] | None:
    """Name and options of each; `None` if nobody has looked yet."""
    try:
        kept = decode((folder / _NAME).read_bytes())
        return [(str(name), str(options)) for name, options in kept]
    except (OSError, ValueError, TypeError):
        return None
