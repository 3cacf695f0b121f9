"""What one import statement costs a fresh interpreter: run as `python -m support.importing STATEMENT`, prints JSON.

Everything is a difference between after and before, so that the interpreter itself and this file cancel out. `heavy`
names the packages of `_HEAVY` that the statement loaded.
"""

import json
import os
import sys
import time
from pathlib import Path

_HEAVY = (
    "anthropic", "boto3", "flask", "genai_prices", "httpx", "httpx2", "numpy", "openai", "prometheus_client",
    "prompt_toolkit", "pydantic", "redis", "requests", "rich", "sqlalchemy", "tiktoken", "tokenizers", "urllib3",
)  # fmt: skip
_PAGES = Path("/proc/self/statm")


def _resident() -> int:
    """Bytes of memory in use by this process."""
    return int(_PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run the statement, and print what it cost."""
    statement = compile(sys.argv[1], "<statement>", "exec")
    memory, modules, cpu, start = _resident(), set(sys.modules), time.process_time(), time.perf_counter()
    exec(statement, {})  # noqa: S102 (it comes from bench/imports.py)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    new = set(sys.modules) - modules
    cost = {"seconds": wall, "cpu": cpu, "mib": (_resident() - memory) / 2**20, "modules": len(new)}
    print(json.dumps(cost | {"heavy": sorted(name for name in _HEAVY if name in new)}))


if __name__ == "__main__":
    main()
