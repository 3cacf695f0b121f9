"""Streams for people: words, sentences and lines as they are written, several readers of one stream, web views."""

from tidegate.streaming.processor import Processed, StreamProcessor
from tidegate.streaming.segments import Lines, Sentences, Words
from tidegate.streaming.splitting import StreamReader, tee
from tidegate.streaming.web import sse_events
from tidegate.streaming.writer import WordWriter

__all__ = [
    "Lines",
    "Processed",
    "Sentences",
    "StreamProcessor",
    "StreamReader",
    "WordWriter",
    "Words",
    "sse_events",
    "tee",
]
