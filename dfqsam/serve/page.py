"""The service's description as one page of HTML, which fetches nothing from anywhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2b30 }
h2 { border-top: 1px solid #c8d2d5; padding-top: 1rem } code, pre { font: 14px/1.4 ui-monospace, monospace }
pre { background: #f3f6f7; padding: .75rem; overflow-x: auto } td, th { text-align: left; vertical-align: top;
padding: .15rem .75rem .15rem 0 } .method { color: #0f6b80; font-weight: bold }
"""
EXAMPLES = {
    "/v1/segment": """curl -F image=@fundus.png -F 'prompts=[{"box": [125, 530, 335, 780]}]' \\
     -F format=png -o mask.png ADDRESS/v1/segment""",
    "/v1/images": "curl -F image=@ct.dcm -F 'window=lung' ADDRESS/v1/images",
    "/v1/images/{image}/segment": """curl -H 'Content-Type: application/json' -H 'Accept: application/dicom' \\
     -d '{"prompts": [{"box": [120, 80, 190, 150], "name": "liver"}]}' -o seg.dcm ADDRESS/v1/images/ID/segment""",
}


def _schema(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


def _fields(document: dict[str, Any], operation: dict[str, Any]) -> str:
    rows = []
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = _schema(document, content["schema"])
        rows.append(f"<p>Body: <code>{escape(kind)}</code></p><table>")
        for name, field in schema["properties"].items():
            need = "needed" if name in schema.get("required", []) else ""
            choices = ", ".join(map(str, field.get("enum", [])))
            said = " ".join(filter(None, (field.get("description", ""), choices)))
            rows.append(f"<tr><td><code>{escape(name)}</code><td>{need}<td>{escape(said)}")
        rows.append("</table>")
    return "".join(rows)


def page(document: dict[str, Any]) -> str:
    """HTML of an OpenAPI document."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(document['info']['title'])}</title>",
        f"<style>{STYLE}</style><h1>{escape(document['info']['title'])}</h1>",
        f"<p>{escape(document['info'].get('description', ''))} "
        "The same for programs: <a href=openapi.json>openapi.json</a>.</p>",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            said = operation.get("description", operation.get("summary", ""))
            parts.append(f"<h2><span class=method>{method.upper()}</span> <code>{escape(path)}</code></h2>")
            parts.append(f"<p>{escape(said)}</p>{_fields(document, operation)}")
            if method == "post" and path in EXAMPLES:
                parts.append(f"<pre>{escape(EXAMPLES[path])}</pre>")
            answers = (
                f"<tr><td>{code}<td>{escape(a['description'])}" for code, a in sorted(operation["responses"].items())
            )
            parts.append(f"<table>{''.join(answers)}</table>")
    prompt = json.dumps(document["components"]["schemas"]["Prompt"]["properties"], indent=1)
    parts.append(f"<h2>A prompt</h2><pre>{escape(prompt)}</pre></html>")
    return "\n".join(parts)
