"""Open a volume, cut a piece out by nanometres, say what is in it, draw it and save it.

    python examples/quickstart.py                 makes a small image and segmentation first
    python examples/quickstart.py PATH_OR_URL     does the same on that volume

Needs ``pip install "xprecomputed[all]"``; ``python3 dev.py quickstart`` sees to that.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import imagecodecs
import numpy as np
import xarray as xr

import xprecomputed as xp


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", nargs="?", help="a volume; without it one is made")
    parser.add_argument("--mip", type=int, default=0)
    parser.add_argument("--out", default="overlay.png", help="where the picture goes")
    parser.add_argument("--save", help="write the piece as a layer of its own, with its mips")
    parser.add_argument(
        "--fill-missing", action="store_true", help="take chunks that are not stored for zeros"
    )
    options = parser.parse_args()
    if options.path is not None:
        show([options.path], options)
        return
    with tempfile.TemporaryDirectory() as folder:
        show(make_volumes(Path(folder)), options)


# ---- the job


def show(urls: list[str], options: argparse.Namespace) -> None:
    """Open, crop, describe and draw the layers at `urls`, which share their grid."""
    tree = xr.open_datatree(urls[0], engine="precomputed")
    print(f"{urls[0]}\n{tree.precomputed.info.type} with {len(tree.children)} mips:")
    for name, node in tree.children.items():
        mip = node.precomputed
        print(f"  {name}: {dict(node.sizes)} voxels of {mip.resolution} nm (x, y, z)")

    opened = [
        xr.open_dataset(
            url, engine="precomputed", mip=options.mip, fill_missing=options.fill_missing
        )
        for url in urls
    ]
    ds = xr.merge(opened, join="exact", compat="no_conflicts")
    print(f"\n{ds}\n")

    low, high = ds.precomputed.bounds_nm
    step = np.array(ds.precomputed.resolution)
    size = np.minimum(high - low, step * (512, 512, 32))
    cut = ds.precomputed.crop(center=(low + high) / 2, size=size, outside="clip")
    begin, end = (cut.precomputed.bounds_nm / 1000).round(3).tolist()
    print(f"crop of x, y, z from {begin} to {end} µm")
    with xp.trace() as t:
        cut.load()
    print(f"read {cut.nbytes / 1e6:.1f} MB of voxels: {t}\n")

    image = next((da for da in cut.values() if da.attrs["layer_type"] == "image"), None)
    segments = next((da for da in cut.values() if da.attrs["layer_type"] == "segmentation"), None)
    if image is not None:
        print(
            f"image: {image.dtype}, {float(image.min()):g} to {float(image.max()):g}, "
            f"mean {float(image.mean()):.1f}"
        )
    if segments is not None:
        describe(segments, float(np.prod(step)) / 1e9)
    if options.save is not None:
        saved = xp.to_precomputed(cut[next(iter(cut))], options.save, downsample="auto")
        print(f"\nsaved with {len(saved.mips)} mips: {saved.url}")
    Path(options.out).write_bytes(imagecodecs.png_encode(overlay(image, segments)))
    print(f"\nthe middle section is drawn in {options.out}")


def describe(segments: xr.DataArray, voxel_um3: float) -> None:
    """Print the largest segments, with a point inside each."""
    ids, first, counts = np.unique(segments, return_index=True, return_counts=True)
    print(f"segmentation: {np.count_nonzero(ids)} segments ({segments.dtype} ids); the largest:")
    order = np.argsort(-counts * (ids != 0))[:5]
    for i in order[ids[order] != 0]:
        at = segments[np.unravel_index(first[i], segments.shape)]
        point = [float(at[axis]) for axis in "xyz"]
        assert segments.precomputed.sample(point) == ids[i]
        print(f"  {ids[i]:>20}  {counts[i] * voxel_um3:8.4f} µm³, first met at {point} nm")


# ---- the picture


def overlay(image: xr.DataArray | None, segments: xr.DataArray | None) -> np.ndarray:
    """The middle section as RGB: the image in gray under coloured segments."""
    some = image if image is not None else segments
    assert some is not None, "neither an image nor a segmentation"
    middle = {"z": some.sizes["z"] // 2}
    ground = np.full((some.sizes["y"], some.sizes["x"], 3), 40.0)
    if image is not None:
        section = image.isel(middle)
        gray = section.isel(channel=0) if "channel" in section.dims else section
        low, high = np.percentile(gray, [0.5, 99.5])
        ground[:] = np.clip((gray.values[..., None] - low) / max(high - low, 1e-9), 0, 1) * 255
    if segments is not None:
        labels = segments.isel(middle).values
        strength = np.where(labels == 0, 0.0, 0.35 if image is not None else 0.85)[..., None]
        ground = ground * (1 - strength) + colours(labels) * strength
    return ground.astype(np.uint8)


def colours(labels: np.ndarray) -> np.ndarray:
    """A colour for each id, far from those of its neighbours."""
    mixed = labels.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    hue = (mixed >> np.uint64(40)).astype(float) / 2**24 * 6
    distance = np.abs(hue[..., None] - np.array([3, 2, 4]))
    return 255 * np.clip(np.array([-1, 2, 2]) + np.array([1, -1, -1]) * distance, 0, 1)


# ---- the data


def make_volumes(folder: Path) -> list[str]:
    """An EM-like image and its segmentation: odd sizes, an offset, two mips."""
    size, offset = (301, 257, 61), (1000, 2000, 50)  # x, y, z
    segments = cells(size)
    arrays = {"em": electron_microscopy(segments), "segmentation": segments}
    sharding = {"em": None, "segmentation": "auto"}
    stores = [
        xp.to_precomputed(
            xr.DataArray(array, dims=("z", "y", "x")),
            folder / name,
            resolution=(8, 8, 40),
            voxel_offset=offset,
            chunk_size=(64, 64, 32),
            sharding=sharding[name],
            downsample=1,
            progress=False,
        )
        for name, array in arrays.items()
    ]
    return [store.url for store in stores]


def cells(size: tuple[int, int, int], count: int = 60) -> np.ndarray:
    """Labels (z, y, x): every voxel belongs to the nearest of some points, warped a little."""
    rng = np.random.default_rng(0)
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in size[::-1]), indexing="ij")
    warp = 9 * np.sin(y / 23) + 7 * np.cos(x / 17 + z / 5)
    points = rng.uniform(0, size, (count, 3))
    nearest = np.full(z.shape, np.inf, np.float32)
    owner = np.zeros(z.shape, int)
    for i, (px, py, pz) in enumerate(points):
        distance = (x + warp - px) ** 2 + (y - warp - py) ** 2 + (5 * (z - pz)) ** 2
        owner = np.where(distance < nearest, i, owner)
        nearest = np.minimum(distance, nearest)
    ids = rng.integers(2**40, 2**62, count, dtype=np.uint64)  # as large as real ones
    ids[:4] = 0  # some extracellular space
    return ids[owner]


def electron_microscopy(segments: np.ndarray) -> np.ndarray:
    """Dark membranes, bright cytoplasm and grain."""
    rng = np.random.default_rng(1)
    membrane = np.zeros(segments.shape, np.float32)
    for axis in (1, 2):
        differs = np.diff(segments, axis=axis, prepend=segments.take([0], axis)) != 0
        for shift in (-1, 0, 1):
            membrane += np.roll(differs, shift, axis)
    grain = rng.normal(0, 12, segments.shape)
    return np.clip(175 - 45 * membrane + grain, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
