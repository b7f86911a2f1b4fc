"""What tests and examples, also those of others, can build on."""

from xprecomputed.testing.volumes import write_volume

__all__ = ["write_volume"]
