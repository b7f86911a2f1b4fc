"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def machine() -> str:
    """Processor, memory, Python and packages, in a line."""
    cpu, memory = platform.machine(), ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((each.split(": ")[1] for each in lines if each.startswith("model name")), cpu)
        memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.0f} GiB, "
    packages = []
    for name in ("xprecomputed", "cloud-volume", "tensorstore", "numpy", "xarray", "dask", "numba"):
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            packages.append(f"no {name}")
    return (
        f"{os.cpu_count()} cores of {cpu}, {memory}{platform.system()}, Python "
        f"{platform.python_version()}, {', '.join(packages)}"
    )
