"""How the peers are asked for the same thing, as their documents recommend it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

#: What TensorStore is told: this many threads.
ALL_CORES = {"data_copy_concurrency": {"limit": os.cpu_count() or 1}}


def cloudvolume(url: str, **options: Any) -> Any:
    """A volume of CloudVolume; without a cache, in one process (more were slower)."""
    import cloudvolume

    return cloudvolume.CloudVolume(f"precomputed://{url}", progress=False, **options)


def tensorstore(kvstore: dict[str, Any], **spec: Any) -> Any:
    """A store of TensorStore on all cores, and without a cache."""
    import tensorstore

    context = {**ALL_CORES, **spec.pop("context", {})}
    return tensorstore.open(
        {"driver": "neuroglancer_precomputed", "kvstore": kvstore, "context": context, **spec}
    ).result()


def file_kvstore(folder: Path) -> dict[str, str]:
    """TensorStore's name of a folder."""
    return {"driver": "file", "path": f"{folder}/"}
