"""Fixtures of the skeleton room."""

#: run by hand, with packages that are not here
collect_ignore = ["fixtures/make_igneous.py"]
