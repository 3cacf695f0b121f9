"""Real servers for the tests, on loopback only, and the bytes they speak.

Nothing here imports `tidegate`: what is under test must not shape what it is tested against.
"""
