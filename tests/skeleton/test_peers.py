"""What CloudVolume writes is read, and what is written it reads."""

import json
import warnings

import numpy as np
import pytest

from tests.skeleton.paths import RADIUS, TURNED, TYPES, assert_same, random_tree
from xprecomputed import errors
from xprecomputed.metadata import ShardingSpec, VertexAttribute
from xprecomputed.skeleton import create_skeletons, open_skeletons
from xprecomputed.storage import locate_url

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    cloudvolume = pytest.importorskip("cloudvolume")
    from cloudvolume.datasource.precomputed.sharding import ShardingSpecification

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

FLOW = VertexAttribute(id="flow", data_type="int16", num_components=3)
IDS = [7, 2**63 - 1, 12345, 8, 1]
SHARDS = [
    ShardingSpec(
        preshift_bits=preshift,
        hash=hashed,
        minishard_bits=2,
        shard_bits=1,
        minishard_index_encoding=encoding,
        data_encoding=encoding,
    )
    for preshift, hashed, encoding in [
        (0, "murmurhash3_x86_128", "gzip"),
        (1, "identity", "raw"),
    ]
]


@pytest.fixture
def folder(tmp_path):
    """The skeletons of a volume of which there is nothing else."""
    info = cloudvolume.CloudVolume.create_new_info(
        num_channels=1,
        layer_type="segmentation",
        data_type="uint64",
        encoding="raw",
        resolution=(8, 8, 40),
        voxel_offset=(0, 0, 0),
        volume_size=(64, 64, 64),
        chunk_size=(64, 64, 64),
        skeletons="skeletons",
    )
    (tmp_path / "info").write_text(json.dumps(info))
    return locate_url(str(tmp_path / "skeletons"))


def peer_volume(folder):
    path = folder.url.removesuffix("/skeletons")
    return cloudvolume.CloudVolume(path, progress=False, compress=False)


def peer(folder):
    return peer_volume(folder).skeleton


@pytest.fixture
def trees(rng):
    return {
        number: random_tree(
            rng,
            size,
            number,
            vertex_types=rng.integers(0, 5, size).astype(np.uint8),
            flow=rng.integers(-(2**15), 2**15, (size, 3)).astype(np.int16),
        )
        for number, size in zip(IDS, (1, 2, 20, 60, 300), strict=True)
    }


@pytest.mark.parametrize("sharding", [None, *SHARDS])
def test_the_peer_reads_what_is_written(folder, trees, sharding):
    create_skeletons(folder, vertex_attributes=[RADIUS, FLOW, TYPES], sharding=sharding)
    open_skeletons(folder).put(trees)
    for found in peer(folder).get(IDS):
        assert_same(found, trees[found.id], ("radius", "flow", "vertex_types"))


@pytest.mark.parametrize("sharding", [None, SHARDS[0]])
def test_the_peer_reads_it_in_nm(folder, trees, sharding):
    create_skeletons(folder, transform=TURNED, sharding=sharding)
    skeletons = open_skeletons(folder)
    skeletons.put(trees, extra_attributes="drop")
    mine = skeletons.get(IDS)
    for found in peer(folder).get(IDS):
        assert_same(found, trees[found.id], (), rtol=1e-5, atol=1e-3)
        assert_same(mine[found.id], trees[found.id], rtol=1e-5, atol=1e-3)
        # which the peer leaves in units of the stored model
        np.testing.assert_allclose(found.radius * 2, trees[found.id].radius, rtol=1e-6)


@pytest.mark.parametrize("compress", [False, "gzip"])
def test_what_the_peer_uploads_is_read(folder, trees, compress):
    source = peer(folder)
    source.meta.commit_info()
    source.config.compress = compress
    for each in trees.values():
        each.extra_attributes = source.meta.info["vertex_attributes"]
    source.upload(list(trees.values()))
    skeletons = open_skeletons(folder)
    assert skeletons.has_info
    assert skeletons.ids().tolist() == sorted(IDS)
    for number, found in skeletons.get(IDS).items():
        assert_same(found, trees[number], ("radius", "vertex_types"))


def test_what_the_peer_uploads_without_info_is_read(folder, trees):
    for each in trees.values():
        del each.flow
    peer(folder).upload(list(trees.values()))
    skeletons = open_skeletons(folder)
    assert not skeletons.has_info
    for number, found in skeletons.get(IDS).items():
        assert_same(found, trees[number], ("radius", "vertex_types"))


def test_what_the_peer_shards_is_read(folder, trees):
    volume = peer_volume(folder)
    volume.skeleton.to_sharded(num_labels=10**4)
    volume.skeleton.meta.commit_info()
    source = peer(folder)
    for each in trees.values():
        each.extra_attributes = source.meta.info["vertex_attributes"]
    source.upload(list(trees.values()))
    skeletons = open_skeletons(folder)
    assert skeletons.info.sharding.minishard_bits == 3
    assert skeletons.ids().tolist() == sorted(IDS)
    for number, found in skeletons.get(IDS).items():
        assert_same(found, trees[number], ("radius", "vertex_types"))
    # and changed beside it: the peer reads both
    other = random_tree(np.random.default_rng(1), 9, 77)
    skeletons.put([other])
    trees[77] = other
    for found in peer(folder).get([77, *IDS]):
        assert_same(found, trees[found.id], ("radius", "vertex_types"))


@pytest.mark.parametrize("spec", SHARDS)
def test_shards_that_the_peer_synthesizes_are_read(folder, trees, spec):
    info = create_skeletons(folder, vertex_attributes=[RADIUS, FLOW], sharding=spec)
    attributes = info.to_json()["vertex_attributes"]
    for each in trees.values():
        each.extra_attributes = attributes
    theirs = ShardingSpecification.from_dict(spec.to_json())
    files = theirs.synthesize_shards({n: each.to_precomputed() for n, each in trees.items()})
    for name, data in files.items():
        folder.storage.put(folder.child(name).key, data)
    skeletons = open_skeletons(folder)
    assert skeletons.ids().tolist() == sorted(IDS)
    for number, found in skeletons.get(IDS).items():
        assert_same(found, trees[number], ("radius", "flow"))


def test_to_and_fro_does_not_move(folder, trees):
    """As it does with the peer, which uploads nm as if it were the stored model."""
    create_skeletons(folder, transform=TURNED)
    skeletons = open_skeletons(folder)
    skeletons.put(trees, extra_attributes="drop")
    for found in peer(folder).get(IDS):
        skeletons.put(found)
        assert_same(skeletons.get(found.id), trees[found.id], (), rtol=1e-5, atol=1e-3)


def test_the_peer_writes_what_is_too_short_and_is_told(folder, trees):
    """It stores the attributes that a skeleton has, whatever info names."""
    create_skeletons(folder, vertex_attributes=[RADIUS, TYPES])
    trees[8].extra_attributes = []
    peer(folder).upload(trees[8])
    with pytest.raises(errors.CorruptDataError, match="skeletons/8, skeleton of segment 8: a skel"):
        open_skeletons(folder).get(8)


def test_the_peer_finds_by_box_what_is_written(folder, rng):
    create_skeletons(
        folder, spatial_index={"resolution": (8, 8, 40), "chunk_size": (256, 256, 1280)}, mip=0
    )
    skeletons = open_skeletons(folder, ((0, 0, 0), (512, 512, 2560)))
    for number in IDS:
        tree = random_tree(rng, 5, number)
        tree.vertices *= np.float32(0.1)
        tree.vertices += rng.uniform(0, 400, 3).astype(np.float32)
        skeletons.put(tree)
    source, compared = peer(folder), 0
    for _ in range(20):
        begin, end = np.sort(rng.uniform(0, 512, (2, 3)), axis=0)
        if (begin < (256, 256, 1280)).all() and (end > (256, 256, 1280)).all():
            continue  # the peer takes all that is in the files
        found = set(skeletons.ids_in((begin, end)).tolist())
        # ours allows for boxes that others cut to whole nm
        wider = cloudvolume.Bbox(begin - 2, end + 2)
        assert found >= set(source.spatial_index.query(cloudvolume.Bbox(begin, end)))
        assert found <= set(source.spatial_index.query(wider))
        compared += len(found)
    assert compared > 5
    assert {each.id for each in source.get_bbox(cloudvolume.Bbox((0, 0, 0), (512, 512, 2560)))} == {
        *IDS
    }
