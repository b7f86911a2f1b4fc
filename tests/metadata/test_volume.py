import copy
import json

import pytest

from xprecomputed import InvalidInfoError, PrecomputedWarning, ScaleNotFoundError, VolumeInfo

SCALE = {
    "key": "8_8_40",
    "size": [100, 90, 80],
    "voxel_offset": [1, -2, 3],
    "resolution": [8, 8, 40],
    "chunk_sizes": [[64, 64, 64]],
    "encoding": "raw",
}
INFO = {
    "@type": "neuroglancer_multiscale_volume",
    "type": "image",
    "data_type": "uint8",
    "num_channels": 1,
    "scales": [SCALE],
}
SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 1,
    "hash": "identity",
    "minishard_bits": 2,
    "shard_bits": 3,
}


def info(**changes):
    return {**copy.deepcopy(INFO), **changes}


def with_scale(**changes):
    return info(scales=[{**copy.deepcopy(SCALE), **changes}])


def without(document, *names):
    return {key: value for key, value in document.items() if key not in names}


def problems(document):
    with pytest.raises(InvalidInfoError) as caught:
        VolumeInfo.from_json(document)
    return "\n".join(caught.value.problems)


def test_a_plain_volume():
    found = VolumeInfo.from_json(INFO)
    scale = found.scales[0]
    assert (found.type, found.dtype, found.num_channels) == ("image", "uint8", 1)
    assert (scale.size, scale.voxel_offset) == ((100, 90, 80), (1, -2, 3))
    assert scale.bounds.stop == (101, 88, 83)
    assert found.to_json() == INFO


def test_directories_beside_the_volume_are_kept():
    document = info(mesh="m", skeletons="s", segment_properties="p", redirect="gs://b/p")
    assert VolumeInfo.from_json(document).to_json() == document


def test_unknown_members_are_kept_and_written_back():
    document = with_scale(locked=True, jxl_quality=80, rois=[[0] * 6])
    document["my_lab"] = {"a": [1]}
    found = VolumeInfo.from_json(document)
    assert found.to_json() == document
    found.to_json()["my_lab"]["a"].append(2)
    assert found.to_json() == document


@pytest.mark.parametrize(
    ("document", "look"),
    [
        (without(INFO, "@type"), lambda v: v.type == "image"),
        (
            info(scales=[without(SCALE, "voxel_offset")]),
            lambda v: v.scales[0].voxel_offset == (0, 0, 0),
        ),
        (
            with_scale(chunk_sizes=[[64, 64, 64], [512, 512, 1]]),
            lambda v: v.scales[0].chunk_size == (64, 64, 64),
        ),
        (with_scale(key="8.0x8.0x8.0"), lambda v: v.scales[0].key == "8.0x8.0x8.0"),
        (with_scale(key="../em/8_8_40"), lambda v: v.scales[0].key == "../em/8_8_40"),
        (with_scale(hidden=True), lambda v: v.scales[0].hidden),
        (with_scale(hidden="true"), lambda v: v.scales[0].hidden),
        (with_scale(key="placeholder"), lambda v: v.scales[0].is_placeholder),
        (info(redirect="gs://a/b"), lambda v: v.redirect == "gs://a/b"),
        (with_scale(resolution=[4.3, 4.3, 45]), lambda v: v.scales[0].resolution == (4.3, 4.3, 45)),
        (
            with_scale(resolution=["8", "8", "40.5"]),
            lambda v: v.scales[0].resolution == (8, 8, 40.5),
        ),
        (with_scale(size=[100.0, "90", 80]), lambda v: v.scales[0].size == (100, 90, 80)),
        (with_scale(sharding=None), lambda v: v.scales[0].sharding is None),
        (info(mesh=None), lambda v: v.mesh is None),
        (
            info(data_type="UINT8", type="Image"),
            lambda v: (v.data_type, v.type) == ("uint8", "image"),
        ),
        (with_scale(encoding="RAW"), lambda v: v.scales[0].encoding == "raw"),
        (with_scale(encoding="of_next_year"), lambda v: v.scales[0].encoding == "of_next_year"),
        (with_scale(sharding=SHARDING), lambda v: v.scales[0].sharding.data_encoding == "raw"),
        (info(data_type="int64"), lambda v: v.dtype == "<i8"),
        (with_scale(jpeg_quality=None, png_level=3), lambda v: v.scales[0].png_level == 3),
        (
            with_scale(compressed_segmentation_block_size=[8, 8, 8]),
            lambda v: v.scales[0].encoding == "raw",
        ),
    ],
)
def test_what_real_files_do_is_read(document, look):
    assert look(VolumeInfo.from_json(json.loads(json.dumps(document))))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([], "document: expected an object, found []"),
        (info(**{"@type": "neuroglancer_skeletons"}), "@type: this is a skeleton directory"),
        (info(**{"@type": 5}), "@type: this is not a volume"),
        (without(INFO, "type"), 'type: missing, expected "image" or "segmentation"'),
        (without(INFO, "data_type"), "data_type: missing"),
        (without(INFO, "num_channels"), "num_channels: missing"),
        (without(INFO, "scales"), "scales: missing"),
        (info(scales=[]), "scales: expected a list of scales, found []"),
        (info(scales=[5]), "scales[0]: expected an object, found 5"),
        (info(num_channels=0), "num_channels: expected an integer >= 1, found 0"),
        (info(num_channels=True), "num_channels: expected an integer >= 1, found True"),
        (info(data_type="uint128"), "data_type: expected one of uint8"),
        (info(mesh=7), "mesh: expected a string, found 7"),
        (info(scales=[without(SCALE, "key")]), "scales[0].key: missing"),
        (info(scales=[without(SCALE, "size")]), "scales[0].size: missing"),
        (info(scales=[without(SCALE, "resolution")]), "scales[0].resolution: missing"),
        (info(scales=[without(SCALE, "chunk_sizes")]), "scales[0].chunk_sizes: missing"),
        (info(scales=[without(SCALE, "encoding")]), "scales[0].encoding: missing"),
        (with_scale(size=[100, 90]), "scales[0].size: expected three integers >= 1"),
        (with_scale(size=[100, 90, 0]), "scales[0].size: expected three integers >= 1"),
        (with_scale(size=[100, 90, -1]), "scales[0].size"),
        (with_scale(size=[100, 90, 64.5]), "scales[0].size"),
        (with_scale(size=[100, 90, 10**30]), "scales[0].size"),
        (with_scale(size=[100, 90, "9" * 400]), "scales[0].size"),
        (with_scale(voxel_offset=None), "scales[0].voxel_offset: expected three integers, found None"),
        (with_scale(resolution=[8, 8, 0]), "scales[0].resolution: expected three finite numbers > 0"),
        (with_scale(resolution=[8, 8, -4]), "scales[0].resolution"),
        (with_scale(resolution=[8, 8, True]), "scales[0].resolution"),
        (with_scale(resolution=[8, 8, "nan"]), "scales[0].resolution"),
        (with_scale(resolution=[8, 8, "inf"]), "scales[0].resolution"),
        (with_scale(chunk_sizes=[]), "scales[0].chunk_sizes: expected a list of at least one"),
        (with_scale(chunk_sizes=[[64, 64, 0]]), "scales[0].chunk_sizes"),
        (with_scale(chunk_sizes=[64, 64, 64]), "scales[0].chunk_sizes"),
        (with_scale(encoding=""), "scales[0].encoding: expected the name of an encoding"),
        (with_scale(hidden="maybe"), "scales[0].hidden: expected a boolean"),
        (with_scale(sharding=[]), "scales[0].sharding: expected an object, found []"),
        (with_scale(sharding=SHARDING, chunk_sizes=[[64] * 3, [32] * 3]), "exactly one, found 2"),
        (with_scale(sharding=without(SHARDING, "hash")), "scales[0].sharding.hash: missing"),
        (with_scale(sharding={**SHARDING, "hash": "md5"}), "scales[0].sharding.hash: expected one of"),
        (with_scale(sharding={**SHARDING, "preshift_bits": -1}), "sharding.preshift_bits: expected"),
        (with_scale(sharding={**SHARDING, "minishard_bits": 65}), "sharding.minishard_bits: expected"),
        (with_scale(sharding={**SHARDING, "shard_bits": 63}), "minishard_bits + shard_bits is 65"),
        (with_scale(sharding={**SHARDING, "data_encoding": "zstd"}), "sharding.data_encoding: expected"),
        (with_scale(sharding={**SHARDING, "@type": "x"}), "sharding.@type: expected"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_its_place(document, expected):
    assert expected in problems(document)


def test_all_problems_are_listed_at_once():
    second = {**SCALE, "size": None, "resolution": [1]}
    found = problems(info(type=3, num_channels=0, scales=[{**SCALE, "encoding": 4}, second]))
    for place in (
        "type:", "num_channels:", "scales[0].encoding:", "scales[1].size:", "scales[1].resolution:",
    ):  # fmt: skip
        assert place in found


def test_extra_members_of_sharding_are_kept_with_a_warning():
    with pytest.warns(
        PrecomputedWarning, match=r"scales\[0\].sharding: unknown members \['note'\]"
    ):
        found = VolumeInfo.from_json(with_scale(sharding={**SHARDING, "note": 1}))
    assert found.to_json()["scales"][0]["sharding"]["note"] == 1


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", r"/v/info: not JSON: Expecting value: line 1 column 1"),
        (b'{"a": 1,}', r"/v/info: not JSON: .*line 1 column [89]"),
        (b'{"a": 1 // no\n}', r"not JSON"),
        (b'{"a": NaN}', r"not JSON: NaN is not JSON"),
        (b"\x1f\x8b\x08\x00", r"not JSON: .*the bytes are gzip"),
        (b"[" * 100_000, r"not usable JSON: nested too deeply"),
        (b"\xff\xfe", r"not JSON"),
        (b'{"num_channels": ' + b"9" * 5000 + b"}", r"not JSON: Exceeds the limit"),
    ],
)
def test_bytes_that_are_not_json_are_refused_with_the_position(data, match):
    with pytest.raises(InvalidInfoError, match=match):
        VolumeInfo.from_bytes(data, "/v/info")


def test_a_byte_order_mark_is_forgiven():
    assert VolumeInfo.from_bytes(b"\xef\xbb\xbf" + json.dumps(INFO).encode()).type == "image"


def test_mips_by_index_resolution_and_key():
    second = {**SCALE, "key": "16_16_40", "resolution": [16, 16, 40]}
    found = VolumeInfo.from_json(info(scales=[SCALE, second]))
    for name in (1, -1, (16, 16, 40), [16.0, 16.0, 40.0], "16_16_40"):
        assert found.find_mip(name) == 1
    assert found.find_mip(-2) == 0


@pytest.mark.parametrize("mip", [1, -2, "32_32_40", (4, 4, 40), (8, 8)])
def test_an_unknown_mip_lists_what_there_is(mip):
    with pytest.raises(
        ScaleNotFoundError,
        match=r"there is no mip .*\n  mip 0: resolution \(8, 8, 40\) nm, key '8_8_40'",
    ):
        VolumeInfo.from_json(INFO).find_mip(mip)


@pytest.mark.parametrize("mip", [None, 1.5, True, {}])
def test_a_mip_of_another_kind_is_a_type_error(mip):
    with pytest.raises(
        TypeError, match=r"expected an index, a resolution \(x, y, z\) in nm or a scale key"
    ):
        VolumeInfo.from_json(INFO).find_mip(mip)


def test_values_are_frozen_and_hashable():
    found = VolumeInfo.from_json(INFO)
    with pytest.raises(AttributeError):
        found.type = "segmentation"
    assert hash(found) == hash(VolumeInfo.from_json(INFO))
    assert found == VolumeInfo.from_json(INFO)
