import subprocess
import sys

import imagecodecs
import numpy as np
import pytest


def quickstart(repository, cwd, *args):
    command = [sys.executable, str(repository / "examples" / "quickstart.py"), *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_main_job(repository, tmp_path):
    done = quickstart(repository, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for line in (
        "image with 2 mips:",
        "(8, 8, 40) nm (x, y, z)",
        "segmentation: 46 segments (uint64 ids)",
        "µm³",
        "0 filled chunks",
    ):
        assert line in done.stdout
    picture = imagecodecs.png_decode((tmp_path / "overlay.png").read_bytes())
    assert picture.shape == (257, 301, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1000


def test_the_main_job_on_the_real_volume(repository, tmp_path, real_volume):
    done = quickstart(repository, tmp_path, real_volume, "--out", "real.png")
    assert done.returncode == 0, done.stderr
    assert "segmentation with 2 mips:" in done.stdout
    assert "segmentation: 496 segments (uint32 ids)" in done.stdout
    picture = imagecodecs.png_decode((tmp_path / "real.png").read_bytes())
    assert picture.shape == (512, 512, 3)


def test_the_piece_is_saved(repository, tmp_path):
    done = quickstart(repository, tmp_path, "--save", "piece")
    assert done.returncode == 0, done.stderr
    assert "saved with 4 mips" in done.stdout
    again = quickstart(repository, tmp_path, "piece")
    assert "image with 4 mips:" in again.stdout
    done = quickstart(repository, tmp_path, "--save", "piece")
    assert "there is a layer" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere"], "nowhere/info: there is no such object"),
        (["--mip", "9"], "there is no mip 9; there is"),
    ],
)
def test_mistakes_are_told(repository, tmp_path, args, message):
    done = quickstart(repository, tmp_path, *args)
    assert done.returncode != 0
    assert message in done.stderr
