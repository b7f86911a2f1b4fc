import builtins
import pickle

import pytest

from xprecomputed import errors

BUILTIN = {
    "AccessDeniedError": "PermissionError",
    "AlignmentError": "ValueError",
    "ChunkMissingError": "FileNotFoundError",
    "CoordinateError": "ValueError",
    "CorruptDataError": "ValueError",
    "DataTypeError": "TypeError",
    "InfoMissingError": "FileNotFoundError",
    "InvalidInfoError": "ValueError",
    "InvalidURLError": "ValueError",
    "LayerExistsError": "FileExistsError",
    "LayoutError": "ValueError",
    "LodNotFoundError": "LookupError",
    "MissingDependencyError": "ImportError",
    "NotFoundError": "FileNotFoundError",
    "OutOfBoundsError": "IndexError",
    "ScaleNotFoundError": "LookupError",
    "SegmentMissingError": "KeyError",
    "SourceError": "ValueError",
    "StorageError": "OSError",
    "ConflictError": "OSError",
    "UnsupportedEncodingError": "ValueError",
}

LEAVES = [name for name in errors.__all__ if name not in ("PrecomputedError", "PrecomputedWarning")]


@pytest.mark.parametrize("name", LEAVES)
def test_each_error_is_of_our_tree_and_the_builtin_that_callers_expect(name):
    error = getattr(errors, name)
    assert issubclass(error, errors.PrecomputedError)
    assert issubclass(error, getattr(builtins, BUILTIN[name]))


@pytest.mark.parametrize("name", LEAVES)
def test_errors_cross_process_borders(name):
    error = getattr(errors, name)("what, where, cure")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error) == "what, where, cure"


def test_invalid_info_lists_its_problems_after_a_pickle_too():
    error = errors.InvalidInfoError("info is not usable:", ["type: missing", "scales: missing"])
    copy = pickle.loads(pickle.dumps(error))
    assert copy.problems == ("type: missing", "scales: missing")
    assert str(copy) == "info is not usable:\n  - type: missing\n  - scales: missing"


def test_a_missing_segment_is_a_missing_file_and_a_missing_key():
    error = errors.SegmentMissingError("gs://bucket/mesh: no mesh", [7, 2**64 - 1])
    assert isinstance(error, FileNotFoundError)
    assert isinstance(error, errors.NotFoundError)
    assert error.errno is None
    assert str(error) == "gs://bucket/mesh: no mesh"  # KeyError alone would show quotes
    assert pickle.loads(pickle.dumps(error)).segment_ids == (7, 2**64 - 1)


def test_the_four_answers_cannot_be_caught_for_each_other():
    answers = [
        errors.NotFoundError,
        errors.AccessDeniedError,
        errors.StorageError,
        errors.CorruptDataError,
    ]
    for one in answers:
        assert not any(issubclass(one, other) for other in answers if other is not one)
