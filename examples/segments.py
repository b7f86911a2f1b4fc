"""Draw a segment's mesh and skeleton over the slice of the volume that they belong to.

    python examples/segments.py                          makes a small neuron first
    python examples/segments.py PATH_OR_URL --segment 7  does the same on that volume

Needs ``pip install "xprecomputed[all]" matplotlib``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import trimesh
import xarray as xr

import xprecomputed as xp

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.collections import LineCollection
from mpl_toolkits.mplot3d.art3d import Line3DCollection

RED, BLUE = "#d62728", "#1f77b4"


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", nargs="?", help="a segmentation; without it one is made")
    parser.add_argument("--segment", type=int, help="the largest with a mesh by default")
    parser.add_argument("--mip", type=int, default=0)
    parser.add_argument("--mesh-dir", help="where the meshes are, if info does not say it")
    parser.add_argument("--skeleton-dir", help="where the skeletons are, if info does not say it")
    parser.add_argument("--out", default="segment.png", help="where the picture goes")
    options = parser.parse_args()
    if options.path is not None:
        show(options.path, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        show(make_neuron(Path(folder)), options)


# ---- the job


def show(url: str, options: argparse.Namespace) -> None:
    """Fetch the mesh and the skeleton of a segment and draw both."""
    ds = xr.open_dataset(
        url,
        engine="precomputed",
        mip=options.mip,
        mesh_dir=options.mesh_dir,
        skeleton_dir=options.skeleton_dir,
    )
    segmentation = ds["segmentation"].squeeze(drop=True)
    segment = options.segment or largest(segmentation)

    mesh = segmentation.precomputed.mesh.get(segment, weld=True)
    print(mesh)
    try:
        skeleton = segmentation.precomputed.skeleton.get(segment)
        print(f"skeleton of {len(skeleton.vertices)} vertices, {skeleton.cable_length():.0f} nm")
    except FileNotFoundError as error:
        skeleton = None
        print(f"without a skeleton: {error}")

    # the slice through the middle of the mesh, and a little around it
    low, high = mesh.bounds_nm
    z = float(segmentation.z.sel(z=mesh.vertices[:, 2].mean(), method="nearest"))
    margin = 0.1 * (high - low).max()
    slice_ = segmentation.sel(
        x=slice(low[0] - margin, high[0] + margin), y=slice(low[1] - margin, high[1] + margin)
    ).sel(z=z)
    draw(slice_.load(), segment, mesh, skeleton, options.out)
    print(f"drawn: {options.out}")


def largest(segmentation: xr.DataArray) -> int:
    """The segment with most voxels among those that have a mesh."""
    ids = segmentation.precomputed.mesh.ids()
    voxels = segmentation.precomputed.unique()
    there = voxels.sel(label=np.isin(voxels.label, ids))
    return int(there.label[int(there.argmax("label"))])


def draw(slice_: xr.DataArray, segment: int, mesh: xp.Mesh, skeleton: Any, out: str) -> None:
    """Left what lies in the slice, right all of it."""
    figure = plt.figure(figsize=(11, 5), layout="constrained")
    flat = figure.add_subplot(1, 2, 1)
    colours = np.random.default_rng(0).permutation(256)[(slice_.values % 256).astype(int)]
    shown = np.where(slice_.values == 0, np.nan, colours)
    xr.DataArray(shown, slice_.coords, slice_.dims).plot.imshow(
        ax=flat, cmap="Pastel1", add_colorbar=False, yincrease=False
    )
    z = float(slice_.z)
    outline = trimesh.intersections.mesh_plane(mesh.to_trimesh(), (0, 0, 1), (0, 0, z))
    flat.add_collection(LineCollection(outline[:, :, :2], colors=BLUE, linewidths=1.5))
    flat.set(title=f"segment {segment} at z = {z:.0f} nm", aspect="equal")

    deep = figure.add_subplot(1, 2, 2, projection="3d")
    deep.plot_trisurf(*mesh.vertices.T, triangles=mesh.faces, color=BLUE, alpha=0.25, linewidth=0)
    (x0, x1), (y0, y1) = (slice_[axis].values[[0, -1]] for axis in "xy")
    corners = np.array([[x0, x1], [x0, x1]]), np.array([[y0, y0], [y1, y1]])
    deep.plot_surface(*corners, np.full((2, 2), z), color="gray", alpha=0.3)
    if skeleton is not None:
        bones = skeleton.vertices[skeleton.edges]
        flat.add_collection(LineCollection(bones[:, :, :2], colors=RED, linewidths=1))
        deep.add_collection3d(Line3DCollection(bones, colors=RED, linewidths=1.5))
    deep.set(xlabel="x [nm]", ylabel="y [nm]", zlabel="z [nm]", aspect="equal")
    deep.invert_yaxis()
    deep.locator_params(nbins=4)
    figure.savefig(out, dpi=90)
    plt.close(figure)


# ---- a neuron to draw


def make_neuron(folder: Path) -> str:
    """A small segmentation with one neuron, its mesh and its skeleton."""
    resolution = np.array([16, 16, 40])
    branches = [curve((8, 60, 8), (118, 60, 54), 14), curve((60, 66, 30), (100, 14, 20), 9)]
    branches.append(curve((60, 66, 30), (64, 116, 50), 7))
    labels = np.zeros((64, 128, 128), np.uint64)
    z, y, x = np.indices(labels.shape)
    for branch in branches:
        for at, radius in zip(branch, np.linspace(5, 3, len(branch)), strict=True):
            far = ((np.stack([x, y, z], -1) + 0.5 - at) * resolution) ** 2
            labels[far.sum(-1) < (16 * radius) ** 2] = 7205
    url = str(folder / "neuron")
    array = xr.DataArray(labels, dims=("z", "y", "x"), name="segmentation")
    xp.to_precomputed(array, url, resolution=(16, 16, 40), voxel_offset=(0, 0, 0))

    vertices, faces = surface(labels == 7205)
    mesh = xp.Mesh((vertices * resolution).astype(np.float32), faces, 7205)
    xp.create_mesh(xp.open_store(url), format="multires").put(mesh, num_lods=3)

    import osteoid

    bones = [osteoid.Skeleton.from_path(branch * resolution) for branch in branches]
    skeleton = osteoid.Skeleton.simple_merge(bones).consolidate()
    skeleton.id, skeleton.space = 7205, "physical"
    xp.create_skeleton(xp.open_store(url), vertex_attributes=()).put(
        skeleton, extra_attributes="drop"
    )
    return url


def curve(begin: Any, end: Any, bend: float) -> np.ndarray:
    """Points from one place to another, not straight; voxels, x, y, z."""
    t = np.linspace(0, 1, 40)[:, None]
    sideways = np.array([0, bend, bend / 3])
    return np.array(begin) * (1 - t) + np.array(end) * t + np.sin(2 * np.pi * t) * sideways


def surface(mask: np.ndarray, rounds: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """The faces of voxels between inside and outside, smoothed: vertices (voxels), triangles."""
    inside = np.pad(mask, 1).transpose(2, 1, 0)
    quads = []
    for axis in range(3):
        u, v = np.eye(3, dtype=int)[[(axis + 1) % 3, (axis + 2) % 3]]
        steps = np.diff(inside.astype(np.int8), axis=axis)
        for sign in (-1, 1):
            corner = np.argwhere(steps == sign)
            corner[:, axis] += 1
            around = [corner, corner + u, corner + u + v, corner + v]
            quads.append(np.stack(around[::-sign], 1))
    vertices, found = np.unique(
        np.concatenate(quads).reshape(-1, 3) - 1, axis=0, return_inverse=True
    )
    corners = found.reshape(-1, 4)
    faces = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]]).astype(np.uint32)
    edges = np.concatenate([corners[:, [i, (i + 1) % 4]] for i in range(4)])
    points = vertices.astype(float)
    for _ in range(rounds):
        sums, counts = np.zeros_like(points), np.zeros(len(points))
        np.add.at(sums, edges[:, 0], points[edges[:, 1]])
        np.add.at(counts, edges[:, 0], 1)
        points = 0.5 * points + 0.5 * sums / counts[:, None]
    return points, faces


if __name__ == "__main__":
    main()
