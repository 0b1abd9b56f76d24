"""What holds conversations on threads."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest

from penumbra import drivers
from penumbra.conversation import Each


def test_what_goes_wrong_is_told_while_others_still_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in one part of a table does not wait for answers to the others."""
    begun, over = threading.Event(), threading.Event()

    def result(_: Any, conversation: Any) -> None:
        if conversation == "slow":
            begun.set()
            over.wait()
        else:
            begun.wait()
            raise RuntimeError(conversation)

    monkeypatch.setattr(drivers, "result", result)
    conversations: Any = iter(["bad", "slow"])
    try:
        with httpx.Client() as http, pytest.raises(RuntimeError, match="bad"):
            drivers._each(http, Each(conversations, 2, lambda _: None))
    finally:
        over.set()
