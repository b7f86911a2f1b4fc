"""Processes of every kind after the clouds were used, threads, clusters, and who sees secrets."""

import json
import logging
import os
import pickle
import re
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import cloudpickle
import dask
import numpy as np
import pytest
from dask.base import tokenize

from tests.images import labels
from tests.jobs.arrays import label, opened
from tests.remote import serving
from tests.remote.serving import Reply
from xprecomputed import AccessDeniedError, PrecomputedError, open_store, to_precomputed, trace

pytestmark = pytest.mark.timeout(120)  # a hang is what these tests are about

# ---- start methods

SCRIPT = """
    import json, multiprocessing, os, sys
    import xprecomputed as xp

    def read(store):
        try:
            return int(store.read(store.mips[0].bounds).sum())
        except xp.PrecomputedError as error:
            return f"{type(error).__name__}: {error}"

    def anew(url, options):
        try:
            return read(xp.open_store(url, storage_options=options))
        except xp.PrecomputedError as error:
            return f"{type(error).__name__}: {error}"

    if __name__ == "__main__":
        methods, places = json.loads(sys.argv[1])
        here = [anew(*place) for place in places] if len(methods) > 1 else None
        stores = [xp.open_store(url, storage_options=options) for url, options in places] if here else []
        pools = [multiprocessing.get_context(method).Pool(1) for method in methods]
        again = [[pool.apply_async(anew, place) for place in places] for pool in pools]
        carried = [[pool.apply_async(read, (store,)) for store in stores] for pool in pools]
        print(json.dumps([
            here,
            [[each.get(30) for each in answers] for answers in again],
            [[each.get(30) for each in answers] for answers in carried],
            [anew(*place) for place in places],
        ]))
        for pool in pools:
            pool.terminate()
            pool.join()
    """


def run(script, argument, timeout=40):
    """What a script prints; more than `timeout` seconds are an error."""
    path = os.path.join(os.environ["HOME"], "script.py")  # spawn imports it
    with open(path, "w") as file:
        file.write(textwrap.dedent(script))
    command = [sys.executable, "-W", "ignore", path, json.dumps(argument)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_start_methods(place_of, samples):
    """A forked child fails at once and says what to do; it never hangs."""
    places = [place_of(kind) for kind in ("s3 signed", "gcs signed", "web raw")]
    for place in places:
        place.upload(samples("cseg").folder)
    wanted = [int(samples("cseg").array.sum())] * 3
    methods = ["fork", "spawn", "forkserver"]
    argument = [methods, [[place.url, place.options] for place in places]]
    here, again, carried, after = run(SCRIPT, argument)
    assert here == after == wanted
    for each in (again, carried):
        assert each[1:] == [wanted, wanted]
        for place, answer in zip(places, each[0], strict=True):
            host = re.escape(place.url.partition("/some/")[0])
            assert answer == wanted[0] or re.match(
                f"StorageError: {host}.*forked.*spawn.*forkserver", answer
            )


def test_a_parent_that_asked_for_nothing(place_of, samples):
    """Nothing was used before the fork, so all is well after it."""
    sample, place = samples("raw"), place_of("gcs signed")
    place.upload(sample.folder)
    _, again, _, after = run(SCRIPT, [["fork"], [[place.url, place.options]]])
    assert again == [after] == [[int(sample.array.sum())]]


def test_local_files_after_a_fork(place_of, samples):
    """What was forked may not ask the clouds; a disk it may."""
    sample, place = samples("raw"), place_of("web raw")
    place.upload(sample.folder)
    script = """
    import os, sys, json
    import xprecomputed as xp
    remote, local = json.loads(sys.argv[1])
    store = xp.open_store(remote)
    store.read(store.mips[0].bounds)
    read, write = os.pipe()
    if os.fork() == 0:
        store = xp.open_store(local)
        os.write(write, str(store.read(store.mips[0].bounds).sum()).encode())
        os._exit(0)
    os.wait()
    print(os.read(read, 100).decode())
    """
    found = run(script, [place.url, str(sample.folder)])
    assert found == sample.array.sum()


# ---- threads and clusters


def test_threads_that_open_and_read_at_once(place_of, samples):
    sample, place = samples("sharded cseg"), place_of("gcs signed")
    place.upload(sample.folder)
    together = threading.Barrier(8)

    def read(_):
        together.wait()
        store = place.open()
        return np.array_equal(store.read(store.mips[0].bounds), sample.array)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))


@pytest.fixture(scope="module")
def client():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("kind", "sharding"), [("s3 signed", None), ("gcs signed", "auto"), ("azure signed", None)]
)
def test_clusters_read_and_write(client, place_of, kind, sharding):
    """What was passed travels with the work."""
    place, array = place_of(kind), labels((33, 38, 45))
    to_precomputed(
        label(array, (4, 4, 40)).chunk(x=16, y=16, z=16),
        place.url,
        chunk_size=(16, 16, 16),
        sharding=sharding,
        downsample=1,
        storage_options=place.options,
    )
    lazy = opened(place.url, storage_options=place.options).chunk(x=16)
    np.testing.assert_array_equal(lazy.values, array)
    assert client.submit(os.getpid).result() != os.getpid()
    assert int((lazy > 0).sum()) == (array > 0).sum()


def test_processes_of_dask(place_of, samples):
    sample, place = samples("raw"), place_of("s3 signed")
    place.upload(sample.folder)
    lazy = opened(place.url, storage_options=place.options).chunk(x=16)
    with dask.config.set(scheduler="processes"):
        assert int(lazy.sum()) == sample.array.sum()


def test_credentials_that_are_found_are_found_again(client, place_of, samples, s3):
    """On each worker, in its own files: nothing of them travels."""
    sample, place = samples("raw"), place_of("s3 signed")
    place.upload(sample.folder)
    folder = os.path.join(os.environ["HOME"], ".cloudvolume/secrets")
    os.makedirs(folder, exist_ok=True)
    secret = os.path.join(folder, f"{place.bucket}-aws-secret.json")
    with open(secret, "w") as file:
        json.dump({"AWS_ACCESS_KEY_ID": s3.key, "AWS_SECRET_ACCESS_KEY": s3.secret}, file)
    try:
        lazy = opened(place.url).chunk(x=16)
        assert s3.secret.encode() not in cloudpickle.dumps(lazy)
        assert s3.key.encode() not in cloudpickle.dumps(lazy)
        assert int(lazy.sum()) == sample.array.sum()
    finally:
        os.remove(secret)


# ---- secrets


def secrets_of(place):
    """What may not be seen, in pieces that survive quoting."""
    given = place.options.get("token")
    if isinstance(given, dict):
        return [given["private_key"].splitlines()[3], given["private_key_id"]]
    return [value for value in place.options.values() if isinstance(value, str)]


@pytest.mark.parametrize("kind", ["s3 signed", "gcs signed", "azure signed"])
def test_credentials_show_nowhere(place_of, samples, caplog, capfd, kind):
    sample, place = samples("cseg"), place_of(kind)
    place.upload(sample.folder)
    hidden = secrets_of(place)
    assert hidden
    echo = lambda request: Reply(  # noqa: E731 - servers that say what they got
        403, f"<Error><Code>AccessDenied</Code>{request.target}{request.headers}</Error>".encode()
    )
    with caplog.at_level(logging.DEBUG), trace() as traced:
        store = place.open()
        lazy = opened(place.url, storage_options=place.options).chunk(x=16)
        eager = opened(place.url, storage_options=place.options)
        np.testing.assert_array_equal(lazy.values, sample.array[0])
        with place.server.guarded(echo), pytest.raises(PrecomputedError) as denied:
            place.open()
        with place.server.guarded(echo), pytest.raises(PrecomputedError) as no_chunk:
            store.read(store.mips[0].bounds)
    shown = [
        repr(store), str(store), repr(store.location), repr(store.location.storage), store.url,
        repr(store.reader()), repr(lazy), repr(eager), lazy._repr_html_(), str(lazy.attrs),
        str(lazy.encoding), repr(lazy.data), repr(dict(lazy.data.dask))[:1_000_000], lazy.name,
        str(tokenize(lazy)), *map(str, lazy.data.dask.keys()), str(tokenize(store)),
        str(no_chunk.value), str(denied.value), repr(denied.value), str(denied.value.__cause__), repr(denied.value.args),
        repr(denied.value.__context__) if not denied.value.__suppress_context__ else "",
        str(traced), repr(traced.objects), caplog.text, "".join(capfd.readouterr()),
    ]  # fmt: skip
    # the headers of a request hold signatures: not them either
    hidden += [
        value for name, value in place.server.log[-1].headers.items() if name == "Authorization"
    ]
    for text in shown:
        for secret in hidden:
            assert secret not in text, text[:300]


def test_what_was_passed_travels_and_nothing_else(place_of, samples, monkeypatch, s3):
    place = place_of("s3 signed")
    place.upload(samples("raw").folder)
    assert s3.secret.encode() in pickle.dumps(place.open())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret)
    store = open_store(place.url)
    store.read(store.mips[0].bounds)
    packed = pickle.dumps(store) + pickle.dumps(store.reader())
    assert s3.secret.encode() not in packed
    assert s3.key.encode() not in packed
    again = pickle.loads(packed)
    np.testing.assert_array_equal(again.read(again.mips[0].bounds), samples("raw").array)


def test_queries_and_logins_show_nowhere(place_of, samples, caplog):
    sample, place = samples("raw"), place_of("web raw")
    place.upload(sample.folder)
    login = place.url.replace("http://", "http://someone:pa55word@")
    with caplog.at_level(logging.DEBUG):
        for url in (f"{place.url}?token=t0psecret", login):
            store = open_store(url)
            np.testing.assert_array_equal(store.read(store.mips[0].bounds), sample.array)
            lazy = opened(url, chunks={})
            with place.web.guarded(serving.denying(unless=lambda _: False)):
                with pytest.raises(AccessDeniedError) as denied:
                    store.read(store.mips[0].bounds)
                with pytest.raises(AccessDeniedError) as nowhere:
                    open_store(url)
            for text in (
                repr(store), store.url, repr(lazy), str(lazy.attrs), str(lazy.encoding),
                repr(dict(lazy.data.dask)), str(denied.value), str(nowhere.value), caplog.text,
                str(tokenize(lazy)),
            ):  # fmt: skip
                assert "t0psecret" not in text
                assert "pa55word" not in text
    assert any("t0psecret" in each.target for each in place.web.log)
    assert any(each.headers["Authorization"] for each in place.web.log)


def test_a_redirect_does_not_take_credentials_along(place_of, samples, gcs, azure):
    """What is meant for one server is not told to another that a stranger's info names."""
    place = place_of("web raw")
    place.upload(samples("raw").folder)
    elsewhere = serving_of(samples, place)
    with elsewhere as other:
        place.put(
            "onward/info",
            json.dumps(
                {"@type": "neuroglancer_multiscale_volume", "redirect": f"{other.url}/v"}
            ).encode(),
        )
        headers = {"Authorization": "Bearer t0psecret"}
        with suppress(PrecomputedError):
            open_store(f"{place.url}/onward", storage_options={"headers": headers})
        assert not [each for each in other.log if "t0psecret" in str(each.headers)]


def serving_of(samples, place):
    from tests.remote.web import WebServer

    root = place.server.parent / "elsewhere"
    root.mkdir()
    (root / "v").symlink_to(samples("raw").folder)
    return WebServer(root)
