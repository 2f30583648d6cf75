"""Stores of campaigns, changed as somebody with their code could change them: seals and all."""

import contextlib
import json
import zlib

from lossfuzz.campaign.store import Store


def cut_short(folder, tasks=0):
    """Leave a campaign as it was after so many of its tasks."""
    with contextlib.closing(Store.open(folder)) as store:
        for kind, key in list(store._digests):
            is_late = kind == "task" and int(key) >= tasks
            if is_late or kind in ("reduced", "left out") or key in ("complete", "seconds"):
                drop(store, kind, key)


def drop(store, kind, key):
    """Take a record out, and count the others anew."""
    with store._writes():
        store._connection.execute("DELETE FROM records WHERE kind = ? AND key = ?", (kind, key))
        digest = store._digests.pop((kind, key))
        store._sum = (store._sum - int.from_bytes(digest, "big")) % (1 << 256)


def records(store):
    """Every record of an open store, unpacked: kind, key and value."""
    rows = store._connection.execute("SELECT kind, key, content FROM records").fetchall()
    return [
        (kind, key, json.loads(zlib.decompress(content)))
        for kind, key, content in rows
        if kind != "tally"
    ]


def written(folder, contents):
    """A store of such records, in a new folder."""
    folder.mkdir(parents=True)
    with contextlib.closing(Store.create(folder, {})) as store, store._writes():
        store._connection.execute("DELETE FROM records")
        store._digests.clear()
        store._sum = 0
        for kind, key, value in contents:
            store._note(kind, key, store._put(kind, key, value)[1])
    return folder
