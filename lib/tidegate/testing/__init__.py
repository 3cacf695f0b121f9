"""What makes programs that use tidegate easy to test: a clock that the test moves.

Nothing here is imported by the rest of tidegate.
"""

from tidegate.testing.clock import ManualClock

__all__ = ["ManualClock"]
