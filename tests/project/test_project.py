"""The project's own promises: names, layers, imports, documents that are true."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

import xprecomputed

CLOUD = [
    "obstore",
    "s3fs",
    "gcsfs",
    "boto3",
    "botocore",
    "aiohttp",
    "requests",
    "google",
    "azure",
    "cloudvolume",
    "tensorstore",
]


def run(code, *args):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_public_names_are_exactly_those_that_are_announced():
    visible = {name for name in vars(xprecomputed) if not name.startswith("_")}
    submodules = {name for name in visible if f"xprecomputed.{name}" in sys.modules}
    assert visible - submodules <= set(xprecomputed.__all__)
    assert list(xprecomputed.__all__) == sorted(xprecomputed.__all__) == dir(xprecomputed)
    for name in xprecomputed.__all__:
        assert getattr(xprecomputed, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = xprecomputed.nonsense


def test_import_enters_no_room():
    """Rooms are imported when they are entered, the accessors too."""
    out = run(
        "import sys, xarray as xr, xprecomputed as xp\n"
        "print(*sorted(m for m in sys.modules if m.startswith('xprecomputed')))\n"
        "print(xp.Box.__module__, 'crop' in dir(xr.DataArray.precomputed))"
    )
    lines = out.splitlines()
    assert lines[0] == "xprecomputed xprecomputed.accessor"
    assert lines[1] == "xprecomputed.grid True"


def test_import_is_cheap():
    heavy = [
        *CLOUD,
        "dask",
        "distributed",
        "fsspec",
        "numba",
        "imagecodecs",
        "simplejpeg",
        "zarr",
        "compresso",
    ]
    out = run(
        "import sys, xarray; before = set(sys.modules); import xprecomputed\n"
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
    )
    assert not set(out.split()) & set(heavy), out


def test_a_local_volume_needs_no_cloud_library(tmp_path):
    from tests.images import noise
    from xprecomputed.testing import write_volume

    write_volume(str(tmp_path), [noise((9, 9, 9), "u1")])
    out = run(
        "import sys, xarray as xr\n"
        "xr.open_dataset(sys.argv[1], engine='precomputed').load()\n"
        "print(*sorted({m.partition('.')[0] for m in sys.modules}))",
        str(tmp_path),
    )
    assert "xprecomputed" in out
    assert not set(out.split()) & set(CLOUD), out


def test_without_numba_and_all_optional_packages_raw_volumes_are_read(tmp_path):
    from tests.images import noise
    from xprecomputed.testing import write_volume

    write_volume(str(tmp_path), [noise((9, 9, 9), "u1")])
    out = run(
        "import sys\n"
        "for name in ('numba', 'imagecodecs', 'simplejpeg', 'compresso', 'compressed_segmentation', 'brotli', 'dask'):\n"
        "    sys.modules[name] = None\n"
        "import xprecomputed as xp\n"
        "print(xp.open_store(sys.argv[1]).read(((0, 0, 0), (9, 9, 9))).shape)",
        str(tmp_path),
    )
    assert out.strip() == "(1, 9, 9, 9)"


def test_show_versions(capsys):
    xprecomputed.show_versions()
    out = capsys.readouterr().out
    assert f"xprecomputed: {xprecomputed.__version__}" in out
    assert (
        "encodings: compressed_segmentation, compresso, crackle, fpzip, jpeg, jxl, kempressed, "
        "png, raw, zfpc"
    ) in out


# ---- documents

CONDA_NAMES = {
    "isal": "python-isal",
    "brotli": "brotli-python",
    "dask[array]": "dask",
    "DracoPy": "dracopy",
}


def test_environment_yml_lists_what_pyproject_lists(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = ("fast", "compresso", "crackle", "zfpc", "mesh", "skeleton")
    optional = [line for name in names for line in extras[name]]
    wanted = {f"python{project['requires-python']}"}
    for line in [*project["dependencies"], *optional]:
        name, floor = re.match(r"([\w.\[\]-]+)([>=]=[\w.]+)", line.partition(";")[0]).groups()
        wanted.add(CONDA_NAMES.get(name, name) + floor)
    listed = yaml.safe_load((repository / "environment.yml").read_text())["dependencies"]
    (by_pip,) = [each["pip"] for each in listed if isinstance(each, dict)]
    assert {each for each in listed if isinstance(each, str)} - {"pip"} | set(by_pip) == wanted


def test_the_house_on_paper_has_the_rooms_of_the_contract(repository):
    layers = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ][0]["layers"]
    rooms = [
        room.strip().removeprefix("xprecomputed.") for line in layers for room in line.split("|")
    ]
    text = (repository / "docs" / "architecture.md").read_text()
    picture = text.split("```")[1]
    drawn = re.findall(r"^(\w+)/?(?:   (\w+)   (\w+)   (\w+))?", picture, re.MULTILINE)
    assert sorted(name for line in drawn for name in line if name and name in rooms) == sorted(
        rooms
    )
    files = {
        p.stem
        for p in (repository / "xprecomputed").iterdir()
        if not p.name.startswith(("_", "py"))
    }
    assert files == set(rooms)


@pytest.mark.parametrize("document", ["README.md", "docs/architecture.md", "CONTRIBUTING.md"])
def test_links_and_commands_of_the_documents_exist(repository, document):
    text = (repository / document).read_text()
    for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", text):
        assert ((repository / document).parent / target).exists(), target
    for command in re.findall(r"^python3 dev.py (\w+)", text, re.MULTILINE):
        assert f'"{command}"' in (repository / "dev.py").read_text()


def add_segments(url):
    import numpy as np
    import osteoid

    triangles = (
        np.array([[0, 0, 0], [3000, 0, 0], [0, 3000, 0], [0, 0, 3000]]),
        [[0, 1, 2], [1, 2, 3]],
    )
    mesh = xprecomputed.create_mesh(xprecomputed.open_store(url), format="multires")
    mesh.put({7205: [triangles, triangles], 991: [triangles, triangles]})
    bone = osteoid.Skeleton([(0, 0, 0), (3000, 4000, 0)], [(0, 1)], radii=[1, 2], segid=7205)
    xprecomputed.create_skeleton(xprecomputed.open_store(url)).put(bone)


def test_the_python_of_the_readme_runs(repository, tmp_path, monkeypatch):
    """Every Python block, in order, on a small volume."""
    import numpy as np

    from tests.images import labels
    from xprecomputed.testing import write_volume

    array = labels((100, 600, 600), "u4", cell=10)
    mips = [array, array[:, ::2, ::2], array[:, ::4, ::4]]
    url = write_volume(
        str(tmp_path),
        mips,
        encoding="compressed_segmentation",
        voxel_offset=(0, 0, 0),
        resolution=(16, 16, 40),
    )
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 8
    monkeypatch.chdir(tmp_path)
    names = {"points": np.array([[100.0, 200, 300], [4000, 2000, 1000]])}
    for block in blocks:
        if "precomputed.mesh" in block:
            add_segments(url)
        code = block.replace("/data/em/segmentation", url)
        exec(compile(code, "README.md", "exec"), names)
    assert names["da"].shape == (100, 330, 0) or names["da"].size
    assert names["skeleton"].cable_length() == 5000


def test_every_raise_of_the_package_is_of_our_tree_or_about_arguments(repository):
    """Errors that users meet are ours; ValueError and TypeError are for wrong arguments."""
    ours = set(xprecomputed.errors.__all__) | {"ValueError", "TypeError"}
    inner = {"EOFError", "NotImplementedError"}  # never leave their module
    for path in (repository / "xprecomputed").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Raise)
                and isinstance(node.exc, ast.Call)
                and isinstance(node.exc.func, ast.Name)
            ):
                name = node.exc.func.id
                is_inner = name in inner or re.fullmatch(r"_\w+Error", name)
                assert name in ours or is_inner, f"{path}:{node.lineno}"


def test_nothing_of_a_machine_is_in_the_tree(repository):
    home = str(repository.parent) + "/"
    for path in repository.rglob("*"):
        inside = path.relative_to(repository).parts
        if (
            path.is_file()
            and not any(
                part.startswith(
                    (".venv", ".git", ".mypy", ".ruff", ".hyp", ".pytest", ".import", "__pycache__")
                )
                for part in inside
            )
            and (path.suffix in (".py", ".md", ".toml", ".yml") or path.name == "run")
        ):
            assert home not in path.read_text(), path


def test_the_example_of_segments_runs(repository, tmp_path):
    picture = tmp_path / "segment.png"
    command = [sys.executable, str(repository / "examples/segments.py"), "--out", str(picture)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r"<Mesh of segment 7205, lod 0: \d+ vertices, \d+ faces>", found.stdout)
    assert "skeleton of 119 vertices" in found.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
