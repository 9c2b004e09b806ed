"""What schemathesis cannot know from the document: names of things that exist."""

import itertools
import re

import schemathesis

TOOLS = [
    {"tool": "echo", "input": {"hello": "world"}},
    {"tool": "math.eval", "input": {"expression": "1 + 1"}},
    {"tool": "time.now", "input": {}},
]


@schemathesis.hook
def filter_case(context, case):
    """Headers that a service does not know are no fault of a request, nor are
    parameters on the routes of OpenAI's interface. A form has only texts and
    files: a number in it is a text, an empty array a field that is not there. So
    has what `metadata.KEY` asks for in a query.
    """
    for name, value in (case.query or {}).items():
        texts = value.values() if isinstance(value, dict) else [value]
        if name.startswith("metadata.") and not all(isinstance(text, str) for text in texts):
            return False
    if case.media_type == "multipart/form-data" and isinstance(case.body, dict):
        if not all(isinstance(value, (str, bytes)) for value in case.body.values()):
            return False
    responses = case.operation.definition.raw.get("responses", {}).values()
    is_openai = any("/openai." in response.get("$ref", "") for response in responses)
    if is_openai and "x-schemathesis-unknown-property" in (case.query or {}):
        return False
    return "x-schemathesis-unknown-property" not in (case.headers or {})


NUMBERS = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    """A valid Idempotency-Key is used once: the answer to a repeat speaks of
    something that may have been deleted since. Repeats have tests of their own.
    """
    for name, value in (case.headers or {}).items():
        if name.lower() == "idempotency-key" and re.fullmatch("[!-~]([ -~]*[!-~])?", str(value)):
            case.headers[name] = f"{next(NUMBERS)}-{value}"[:255]


@schemathesis.hook
def map_body(context, body):
    """Half of the submissions name a tool that there is, so that they go further."""
    operation = context.operation
    if operation is None or operation.definition.raw.get("operationId") not in {"submitJob", "runAgent"}:
        return body
    if isinstance(body, dict) and isinstance(body.get("tool"), str) and len(body) % 2 == 0:
        return {**body, **TOOLS[len(body["tool"]) % len(TOOLS)]}
    return body
