"""The policies: each one file with its options and its callable `(call, proceed) -> reply`.

A policy knows the pipeline and the lower rooms, never another policy, a provider or the transport.
"""
