#!/usr/bin/env python3
"""Everything a checkout needs, from a bare Python: makes its own environments, then runs.

    python3 dev.py quickstart [PATH]    the main job: open, crop, print, draw
    python3 dev.py test [PYTEST ARGS]   all tests
    python3 dev.py check                formatting, lint, types, layers
    python3 dev.py bench [ROWS]         beside CloudVolume and TensorStore, half an hour

Environments are kept in .venv/ (or in $XPRECOMPUTED_ENVS) and made again when
pyproject.toml changes.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXTRAS = {"quickstart": "all", "test": "test,check", "check": "test,check", "bench": "test,check"}


def environment(command: str) -> str:
    """Path of a Python that has what `command` needs; installed once."""
    extras = EXTRAS[command]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    base = Path(os.environ.get("XPRECOMPUTED_ENVS", HERE / ".venv"))
    folder = base / f"{extras.replace(',', '-')}-{version}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = hashlib.sha256((HERE / "pyproject.toml").read_bytes() + str(HERE).encode()).hexdigest()
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"making {folder}", file=sys.stderr, flush=True)
        venv.create(folder, clear=True, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--editable", f"{HERE}[{extras}]"], check=True)
        stamp.write_text(wanted)
    return str(python)


def main(arguments: list) -> None:
    """Run one command and hand its exit status on."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever has an older one should read this
        sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    if not arguments or arguments[0] not in EXTRAS:
        sys.exit(__doc__)
    command, rest = arguments[0], arguments[1:]
    python = environment(command)
    lines = {
        # a path is meant from where the user stands
        "quickstart": [[python, str(HERE / "examples" / "quickstart.py"), *rest]],
        "test": [[python, "-m", "pytest", f"--rootdir={HERE}", *rest]],
        "bench": [[python, "-m", "benchmarks", *rest]],
        "check": [
            [python, "-m", "ruff", "format", "--check", "."],
            [python, "-m", "ruff", "check", "."],
            [python, "-m", "mypy"],
            [str(Path(python).with_name("lint-imports"))],
        ],
    }[command]
    where = Path.cwd() if command == "quickstart" else HERE
    for line in lines:
        status = subprocess.run(line, cwd=where, check=False).returncode
        if status:
            sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
