"""Leaving credentials on a machine, and finding them."""

import json

from xprecomputed.storage.credentials.access import find_access, find_address


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def access_of(url, options=None, **kwargs):
    options = options or {}
    return find_access(find_address(url, options), options, **kwargs)
