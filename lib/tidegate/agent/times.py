"""What time it is."""

from __future__ import annotations

import datetime as dt
import zoneinfo

from tidegate.agent.functions import tool
from tidegate.clock import SYSTEM_CLOCK, Clock


@tool(timeout=5.0)
def clock(timezone: str = "UTC") -> str:
    """Tell the present date, time and day of the week.

    Args:
        timezone: A name such as `UTC`, `Europe/Berlin` or `America/New_York`.
    """
    return moment(timezone)


def moment(timezone: str, of: Clock = SYSTEM_CLOCK) -> str:
    """The present moment there, such as `2026-11-24T10:30:00+01:00 (Tuesday)`. Raises `ValueError` for no time zone."""
    try:
        zone = zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"`{timezone[:60]}` is no time zone; write one such as `Europe/Berlin` or `UTC`") from None
    now = dt.datetime.fromtimestamp(of.time(), tz=zone)
    return f"{now.isoformat(timespec='seconds')} ({now:%A})"
