"""Tests. A package, so that none of the same name that a dependency brings is found instead."""
