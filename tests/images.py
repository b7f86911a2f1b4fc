"""Arrays that look a little like the real thing; axes ([channel,] z, y, x)."""

import numpy as np


def noise(shape, dtype, seed=0):
    """Every value of the type is possible."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def labels(shape, dtype="u8", seed=0, cell=6, count=50):
    """Blocks of labels, with background and large ids."""
    rng = np.random.default_rng(seed)
    top = min(np.iinfo(dtype).max, 2**63 + 2**40)
    ids = rng.integers(1, top, count, dtype=np.uint64)
    ids[0] = 0
    coarse = rng.integers(0, count, [-(-n // cell) for n in shape[-3:]])
    fine = np.kron(coarse, np.ones((cell,) * 3, int))
    z, y, x = shape[-3:]
    volume = ids[fine[:z, :y, :x]].astype(dtype)
    return (
        volume
        if len(shape) == 3
        else np.stack([volume + np.dtype(dtype).type(c) for c in range(shape[0])])
    )


def smooth(shape, seed=0):
    """An image that survives JPEG."""
    grids = np.meshgrid(*(np.linspace(0, 3 + seed, n) for n in shape), indexing="ij")
    return (127 + 100 * np.sin(sum(grids))).astype("u1")
