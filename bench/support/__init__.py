"""What the benchmarks share: loopback servers, the peers' venvs, workers that run in them, and tables.

Nothing here imports tidegate or a peer at the top of a file: each is imported only in the process that measures it.
"""
