"""The service on Ray Serve: the same ASGI application in every replica, and samplers for what is large.

Two deployments. `Penumbra` answers HTTP; `Samplers` evaluate ranges of samples for it, and never ask anybody else, so
that nobody waits in a circle. Settings are the environment's, as everywhere. Knows nothing of what is asked.
"""

from __future__ import annotations

import math
import os
from contextlib import AsyncExitStack
from typing import Any

import ray
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, NonNegativeInt
from ray import serve
from ray.serve.handle import DeploymentHandle

from models.features import Float32
from service.app import create_app
from service.inference import Inference
from service.settings import Settings, unknown_variables
from service.splitting import Range


class Arguments(BaseModel):
    """What the configuration may say under `args`: how many ranges of a request may be away at a time; 0: none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ranges_away: NonNegativeInt = 8


class Crew:
    """The samplers of this Ray application; see `splitting.Others`."""

    def __init__(self, samplers: DeploymentHandle, most: int) -> None:
        self.most, self._samplers = most, samplers

    async def evaluate(self, asked: Range, patience: float) -> Float32:
        """Asks a sampler that has little to do. Raises what Ray or the sampler raises."""
        found: Float32 = await self._samplers.evaluate.remote(asked, patience)
        return found


@serve.deployment(name="Samplers")
class Samplers:
    """Evaluates ranges of samples: the same application, whose engine alone is asked."""

    async def __init__(self) -> None:
        self._running = AsyncExitStack()
        app = create_app(settings_here())
        await self._running.enter_async_context(app.router.lifespan_context(app))
        self._inference: Inference = app.state.inference

    async def evaluate(self, asked: Range, patience: float) -> Float32:
        """See `Inference.outputs`."""
        return await self._inference.outputs(asked, patience)

    async def __del__(self) -> None:
        await self._running.aclose()


def application(args: dict[str, Any]) -> serve.Application:
    """What `import_path` names: both deployments. Raises ValueError where arguments or settings are no good."""
    arguments, settings = Arguments.model_validate(args), Settings()
    if complaints := unknown_variables(os.environ):
        raise ValueError("; ".join(complaints))
    if settings.answers_anybody and not settings.allow_anonymous:
        raise ValueError(
            "others can reach this service, and there are no keys: set PENUMBRA_KEYS_FILE or PENUMBRA_KEYS (as "
            "`python -m service keys` makes them), or let everybody ask by PENUMBRA_ALLOW_ANONYMOUS"
        )

    def build() -> FastAPI:
        """The application of one replica: made there, as sockets and threads can't be sent."""
        if not arguments.ranges_away:
            return create_app(settings_here())
        samplers = serve.get_deployment_handle(Samplers.name, serve.get_replica_context().app_name)
        return create_app(settings_here(), others=Crew(samplers, arguments.ranges_away))

    penumbra = serve.deployment(serve.ingress(build)(), name="Penumbra")
    # Bound to it, so that both are one application.
    return penumbra.bind(Samplers.bind()) if arguments.ranges_away else penumbra.bind()


def settings_here() -> Settings:
    """The environment's settings as they fit a replica: as many engine threads as it was given cores.

    Whoever asks for metrics would get those of one replica, never the same: Ray's own are about all of them.
    """
    settings = Settings()
    cores = ray.get_runtime_context().get_assigned_resources().get("CPU", 1.0)
    threads = settings.threads or max(1, math.floor(cores))
    return settings.model_copy(update={"workers": 1, "threads": threads, "metrics": False})
