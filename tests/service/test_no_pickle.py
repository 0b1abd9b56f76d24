"""Nothing that the service does can run code out of a file: no pickle is read, whatever lies in the store."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.api.inside import running
from tests.api.stores import publish, publish_all
from tests.api.wire import TINY_ROWS


class Bomb:
    """Whoever unpickles this leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        """What unpickling does."""
        return Path.touch, (self._mark,)


async def test_no_pickle_is_ever_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both ways to read one blocked, models load, answer, and are loaded again; bombs in the store stay whole."""

    def blocked(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle was read")

    store, mark = tmp_path / "store", tmp_path / "mark"
    publish_all(store)
    for place in (store, store / "silent", store / "silent" / "1"):
        for name in ("weights.pt", "model.pt", "data.pkl"):
            (place / name).write_bytes(pickle.dumps(Bomb(mark)))
    alone = store / "bomb" / "1"
    alone.mkdir(parents=True)
    (alone / "weights.pt").write_bytes(pickle.dumps(Bomb(mark)))
    shutil.copytree(alone, store / "worse" / "1")
    (store / "worse" / "1" / "manifest.json").write_text("{}")
    (store / "worse" / "1" / "weights.safetensors").write_bytes(pickle.dumps(Bomb(mark)))
    for module, name in ((pickle, "loads"), (pickle, "load"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, blocked)
    async with running(store=store) as (_, client):
        for model in ("silent", "colours"):
            for verb in ("predict", "sample"):
                answer = await client.post(f"/v1/models/{model}/{verb}", json={"inputs": TINY_ROWS})
                assert answer.status_code == 200, answer.text
        publish(store, "noisy", "2")
        assert (await client.post("/v2/repository/models/noisy/load")).status_code == 200
        for name in ("bomb", "worse"):
            assert (await client.post(f"/v1/models/{name}/predict", json={"inputs": TINY_ROWS})).status_code in (
                404,
                503,
            )
            assert (await client.post(f"/v2/repository/models/{name}/load")).status_code in (404, 503)
    assert not mark.exists()
