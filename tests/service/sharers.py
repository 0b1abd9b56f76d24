"""python sharers.py: processes that are forked from one that made an agreement, each doing what it is told.

Reads orders, a line each, beginning with who is to follow it; prints what that one answers. A process that was not
heard of before is forked.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from service.agreement import Asked, Edit, Listed, Shared


def only(**models: tuple[str, ...]) -> Edit:
    """These versions of these models, and nothing else."""
    return lambda generation, _: {
        name: Listed({version: Asked(generation) for version in versions}) for name, versions in models.items()
    }


def also(**models: tuple[str, ...]) -> Edit:
    """These versions of these models; others stay."""
    return lambda generation, before: {**before, **only(**models)(generation, before)}


def obey(shared: Shared, order: list[str]) -> object:
    """What comes of an order."""
    match order:
        case ["join"]:
            return shared.join(only(a=("1",), b=("1", "2"))).generation
        case ["change", name, *versions]:
            return shared.change(also(**{name: tuple(versions)})).generation
        case ["renew", name, *versions]:
            return shared.renew(only(**{name: tuple(versions)}))
        case ["hurry", name, times]:  # by four threads
            threads = [
                threading.Thread(
                    target=lambda: [shared.change(also(**{name: (str(turn),)})) for turn in range(int(times))]
                )
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return shared.generation
        case ["follow"]:
            shared.reach(shared.generation)
            return shared.generation
        case ["leave"]:
            return shared.leave()
        case ["reached", generation]:
            return shared.all_reached(int(generation))
        case ["lead"]:
            return shared.lead()
        case ["list"]:
            agreed = shared.current()
            return agreed.generation, {name: tuple(listed.versions) for name, listed in agreed.models.items()}
        case _:
            raise ValueError(order)


class Sharer:
    """One process, at the other end of two pipes."""

    def __init__(self, shared: Shared) -> None:
        reading, self._orders = os.pipe()
        self._answers, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            with os.fdopen(reading) as orders, os.fdopen(writing, "w") as answers:
                for line in orders:
                    print(repr(obey(shared, line.split())), file=answers, flush=True)
            os._exit(0)

    def order(self, words: list[str]) -> None:
        """Sends it an order."""
        os.write(self._orders, (" ".join(words) + "\n").encode())

    def answer(self) -> bytes:
        """What it says."""
        return os.read(self._answers, 4096)


if __name__ == "__main__":
    made, sharers = Shared(), {}
    for line in sys.stdin:
        names, *words = line.split()
        for name in names.split(","):
            if name not in sharers:
                sharers[name] = Sharer(made)
        if words == ["die"]:
            gone = sharers.pop(names)
            os.kill(gone.pid, signal.SIGKILL)
            os.waitpid(gone.pid, 0)
            os.write(1, b"None\n")
            continue
        for name in names.split(","):
            sharers[name].order(words)
        for name in names.split(","):
            os.write(1, sharers[name].answer())
    for sharer in sharers.values():
        os.kill(sharer.pid, signal.SIGKILL)
