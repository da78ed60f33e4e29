"""Holds an OpenAPI document to its specification, its examples to its schemas, and answers to both.

Reads {"document": ..., "answers": [{"path", "method", "status", "type", "body"}]} on standard input;
prints what is wrong, a line each.
"""
import json
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

given = json.load(sys.stdin)
document = given["document"]


def said(where, errors):
    for error in errors:
        print(f"{where}: {error.json_path}: {error.message}")


def held(where, schema, value):
    said(where, Draft202012Validator({**schema, "components": document["components"]}).iter_errors(value))


def hold_examples(where, part):
    """Wherever a schema has examples beside it."""
    if isinstance(part, list):
        for index, inner in enumerate(part):
            hold_examples(f"{where}/{index}", inner)
    if not isinstance(part, dict):
        return
    if "schema" in part:
        values = [example["value"] for example in part.get("examples", {}).values()]
        for value in values + [part[name] for name in ["example"] if name in part]:
            held(where, part["schema"], value)
    for name, inner in part.items():
        hold_examples(f"{where}/{name}", inner)


def answer_schema(answer):
    response = document["paths"][answer["path"]][answer["method"]]["responses"][str(answer["status"])]
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].split("/")[-1]]
    return response["content"][answer["type"]]["schema"]


said("document", OpenAPIV31SpecValidator(document).iter_errors())
hold_examples("paths", document["paths"])
hold_examples("responses", document["components"]["responses"])
for answer in given["answers"]:
    held(f"{answer['method']} {answer['path']}", answer_schema(answer), answer["body"])
