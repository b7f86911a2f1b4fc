"""What it takes to begin: opening a volume that is far too large to read, and importing."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, NamedTuple

from benchmarks import peers
from benchmarks.rows import OURS, PEERS, Contender, Operation, Place, Row, Target
from benchmarks.shapes import PETAVOXEL

#: First and last voxel but one of the crop, on each axis, and their nm.
START, STOP, NM = 40_000, 42_000, 8
IMPORTS = {OURS: "xprecomputed", "xarray": "xarray", **PEERS}


class Crop(NamedTuple):
    """Wrapped, since its `nbytes` are of what it would be in memory."""

    of: Any


def ours(place: Place) -> Operation:
    """`open_dataset` and `sel` in nm, without dask."""
    import xarray as xr

    url, nm = place.data / PETAVOXEL, slice(START * NM, STOP * NM)
    return lambda: Crop(xr.open_dataset(url, engine="precomputed")["image"].sel(x=nm, y=nm, z=nm))


def anew(place: Place) -> Operation:
    """The same, but no labels are remembered: what a process pays once for each axis."""
    import xprecomputed as xp

    xp.set_options(index_cache_bytes=0)
    return ours(place)


def bounded(**options: Any) -> Contender:
    """Cropped by `bounds`: with dask, the graph has only what is in them."""

    def prepare(place: Place) -> Operation:
        import xarray as xr

        url, bounds = place.data / PETAVOXEL, ((START * NM,) * 3, (STOP * NM,) * 3)
        return lambda: Crop(
            xr.open_dataset(url, engine="precomputed", bounds=bounds, **options)["image"]
        )

    return prepare


def selected(place: Place) -> Operation:
    """With dask, and `sel` in nm."""
    import xarray as xr

    url, nm = place.data / PETAVOXEL, slice(START * NM, STOP * NM)

    def crop() -> Any:
        dataset = xr.open_dataset(url, engine="precomputed", chunks={})
        return Crop(dataset["image"].sel(x=nm, y=nm, z=nm))

    return crop


def cloudvolume(place: Place) -> Operation:
    """A volume, and a box in its bounds: nothing of it is lazy."""
    from cloudvolume.lib import Bbox

    box = Bbox((START,) * 3, (STOP,) * 3)

    def crop() -> Any:
        volume = peers.cloudvolume(f"file://{place.data / PETAVOXEL}")
        return Crop(Bbox.intersection(box, volume.bounds))

    return crop


def tensorstore(place: Place) -> Operation:
    """A store, and a part of its domain."""
    kvstore, part = peers.file_kvstore(place.data / PETAVOXEL), slice(START, STOP)
    return lambda: Crop(peers.tensorstore(kvstore)[part, part, part])


def _crop(crop: Crop, _: Place) -> dict[str, float]:
    """First voxel and how many, in x."""
    result = crop.of
    if hasattr(result, "minpt"):  # CloudVolume's
        start, size = result.minpt[0], result.size3()[0]
    elif hasattr(result, "domain"):  # TensorStore's
        start, size = result.domain.inclusive_min[0], result.shape[0]
    else:
        start, size = result.x[0] / NM - 0.5, result.sizes["x"]
    return {"start": float(start), "size": float(size)}


def _importing(module: str) -> Contender:
    """A new interpreter that imports and ends at once."""

    def prepare(_: Place) -> Operation:
        command = [sys.executable, "-c", f"import {module}, os; os._exit(0)"]
        return lambda: subprocess.run(command, check=True).returncode

    return prepare


ROWS = [
    Row(
        name="open and crop a petavoxel",
        group="opening",
        contenders={
            OURS: ours,
            "CloudVolume": cloudvolume,
            "TensorStore": tensorstore,
            "by bounds": bounded(),
            "labels anew": anew,
        },
        targets=(Target("best peer", 1.0),),
        summary=_crop,
        repeats=10,
    ),
    Row(
        name="open and crop a petavoxel, dask",
        group="opening",
        contenders={OURS: bounded(chunks={}), "by sel": selected},
        summary=_crop,
    ),
    Row(
        name="start Python and import",
        group="opening",
        contenders={name: _importing(module) for name, module in IMPORTS.items()},
        targets=(Target("xarray", 1.0, slack_s=0.1),),
        summary=lambda *_: {},
    ),
]
