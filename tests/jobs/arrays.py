"""Labelled arrays to write."""

import numpy as np
import xarray as xr


def label(data, resolution=(8, 8, 40), offset=(0, 0, 0)):
    """`data` with the axes ([channel,] z, y, x) and coordinates in nm."""
    coords = {
        axis: (axis, (np.arange(n) + o + 0.5) * r, {"units": "nm"})
        for axis, n, o, r in zip("xyz", data.shape[:-4:-1], offset, resolution, strict=True)
    }
    return xr.DataArray(data, coords, ("channel", "z", "y", "x")[-data.ndim :])


def opened(url, mip=0, **options):
    """The one variable of a layer."""
    dataset = xr.open_dataset(url, engine="precomputed", mip=mip, **options)
    return dataset[next(iter(dataset.data_vars))]


def files(folder):
    """Everything below a folder with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
