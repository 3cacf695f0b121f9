"""One file for each wire format: encode a request, decode an answer, decode a stream, understand a refusal.

Nothing here sends, waits or retries, and no other room branches on a provider.
"""
