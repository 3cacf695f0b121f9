"""How a call travels: the call itself, the chain of policies, the events that tell of it.

No policy lives here, and nothing that knows HTTP or a provider.
"""
