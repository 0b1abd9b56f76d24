"""One thread's buffers and random stream, kept so that nothing is allocated in steady state."""

from __future__ import annotations

import torch
from torch import Tensor

from service.engine.masks import Stream

_CPU = torch.device("cpu")
# Views of buffers that are remembered: making one costs as much as a small operation.
_MOST_VIEWS = 1024


class Workspace:
    """What is overwritten by each piece of work in turn; never shared by two threads."""

    def __init__(self) -> None:
        self.stream = Stream()
        self._buffers: dict[int, Tensor] = {}
        self._views: dict[tuple[int, int, int, torch.device], Tensor] = {}
        self._room = torch.empty(0, dtype=torch.uint8)

    def room(self, size: int) -> int:
        """The address of so many uninitialised bytes; they overwrite what was last asked for."""
        if self._room.numel() < size:
            self._room = torch.empty(size, dtype=torch.uint8)
        return self._room.data_ptr()

    def take(self, slot: int, rows: int, width: int, device: torch.device = _CPU) -> Tensor:
        """An uninitialised [rows, width] view; it overwrites what was last taken from that slot."""
        key = slot, rows, width, device
        view = self._views.get(key)
        if view is None:
            size = rows * width
            buffer = self._buffers.get(slot)
            if buffer is None or buffer.numel() < size or buffer.device != device:
                buffer = self._buffers[slot] = torch.empty(size, device=device)
                self._views.clear()
            elif len(self._views) >= _MOST_VIEWS:
                self._views.clear()
            view = self._views[key] = buffer[:size].view(rows, width)
        return view
