import pytest

from xprecomputed import get_options, set_options


def test_a_with_block_restores_and_a_call_stays():
    before = get_options()
    with set_options(threads=3, coalesce_gap_bytes=0):
        assert get_options().threads == 3
        assert get_options().coalesce_gap_bytes == 0
    assert get_options() is before
    change = set_options(read_budget_bytes=123)
    assert get_options().read_budget_bytes == 123
    change.__exit__(None, None, None)
    assert get_options() is before


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "4"])
def test_unusable_values_are_refused_and_change_nothing(value):
    before = get_options()
    with pytest.raises(ValueError, match=r"set_options\(threads=.*expected an integer >= 1"):
        set_options(threads=value)
    assert get_options() is before


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown \['thread'\], known are \['threads'"):
        set_options(thread=2)


def test_threads_default_to_the_processors_of_this_process():
    assert get_options().threads is None
    assert get_options().decode_threads >= 1
