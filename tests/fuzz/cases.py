"""What is fuzzed: each target turns a number into a case and judges it.

A judgement is one of `OUTCOMES`. What is thrown that is not of xprecomputed's own error tree is
"foreign"; crashes and hangs are seen from outside (``tests.fuzz.watch``).
"""

import contextlib
import copy
import json
import warnings
import zlib
from pathlib import Path

import numpy as np

from tests.fuzz.meshes import MESH_TARGETS, mesh_target
from tests.fuzz.mutations import mutate
from tests.fuzz.samples import ENCODINGS, samples
from xprecomputed import PrecomputedError, PrecomputedWarning, VolumeInfo, open_store
from xprecomputed.codecs import compress, decompress
from xprecomputed.metadata import ShardingSpec
from xprecomputed.shard_format.layout import MinishardIndex, minishard_range
from xprecomputed.storage import index_cache
from xprecomputed.testing import write_volume

OUTCOMES = ("equal", "other", "error", "foreign", "crash", "hang")
SHARD_INDEX = 32  # bytes, of two minishards
COMPRESSIONS = (None, None, "gzip", "br", "zstd")


def rng_of(target, seed, number):
    return np.random.default_rng([seed, zlib.crc32(target.encode()), number])


def judge(action):
    """The outcome of a call that says whether its result is right."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", PrecomputedWarning)
            return ("equal" if action() else "other"), ""
    except PrecomputedError as error:
        return "error", type(error).__name__
    except Exception as error:  # the very thing that is looked for
        return "foreign", f"{type(error).__name__}: {error}"


class ChunkTarget:
    """Mutated chunks of one encoding, bare and compressed, through the public codec."""

    def __init__(self, encoding, seed):
        self.name, self.seed = encoding, seed
        self.samples = samples(encoding, seed % 7)
        self.others = samples(encoding, seed % 7 + 1)

    def case(self, number):
        """The sample's position, the compression, and the bytes."""
        rng = rng_of(self.name, self.seed, number)
        position = int(rng.integers(len(self.samples)))
        compression = COMPRESSIONS[rng.integers(len(COMPRESSIONS))]
        sample, other = self.samples[position], self.others[position]
        data = sample.data
        if compression is None:
            return position, None, mutate(data, other.data, rng)
        if rng.random() < 0.5:  # damage inside an intact compression
            return position, compression, compress(mutate(data, other.data, rng), compression)
        packed = compress(data, compression)
        return position, compression, mutate(packed, compress(other.data, compression), rng)

    def run(self, number):
        return self.decode(*self.case(number), part=bool(number % 2))

    def decode(self, position, compression, data, part):
        sample = self.samples[position]

        def action():
            plain = data
            if compression is not None:
                limit = sample.codec.max_encoded_bytes(sample.chunk)
                plain = decompress(data, compression, limit)
            right = sample.decoded
            if plain == self.others[position].data:  # a splice has made it: nothing is damaged
                right = self.others[position].decoded
            if part:
                region = tuple(slice(n // 3, n - n // 4) for n in sample.chunk.shape)
                right = right[region]
                found = np.empty_like(right)
                sample.codec.decode_into(plain, sample.chunk, region, found)
                return found.tobytes() == right.tobytes()
            found = sample.codec.decode(plain, sample.chunk)
            if found.shape != sample.chunk.shape or found.dtype != sample.chunk.dtype:
                raise AssertionError(f"decoded to {found.shape} {found.dtype}")
            return found.tobytes() == right.tobytes()

        return judge(action)

    def fixture(self, number):
        """What a folder of findings keeps of a case."""
        position, compression, data = self.case(number)
        return {"target": self.name, "seed": self.seed % 7, "sample": position,
                "compression": compression, "part": bool(number % 2)}, data  # fmt: skip

    def replay(self, about, data):
        return self.decode(about["sample"], about["compression"], data, about["part"])


class JsonTarget:
    """Mutated ``info`` documents, as bytes and as values."""

    name = "info"
    STRANGE = (None, True, -1, 0, 2**63, 2**70, 1e308, float("nan"), "", "\0", "../..", [], {},
               [[]], [1, 2], "8", ["a", "b", "c"], {"@type": 3}, [[1, 1, 1]] * 3)  # fmt: skip

    def __init__(self, seed):
        self.seed = seed
        self.sharding = {
            "@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 1, "minishard_bits": 2,
            "hash": "murmurhash3_x86_128", "shard_bits": 3, "data_encoding": "gzip",
            "minishard_index_encoding": "raw",
        }  # fmt: skip
        scale = {
            "key": "8_8_40", "size": [100, 90, 80], "voxel_offset": [1, -2, 3], "hidden": False,
            "resolution": [8, 8.5, 40], "chunk_sizes": [[64, 64, 64]], "encoding": "jpeg",
            "jpeg_quality": 75, "sharding": self.sharding, "zfpc_rate": 3,
        }  # fmt: skip
        self.document = {
            "@type": "neuroglancer_multiscale_volume", "type": "image", "data_type": "uint8",
            "num_channels": 1, "scales": [scale, scale | {"key": "16"}], "mesh": "mesh",
            "redirect": "x",
        }  # fmt: skip

    def case(self, number):
        rng = rng_of(self.name, self.seed, number)
        text = json.dumps(self.document).encode()
        if rng.random() < 0.4:
            return mutate(text, text, rng)
        document = json.loads(text)
        for _ in range(rng.integers(1, 4)):
            place = document
            while True:
                keys = list(place) if isinstance(place, dict) else list(range(len(place)))
                if not keys:
                    break
                key = keys[rng.integers(len(keys))]
                if isinstance(place[key], dict | list) and rng.random() < 0.8:
                    place = place[key]
                    continue
                if rng.random() < 0.2:
                    del place[key]
                else:
                    place[key] = copy.deepcopy(self.STRANGE[rng.integers(len(self.STRANGE))])
                break
        return json.dumps(document).encode()

    def run(self, number):
        return self.replay({}, self.case(number))

    def replay(self, about, data):
        def action():
            info = VolumeInfo.from_bytes(data)
            json.dumps(info.to_json())
            for scale in info.scales:
                scale.grid.cells(scale.bounds)
                open_codec(info, scale)
            return info.to_json() == VolumeInfo.from_json(self.document).to_json()

        return judge(action)

    def fixture(self, number):
        return {"target": self.name}, self.case(number)


def open_codec(info, scale):
    from xprecomputed import UnsupportedEncodingError
    from xprecomputed.codecs import codec_for

    try:
        codec_for(info, scale)
    except UnsupportedEncodingError:
        return


class IndexTarget:
    """Bytes and bits of shard indexes and minishard indexes, parsed alone."""

    name = "shard index"

    def __init__(self, seed):
        self.seed = seed
        columns = np.array([[3, 1, 4, 1, 5], [0, 0, 7, 0, 0], [10, 20, 30, 40, 50]], "<u8")
        self.index = columns.tobytes()

    def case(self, number):
        rng = rng_of(self.name, self.seed, number)
        return mutate(self.index, self.index, rng)

    def run(self, number):
        return self.replay({}, self.case(number))

    def replay(self, about, data):
        spec = ShardingSpec(preshift_bits=0, hash="identity", minishard_bits=2, shard_bits=0)

        def action():
            if len(data) >= 16:
                with contextlib.suppress(PrecomputedError):
                    minishard_range(spec, data[:16])
            index = MinishardIndex.parse(data, spec)
            index.find(np.array([3, 4, 2**64 - 1], "u8"))
            return data == self.index

        return judge(action)

    def fixture(self, number):
        return {"target": self.name}, self.case(number)


class ShardTarget:
    """Whole sharded reads while one byte range of one shard file is damaged.

    "other" here is a chunk whose own bytes are intact and whose values changed. With "raw", an
    index has no checksum, and can come to mean another intact value; "raw values" leaves the
    indexes as they are, so there (and with "gzip") no such chunk may be.
    """

    def __init__(self, seed, folder, packed):
        self.name, self.seed = f"shards, {packed}", seed
        self.values_only = packed.endswith(" values")
        packed = packed.removesuffix(" values")
        self.array = np.random.default_rng(seed).integers(1, 9, (20, 24, 28)).astype("u1")
        self.path = f"{folder}/{packed}"
        sharding = {
            "@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 1, "hash": "identity",
            "minishard_bits": 1, "shard_bits": 1, "minishard_index_encoding": packed,
            "data_encoding": packed,
        }  # fmt: skip
        write_volume(self.path, [self.array], chunk_size=(8, 8, 8), sharding=sharding)
        self.store = open_store(self.path)
        self.scale = self.store.info.scales[0]
        key = f"{self.path}/{self.scale.key}"
        self.files = {f"{key}/{n}.shard": Path(f"{key}/{n}.shard").read_bytes() for n in (0, 1)}

    def case(self, number):
        rng = rng_of(self.name, self.seed, number)
        names = sorted(self.files)
        name = names[rng.integers(len(names))]
        (other,) = set(names) - {name}
        data = mutate(self.files[name], self.files[other], rng)
        return name, self._with_indexes(data, self.files[name]) if self.values_only else data

    def _with_indexes(self, data, right):
        """`data` in the length of `right`, and with its indexes."""
        whole = bytearray(data[: len(right)] + right[len(data) :])
        whole[:SHARD_INDEX] = right[:SHARD_INDEX]
        for start, stop in np.frombuffer(right[:SHARD_INDEX], "<u8").reshape(-1, 2).tolist():
            place = slice(SHARD_INDEX + start, SHARD_INDEX + stop)
            whole[place] = right[place]
        return bytes(whole)

    def run(self, number):
        name, data = self.case(number)
        return self.replay({"file": name.rpartition("/")[2]}, data)

    def replay(self, about, data):
        """Read each chunk alone: where its own bytes are intact, so are its values."""
        (name,) = [each for each in self.files if each.endswith(about["file"])]
        found = []
        Path(name).write_bytes(data)
        try:
            for cell in self.scale.grid.cells(self.scale.bounds):
                index_cache.clear()
                found.append(self._chunk(cell, data, name))
        finally:
            Path(name).write_bytes(self.files[name])
        order = ("foreign", "other", "error", "equal")
        return min(found, key=lambda each: order.index(each[0]))

    def _chunk(self, cell, data, name):
        box = self.scale.grid.chunk_box(cell)
        (x0, y0, z0), (x1, y1, z1) = box.start, box.stop

        def action():
            values = np.asarray(self.store.read(box)).reshape(z1 - z0, y1 - y0, x1 - x0)
            right = self.array[z0:z1, y0:y1, x0:x1]
            if (values == right).all():
                return True
            # a chunk that is damaged itself may be anything; none of a gzipped shard is found here
            at = self.files[name].find(right.tobytes())
            return at >= 0 and data[at : at + right.nbytes] != right.tobytes()

        return judge(action)

    def fixture(self, number):
        name, data = self.case(number)
        return {"target": self.name, "seed": self.seed, "file": name.rpartition("/")[2]}, data


def target(name, seed, folder):
    """A target by its name."""
    if name == "info":
        return JsonTarget(seed)
    if name == "shard index":
        return IndexTarget(seed)
    if name in MESH_TARGETS:
        return mesh_target(name, seed, folder)
    if name.startswith("shards, "):
        return ShardTarget(seed, folder, name.removeprefix("shards, "))
    return ChunkTarget(name, seed)


OTHER_TARGETS = ("info", "shard index", "shards, raw values", "shards, raw", "shards, gzip")
TARGETS = (*ENCODINGS, *OTHER_TARGETS, *MESH_TARGETS)
