"""The sharding of ids, by CloudVolume's own choice."""

from __future__ import annotations

import numpy as np
import pytest
from cloudvolume.datasource.precomputed.sharding import compute_shard_params_for_hashed

from xprecomputed.shard_format import sharding_for_ids


def test_the_table_of_the_format_reference():
    bits = {
        10**power: (spec.shard_bits, spec.minishard_bits)
        for power in range(3, 9)
        for spec in [sharding_for_ids(10**power)]
    }
    assert bits == {
        10**3: (0, 0),
        10**4: (0, 3),
        10**5: (0, 7),
        10**6: (1, 9),
        10**7: (4, 9),
        10**8: (8, 9),
    }


def test_cloudvolume_chooses_the_same():
    counts = np.unique(np.geomspace(1, 10**11, 4000).astype(np.int64)).tolist()
    for count in [0, 1365, 1366, 699_050, 699_051, 769_000, *counts]:
        spec = sharding_for_ids(count)
        expected = compute_shard_params_for_hashed(count)
        assert (spec.shard_bits, spec.minishard_bits, spec.preshift_bits) == expected, count


def test_the_other_members():
    spec = sharding_for_ids(10, "gzip")
    assert (spec.hash, spec.minishard_index_encoding) == ("murmurhash3_x86_128", "gzip")
    assert spec.data_encoding == "gzip"
    assert sharding_for_ids(10).data_encoding == "raw"


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="num_labels=-1: expected at least 0"):
        sharding_for_ids(-1)
