"""What a row of the table of providers says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tidegate.providers.base import Account, Provider

Speak = Callable[[Account, Mapping[str, str]], Provider]
"""Makes the provider of an account; the mapping is the environment."""


@dataclass(frozen=True, slots=True)
class Host:
    """One row: what must be known to reach a host."""

    base_url: str | None
    """None: `base_url=` must be given."""
    keys: tuple[str, ...]
    """Environment names of the key, the first that is set wins. None of them: the host needs no key."""
    base_urls: tuple[str, ...]
    """Environment names of another address."""
    speak: Speak
    default_model: str | None = None
    """Asked when a key is there and no model is named."""
    key_required: bool = True
    about: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers whose value stands in the environment: (header, environment name)."""
