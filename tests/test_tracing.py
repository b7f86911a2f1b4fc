from xprecomputed import trace
from xprecomputed.tracing import record_filled, record_request, record_retry


def test_counts_only_while_the_block_is_open_and_blocks_nest():
    record_request("a", 1)
    with trace() as outer:
        record_request("a", 10)
        with trace() as inner:
            record_request("b", 5)
            record_filled(2)
            record_retry()
        record_request("a", 1)
    record_request("a", 1)
    assert (outer.requests, outer.bytes, outer.filled, outer.retries) == (3, 16, 2, 1)
    assert (inner.requests, inner.bytes) == (1, 5)
    assert outer.objects == {"a": 2, "b": 1}
    assert str(inner) == "1 requests, 5 bytes, 1 retries, 2 filled chunks"
