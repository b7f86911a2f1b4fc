import os

import pytest

from tests.storage.places import Place
from xprecomputed.storage.credentials import ambient as _ambient
from xprecomputed.storage.credentials import providers as _providers
from xprecomputed.storage.credentials.access import bucket_region


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    """An empty folder."""
    return Place(
        str(tmp_path / "v") if request.param == "local" else f"memory://{request.node.name}"
    )


@pytest.fixture
def local(tmp_path):
    return Place(str(tmp_path / "v"))


PREFIXES = ("AWS_", "GOOGLE_", "AZURE_", "CLOUD", "GCE_", "STORAGE_", "K_SERVICE", "NO_GCE")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A machine on which nobody has left anything."""
    for name in [name for name in os.environ if name.startswith(PREFIXES)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(_ambient, "DMI", tmp_path / "dmi")
    _providers.has_role.cache_clear()
    bucket_region.cache_clear()
    return tmp_path
