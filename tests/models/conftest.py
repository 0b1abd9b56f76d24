"""Settings of the tests of the models package."""

from hypothesis import settings

# Tests never measure time: a busy machine is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
