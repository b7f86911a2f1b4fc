"""Shared fixtures. The oracles are other packages and bytes made by hand."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from xprecomputed import jit
from xprecomputed.storage import batches, index_cache

for profile, examples in (("default", 60), ("thorough", 1000)):
    settings.register_profile(
        profile,
        deadline=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("XPRECOMPUTED_HYPOTHESIS", "default"))

#: makers of fixtures are run by hand, with packages that are not here
collect_ignore_glob = ["*/fixtures/make_*.py"]

REPOSITORY = Path(__file__).resolve().parent.parent
REAL_VOLUME = Path(
    os.environ.get("XPRECOMPUTED_REAL_VOLUME", REPOSITORY.parent / "shared/data/connectomics_seg")
)


@pytest.fixture(autouse=True)
def empty_index_cache():
    index_cache.clear()


@pytest.fixture(autouse=True)
def few_files(monkeypatch):
    """What a test of a few files does is not up to how many others had."""
    monkeypatch.setattr(batches, "_count", 0)


@pytest.fixture
def files_by_python(monkeypatch):
    """Local files are never read and written by the kernels."""
    monkeypatch.setattr(batches, "BEFORE", 1 << 60)
    monkeypatch.setattr(batches, "AT_ONCE", 1 << 60)


@pytest.fixture
def files_by_kernels(monkeypatch):
    """Local files are read and written by the kernels from the first one on."""
    pytest.importorskip("numba")
    monkeypatch.setattr(batches, "BEFORE", -1)


@pytest.fixture(params=["python", "kernels"])
def either_way(request):
    """Run a test with local files read and written by Python, and again by the kernels."""
    request.getfixturevalue(f"files_by_{request.param}")
    return request.param


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def real_volume():
    """The real segmentation that lies beside some checkouts."""
    if not (REAL_VOLUME / "info").exists():
        pytest.skip(f"{REAL_VOLUME} is not here (set XPRECOMPUTED_REAL_VOLUME)")
    return str(REAL_VOLUME)


@pytest.fixture
def without_numba(monkeypatch):
    """The paths that are taken where numba is not installed."""
    monkeypatch.setattr(jit, "_compile", lambda kernel: None)


@pytest.fixture(params=["numba", "no numba"])
def either_path(request):
    """Run a test with the kernels and again without them."""
    if request.param == "no numba":
        request.getfixturevalue("without_numba")
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20261121)
