"""The shell: `tidegate ask | chat | models | doctor | demo`, one file a command.

The top of the house: it may import every room, and no room imports it.
"""
