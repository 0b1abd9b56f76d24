"""The client of the Penumbra service, and the wire contract that both sides share.

`Client` asks from threads, `AsyncClient` from asyncio; what can go wrong is in `penumbra.errors`. Names are loaded when
they are first used: importing the package costs nothing, and the service takes from it the contract alone.
"""

from __future__ import annotations

from importlib import import_module

# What type checkers take for true; importing it from typing would be most of what this module costs.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from penumbra.answers import ClassPrediction as ClassPrediction
    from penumbra.answers import ClassSample as ClassSample
    from penumbra.answers import Prediction as Prediction
    from penumbra.answers import RegressionPrediction as RegressionPrediction
    from penumbra.answers import RegressionSample as RegressionSample
    from penumbra.answers import Sample as Sample
    from penumbra.client import AsyncClient as AsyncClient
    from penumbra.client import Client as Client
    from penumbra.conversation import Patience as Patience
    from penumbra.errors import AccessDenied as AccessDenied
    from penumbra.errors import ConnectionFailed as ConnectionFailed
    from penumbra.errors import DeadlineExceeded as DeadlineExceeded
    from penumbra.errors import InvalidRequest as InvalidRequest
    from penumbra.errors import JobFailed as JobFailed
    from penumbra.errors import ModelChanged as ModelChanged
    from penumbra.errors import NotApplicable as NotApplicable
    from penumbra.errors import PenumbraError as PenumbraError
    from penumbra.errors import RateLimited as RateLimited
    from penumbra.errors import ServiceFailed as ServiceFailed
    from penumbra.errors import Unavailable as Unavailable
    from penumbra.errors import UnexpectedAnswer as UnexpectedAnswer
    from penumbra.errors import UnknownJob as UnknownJob
    from penumbra.errors import UnknownModel as UnknownModel
    from penumbra.jobs import AsyncJob as AsyncJob
    from penumbra.jobs import Job as Job

__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(("AsyncClient", "Client"), "client"),
    **dict.fromkeys(("AsyncJob", "Job"), "jobs"),
    "Patience": "conversation",
    **dict.fromkeys(
        ("ClassPrediction", "ClassSample", "Prediction", "RegressionPrediction", "RegressionSample", "Sample"),
        "answers",
    ),
    **dict.fromkeys(
        (
            "AccessDenied",
            "ConnectionFailed",
            "DeadlineExceeded",
            "InvalidRequest",
            "JobFailed",
            "ModelChanged",
            "NotApplicable",
            "PenumbraError",
            "RateLimited",
            "ServiceFailed",
            "Unavailable",
            "UnexpectedAnswer",
            "UnknownJob",
            "UnknownModel",
        ),
        "errors",
    ),
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - names, as one table has them


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
