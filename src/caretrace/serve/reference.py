"""`/openapi.json`, and a page of it that needs nothing from elsewhere."""

from __future__ import annotations

import html
import json
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

_METHODS = ("get", "post", "put", "delete")


def describe(app: FastAPI) -> None:
    """Say in the OpenAPI document how to come in, and offer it as a page at `/docs`."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made()
            components = document.setdefault("components", {})
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"token": []}]
            _name_served(document, app.state.desk.predicting())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend the document

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(_page(app.openapi()))


def _name_served(document: dict[str, Any], names: list[str]) -> None:
    """Say which applications predict here."""
    for parameter in document["paths"]["/predict/{name}"]["post"]["parameters"]:
        if parameter["name"] == "name" and names:
            parameter["schema"] = {"type": "string", "enum": names}


def _page(document: dict[str, Any]) -> str:
    parts = []
    for path, methods in document["paths"].items():
        for method, each in methods.items():
            if method in _METHODS:
                parts.append(_operation(method, path, each, document))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>caretrace: routes</title>'
        '<meta name="viewport" content="width=device-width"></head><body><main><h1>Routes</h1>'
        f"<p><strong>{html.escape(document['info'].get('summary', ''))}</strong></p>"
        '<p>The same for machines: <a href="openapi.json">openapi.json</a>. Send a token as '
        "<code>Authorization: Bearer …</code>.</p>" + "".join(parts) + "</main></body></html>"
    )


def _operation(method: str, path: str, each: dict[str, Any], document: dict[str, Any]) -> str:
    shown = [f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>"]
    if text := each.get("description"):
        shown.append(f"<p>{html.escape(text)}</p>")
    names = [f"<code>{html.escape(p['name'])}</code> ({p['in']})" for p in each.get("parameters", [])]
    if names:
        shown.append(f"<p>Takes {', '.join(names)}.</p>")
    for kind, body in each.get("requestBody", {}).get("content", {}).items():
        for example in _examples(body.get("schema", {}), document):
            text = html.escape(json.dumps(example, indent=1))
            shown.append(f"<p>Body, <code>{html.escape(kind)}</code>, such as</p><pre>{text}</pre>")
    return "<section>" + "".join(shown) + "</section>"


def _examples(schema: dict[str, Any], document: dict[str, Any]) -> list[Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    schema = document.get("components", {}).get("schemas", {}).get(name, schema)
    return list(schema.get("examples", []))[:1]
