"""Stores outside the process, that several processes share."""

from __future__ import annotations
