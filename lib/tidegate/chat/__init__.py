"""The vocabulary of a chat: messages, tools, request, usage, reply.

Nothing here knows a provider, sends anything or keeps state that threads share.
"""
