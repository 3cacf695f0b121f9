"""How fast requests may leave: quotas, the line that forms before them, and what a provider's headers teach.

Nothing here knows of chats or providers; `policies.admission` puts it into the corridor.
"""
