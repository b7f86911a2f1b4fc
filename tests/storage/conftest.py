import pytest

from tests.storage.places import Place


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    """An empty folder."""
    return Place(
        str(tmp_path / "v") if request.param == "local" else f"memory://{request.node.name}"
    )


@pytest.fixture
def local(tmp_path):
    return Place(str(tmp_path / "v"))
