"""How bytes travel: connections, the exchange's limits and their watchdog, the framing of streamed events.

No provider is known here, nothing is retried, and no text is understood beyond its framing.
"""
