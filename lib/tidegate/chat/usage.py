"""What a call used, in tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer, as the provider billed them.

    `input_tokens` includes the cached ones, `output_tokens` the reasoning ones: the details are parts, not additions.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    """Read from the provider's prompt cache (cheaper)."""
    cache_write_tokens: int = 0
    """Written to the provider's prompt cache (dearer at some)."""
    reasoning_tokens: int = 0
    """Thought, not shown."""
    estimated: bool = False
    """True when counted here because the provider's own figures never came."""

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens
