"""What the HTTP side says of itself: OpenAPI 3.1, from the catalogue."""

from __future__ import annotations

from typing import Any

from streamproc import __version__
from streamproc.core.oip import DATATYPES
from streamproc.core.quantiles import NAMES
from streamproc.shell.serve.catalogue import Catalogue

ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string", "enum": sorted(DATATYPES)},
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {}},
    },
}
NUMBERS = {"type": "array", "items": {"type": ["number", "null"]}}


def document(catalogue: Catalogue) -> dict[str, Any]:
    """Return the document of a server with these models."""
    models = sorted(catalogue.models)
    paths: dict[str, Any] = {
        "/v2": {"get": _read("The server", {"type": "object"})},
        "/v2/health/live": {"get": _read("Is it alive?", {"type": "object"})},
        "/v2/health/ready": {"get": _read("Is it ready?", {"type": "object"}, 503)},
        "/v2/models": {"get": _read("Names of the models", {"type": "object"})},
        "/v1/forecast": {"post": _asked("Quantiles of a series", "ForecastAsked", "ForecastTold", 404, 503)},
        "/v1/score": {"post": _asked("Alerts of a recording", "ScoreAsked", "ScoreTold")},
    }
    for base, parameters in (
        ("/v2/models/{model}", [_in_path("model", models)]),
        ("/v2/models/{model}/versions/{version}", [_in_path("model", models), _in_path("version", [])]),
    ):
        told = {"get": _read("Inputs and outputs", {"type": "object"}, 404), "parameters": parameters}
        paths[base] = told
        paths[f"{base}/ready"] = {
            "get": _read("Is the model ready?", {"type": "object"}, 404, 503),
            "parameters": parameters,
        }
        paths[f"{base}/infer"] = {
            "post": _asked("Inference", "InferAsked", "InferTold", 404, 500, 503, 504),
            "parameters": parameters,
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "streamproc inference",
            "version": __version__,
            "description": "Open Inference Protocol v2 and a door for people. It answers; it moves nothing.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def _in_path(name: str, values: list[str]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if values:
        schema["examples"] = values
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _read(what: str, schema: dict[str, Any], *statuses: int) -> dict[str, Any]:
    return {"summary": what, "responses": {"200": _body(what, schema), **_errors(401, 429, *statuses)}}


def _asked(what: str, asked: str, told: str, *statuses: int) -> dict[str, Any]:
    return {
        "summary": what,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{asked}"}}},
        },
        "responses": {
            "200": _body(what, {"$ref": f"#/components/schemas/{told}"}),
            **_errors(400, 401, 413, 415, 429, *statuses),
        },
    }


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(status): _body("Refused, and why", ERROR) for status in sorted(set(statuses))}


def _body(what: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": schema}}}


def _schemas() -> dict[str, Any]:
    return {**_tensor_schemas(), **_people_schemas()}


def _tensor_schemas() -> dict[str, Any]:
    return {
        "InferAsked": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string"},
                "parameters": {"type": "object"},
                "inputs": {"type": "array", "items": TENSOR},
                "outputs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}},
                    },
                },
            },
        },
        "InferTold": {
            "type": "object",
            "required": ["model_name", "model_version", "outputs"],
            "properties": {"outputs": {"type": "array", "items": TENSOR}},
        },
    }


def _people_schemas() -> dict[str, Any]:
    time = {"type": "string", "examples": ["2026-01-31T12:00:00Z"]}
    return {
        "ForecastAsked": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "series": {"type": "string"},
                "horizon": {"type": "string", "enum": ["PT15M", "PT1H", "PT48H"]},
                "interval_min": {"type": ["integer", "null"], "enum": [1, 5, 15, None]},
                "history": {"anyOf": [{**NUMBERS, "minItems": 1}, {"type": "null"}]},
                "until": {"anyOf": [time, {"type": "null"}]},
                "unit": {"type": "string"},
            },
        },
        "ForecastTold": {
            "type": "object",
            "required": ["quantiles"],
            "properties": {
                "quantiles": {"type": "object", "required": list(NAMES)},
                "quality": {"type": "string", "enum": ["GOOD", "SUSPECT", "BAD"]},
            },
        },
        "ScoreAsked": {
            "type": "object",
            "required": ["columns", "rate_hz"],
            "additionalProperties": False,
            "properties": {
                "columns": {"type": "object", "additionalProperties": NUMBERS},
                "rate_hz": {"type": "number", "minimum": 0.01, "maximum": 240},
                "area": {"type": "string"},
                "start": {"anyOf": [time, {"type": "null"}]},
            },
        },
        "ScoreTold": {"type": "object", "required": ["alerts", "frames", "notes"]},
    }
