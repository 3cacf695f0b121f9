"""Which interpreter and environment each client runs in. The peers' venvs are made when they are first needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]
_LIB = BENCH.parent / "lib"
_VENVS = BENCH / ".venv-peers"
_PINS = {
    "sdk": BENCH / "peers.txt",
    "litellm": BENCH / "peers-litellm.txt",
    "pydantic-ai": BENCH / "peers-pydantic-ai.txt",
    "quicktok": BENCH / "peers-tokens.txt",
    "providers": BENCH / "peers-providers.txt",
    "agents": BENCH / "peers-agents.txt",
}


def python_of(client: str) -> str:
    """The interpreter of a client: this one for tidegate, that of a peers' venv for the others."""
    if client.startswith("tidegate"):
        return sys.executable
    return str(_peers_python(client if client in _PINS else "sdk"))


def environment(client: str, home: Path) -> dict[str, str]:
    """The variables that a client's process gets: no key, no proxy, no setting of this shell; `home` for its files."""
    paths = [str(BENCH), str(_LIB)] if client.startswith("tidegate") else [str(BENCH)]
    variables = {
        "HOME": str(home),
        "XDG_DATA_HOME": str(home),
        "LANG": "C.UTF-8",
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(paths),
        "TMPDIR": str(home),
    }
    if client == "litellm":
        variables["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch its table of prices when imported
    return variables


def _peers_python(name: str) -> Path:
    """The interpreter of a peers' venv, which is made when it is missing, or older in content than its pins."""
    folder, pins = _VENVS / name, _PINS[name].read_text()
    stamp, wanted = folder / ".pins", f"{sys.version}\n{pins}"
    python = folder / "bin" / "python"
    if not (stamp.exists() and stamp.read_text() == wanted):
        _make(folder, python, _PINS[name])
        stamp.write_text(wanted)
    return python


def _make(folder: Path, python: Path, pins: Path) -> None:
    print(f"making {folder.relative_to(BENCH.parent)} from {pins.name} (once; about half a minute)", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    install = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", str(pins)]
    subprocess.run(install, check=True, stdout=sys.stderr)  # noqa: S603 (our own command)
