"""Ways to damage bytes; every one is a function of (bytes, other bytes, random generator)."""

EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1,
            2**63, 2**64 - 1)  # fmt: skip
HEAD = 64


def flip_bits(data, other, rng):
    data = bytearray(data)
    for at in rng.integers(0, 8 * len(data), rng.integers(1, 4)).tolist():
        data[at // 8] ^= 1 << at % 8
    return bytes(data)


def set_bytes(data, other, rng):
    data = bytearray(data)
    for at in rng.integers(0, len(data), rng.integers(1, 9)).tolist():
        data[at] = int(rng.integers(256))
    return bytes(data)


def truncate(data, other, rng):
    return data[: int(rng.integers(0, len(data)))]


def extend(data, other, rng):
    return data + (rng.bytes(int(rng.integers(1, 64))) if rng.random() < 0.5 else data[:64])


def splice(data, other, rng):
    """The beginning of one chunk and the end of another."""
    return (
        data[: int(rng.integers(1, max(2, len(data))))] + other[int(rng.integers(0, len(other))) :]
    )


def move(data, other, rng):
    """A block, copied over another place."""
    data = bytearray(data)
    length = int(rng.integers(1, min(64, len(data)) + 1))
    source, target = rng.integers(0, len(data) - length + 1, 2).tolist()
    data[target : target + length] = data[source : source + length]
    return bytes(data)


def _write(data, at, width, value):
    data = bytearray(data)
    data[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")[: len(data) - at]
    return bytes(data)


def set_header_field(data, other, rng):
    width = int(rng.choice([1, 2, 4, 8]))
    at = int(rng.integers(0, min(HEAD, len(data))))
    return _write(data, at, width, EXTREMES[rng.integers(len(EXTREMES))])


def set_length(data, other, rng):
    """A number that is near a length of something, anywhere."""
    width = int(rng.choice([2, 4, 8]))
    at = int(rng.integers(0, len(data)))
    old = int.from_bytes(data[at : at + width], "little")
    near = int(rng.choice([len(data), len(data) // 4, old, old * 2, -old])) + int(
        rng.integers(-2, 3)
    )
    return _write(data, at, width, near)


def cut_out(data, other, rng):
    start, stop = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    return data[:start] + data[stop:]


MUTATIONS = (flip_bits, set_bytes, truncate, extend, splice, move, set_header_field, set_length,
             cut_out)  # fmt: skip


def mutate(data, other, rng):
    """One mutation, or now and then two."""
    for _ in range(2 if rng.random() < 0.2 else 1):
        if data:
            data = MUTATIONS[rng.integers(len(MUTATIONS))](data, other, rng)
    return data
