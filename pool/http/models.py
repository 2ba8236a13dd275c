"""``/v1/models``: what is on offer."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.batches.endpoints import endpoint_of, labels_of
from pool.batches.ports import RegisteredModel
from pool.http.auth import customer
from pool.http.deps import deps_of
from pool.http.errors import ApiError, JsonResponse


def model_shape(model: RegisteredModel) -> dict[str, Any]:
    """A model as the API tells it, with what we add under ``inferpool``."""
    manifest = model.manifest
    return {
        "id": model.name,
        "object": "model",
        "created": int(model.added),
        "owned_by": "inferpool",
        "inferpool": {
            "digest": model.digest,
            "operations": list(manifest.operations),
            "endpoint": endpoint_of(manifest.operations),
            "numerics": manifest.numerics,
            "width": manifest.width,
            "max_tokens": manifest.max_tokens,
            "labels": list(labels_of(manifest)),
            "prompts": manifest.prompts,
            "default_prompt": manifest.default_prompt,
        },
    }


async def get_models(request: Request) -> Response:
    """Every model."""
    await customer(request)
    models = [model_shape(model) for model in deps_of(request).models.list()]
    return JsonResponse({"object": "list", "data": models})


async def get_model(request: Request) -> Response:
    """One model."""
    await customer(request)
    name = request.path_params["model"]
    model = deps_of(request).models.get(name)
    if model is None:
        text = f"there is no model {name[:80]!r}: GET /v1/models lists what there is"
        raise ApiError(404, "model_not_found", text, param="model")
    return JsonResponse(model_shape(model))


ROUTES = [
    Route("/v1/models", get_models, methods=["GET"]),
    Route("/v1/models/{model:path}", get_model, methods=["GET"]),
]
