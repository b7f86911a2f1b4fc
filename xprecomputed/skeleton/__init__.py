"""Skeletons of segments: bytes, SWC, and many of them by id."""

from xprecomputed.skeleton.files import read_swc
from xprecomputed.skeleton.format import decode, encode
from xprecomputed.skeleton.skeletons import Skeletons, open_skeletons
from xprecomputed.skeleton.swc import parse_swc, swc_text
from xprecomputed.skeleton.writing import create_skeletons

__all__ = [
    "Skeletons",
    "create_skeletons",
    "decode",
    "encode",
    "open_skeletons",
    "parse_swc",
    "read_swc",
    "swc_text",
]
