"""Folders to write to, and ways to disturb it."""

import os
import subprocess
import sys

import fsspec

from xprecomputed.storage import fsspec as fsspec_module
from xprecomputed.storage import local as local_module
from xprecomputed.storage import locate_url


class Place:
    """A folder in a storage, and its contents seen without the storage."""

    def __init__(self, url):
        self.url = url
        self.location = locate_url(url)
        self.storage = self.location.storage

    def key(self, name):
        return self.location.child(name).key

    def put(self, name, data, **kwargs):
        return self.storage.put(self.key(name), data, **kwargs)

    def put_parts(self, name, parts):
        return self.storage.put_parts(self.key(name), parts)

    def get(self, name):
        return self.storage.get(self.key(name))

    def delete(self, name):
        return self.storage.delete(self.key(name))

    def size(self, name):
        return self.storage.size(self.key(name))

    def listed(self, name="."):
        return sorted(self.storage.list_dir(self.key(name)), key=lambda entry: entry.name)

    def by_hand(self, name, data):
        with fsspec.open(f"{self.url}/{name}", "wb", auto_mkdir=True) as file:
            file.write(data)

    def names(self):
        """All names below, hidden ones too."""
        fs, path = fsspec.core.url_to_fs(self.url)
        return sorted(each[len(path) + 1 :] for each in fs.find(path))


def module_of(place):
    """Where the storage of a place takes its calls from."""
    return local_module if place.storage.url == "file:///" else fsspec_module


def failing(monkeypatch, name, error, after=0):
    """Let the call `name` of the system fail, `after` some that work."""
    real, calls = getattr(os, name), []

    def call(*args, **kwargs):
        calls.append(1)
        if len(calls) > after:
            monkeypatch.setattr(os, name, real)
            if name == "close":
                real(*args)
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, call)


def child(script, *args):
    """A process of its own; what it prints is in ``.stdout``, what is put in ``.stdin`` it reads."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
