"""What follows for the agreed list from a store, an order and watching: laws, whatever was agreed and found."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.repository import Kept
from service.agreement import Asked, Listed, Models
from service.edits import bring, load_anew, unload

_NAMES = st.sampled_from("abc")
_STAMPS = st.dictionaries(st.sampled_from("123"), st.sampled_from("xyz"), max_size=3)
_PINS = st.none() | st.sampled_from("123")
FOUND = st.dictionaries(_NAMES, st.builds(Kept, _STAMPS.filter(bool), _PINS))
AGREED = st.dictionaries(
    _NAMES,
    st.builds(
        Listed,
        _STAMPS.map(lambda stamps: {version: Asked(1, stamp) for version, stamp in stamps.items()}),
        _PINS,
    ),
)


@given(AGREED, FOUND)
def test_looking_twice_is_looking_once(agreed: Models, found: dict[str, Kept]) -> None:
    """With the same found again nothing changes, so that nobody has anything to follow."""
    once = bring(found)(2, agreed)
    assert bring(found)(3, once) == once


@given(AGREED, FOUND)
def test_watching_brings_what_is_there_and_leaves_what_was_unloaded(agreed: Models, found: dict[str, Kept]) -> None:
    """Afterwards the list is what the store has; but for models that somebody unloaded, and those it has no more."""
    after = bring(found)(2, agreed)
    for name in after:
        unloaded = name in agreed and not agreed[name].versions
        if unloaded or name not in found:
            assert after[name] == agreed[name]
        else:
            assert {version: asked.stamp for version, asked in after[name].versions.items()} == found[name].versions
            assert after[name].pinned == found[name].pinned
    assert after.keys() == agreed.keys() | found.keys()


@given(AGREED, FOUND)
def test_only_what_changed_is_asked_for_anew(agreed: Models, found: dict[str, Kept]) -> None:
    """A version whose files are as they were has been asked for when it was."""
    after = bring(found)(2, agreed)
    for name, listed in after.items():
        for version, asked in listed.versions.items():
            known = agreed[name].versions.get(version) if name in agreed else None
            assert asked.since == (1 if known is not None and known.stamp == asked.stamp else 2)


@given(AGREED, _NAMES, st.builds(Kept, _STAMPS.filter(bool), _PINS))
def test_orders_are_about_one_model(agreed: Models, name: str, kept: Kept) -> None:
    """Loading asks for all its versions anew, unloading for none; the others stay as they are."""
    loaded, unloaded = load_anew(name, kept)(2, agreed), unload(name)(2, agreed)
    assert loaded[name] == Listed({version: Asked(2, stamp) for version, stamp in kept.versions.items()}, kept.pinned)
    assert unloaded[name] == Listed({})
    for after in (loaded, unloaded):
        assert {other: listed for other, listed in after.items() if other != name} == {
            other: listed for other, listed in agreed.items() if other != name
        }
    assert list(loaded) == sorted(loaded)
