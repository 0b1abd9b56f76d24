"""Answers in memory: as they were, in no more than so many bytes, the least recently used gone first."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from service.caching.memory import Memory, Written

ROOM = 64_000


def key(number: int) -> bytes:
    """A key like those of answers."""
    return b'"%032x"' % number


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12_000), st.booleans()), max_size=200),
    st.sampled_from([1, 5_000, ROOM, 10**6]),
)
def test_what_is_found_is_what_was_put_and_it_never_takes_more_room(
    steps: list[tuple[int, int, bool]], room: int
) -> None:
    """Whatever is asked for and put, in any order and size."""
    memory, put = Memory(room), {}
    for number, size, dear in steps:
        found = memory.get(key(number))
        if found is None:
            put[number] = Written(bytes([number]) * size, size)
            memory.put(key(number), put[number], dear=dear)
        else:
            assert found == put[number]
        assert 0 <= memory.taken <= room


@given(st.lists(st.integers(0, 20), max_size=300))
def test_the_least_recently_used_goes_first(asked: list[int]) -> None:
    """Of answers that are worth their room, as many are there as fit, and they are the last that were asked for."""
    body, model, gone = bytes(4000), OrderedDict[int, None](), 0
    memory = Memory(ROOM)
    fitting = memory._room // (len(body) + len(key(0)) + 400)
    for number in asked:
        assert (memory.get(key(number)) is not None) == (number in model)
        if number not in model:
            memory.put(key(number), Written(body), dear=True)
        model[number] = None
        model.move_to_end(number)
        if len(model) > fitting:
            model.popitem(last=False)
            gone += 1
    assert list(memory._kept) == [key(number) for number in model]
    assert memory.evictions == gone


def test_cheap_answers_that_nobody_asks_for_again_drive_out_nothing() -> None:
    """Ten thousand of them pass; one that was asked for twice, and a dear one, stay."""
    memory = Memory(4 * 2**20)
    memory.put(key(1), Written(b"dear"), dear=True)
    memory.put(key(2), Written(b"cheap"), dear=False)
    assert memory.get(key(2)) == Written(b"cheap")
    for number in range(10, 10_010):
        memory.put(key(number), Written(bytes(400)), dear=False)
    assert memory.get(key(1)) == Written(b"dear")
    assert memory.get(key(2)) == Written(b"cheap")
    assert memory.get(key(10)) is None
    assert memory.get(key(10_009)) is not None
    assert memory.evictions == 0


def test_an_answer_that_would_fill_the_room_is_not_kept() -> None:
    """More than an eighth of it is too much."""
    memory = Memory(ROOM)
    memory.put(key(1), Written(bytes(ROOM // 8)), dear=True)
    assert memory.get(key(1)) is None
    memory.put(key(1), Written(bytes(ROOM // 8 - 500)), dear=True)
    assert memory.get(key(1)) is not None
