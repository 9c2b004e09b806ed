"""OpenAI's library for Python against the running service: what applications do
with it, and that its own checks of types and events are content."""

import asyncio
import base64
import io
import json
import os
import sys
import time
import traceback
import urllib.error
import urllib.request

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

SERVICE = os.environ["SERVICE_URL"]
UPSTREAM = os.environ["UPSTREAM_URL"].removesuffix("/v1")
ADMIN_KEY = os.environ["ADMIN_KEY"]
PATIENCE = 30

MODEL = "gpt-4o-mini"
EMBEDDING = "text-embedding-3-small"


def call(method, url, body=None, headers=None):
    """One request without the library; its JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})}, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def admin(method, path, body=None):
    return call(method, f"{SERVICE}{path}", body, {"X-Admin-Key": ADMIN_KEY})


def upstream(path, body=None):
    return call("GET" if body is None else "POST", f"{UPSTREAM}/_scripted/{path}", body)


def script(model=MODEL, **what):
    """What the provider does from now on; without words, what is usual."""
    upstream("script", {"model": model, "script": what})


def following(*scripts, model=MODEL):
    """What it does with the next requests."""
    upstream("next", {"model": model, "scripts": list(scripts)})


def last_body():
    return json.loads(upstream("requests")[-1]["body"])


def new_key(**options):
    tenant = admin("POST", "/admin/tenants", {"name": "sdk"})["tenant_id"]
    key = admin("POST", f"/admin/tenants/{tenant}/keys", {"name": "sdk", **options})["api_key"]
    return tenant, key


def client_of(key, **options):
    return OpenAI(api_key=key, base_url=f"{SERVICE}/v1", **{"max_retries": 0, "timeout": PATIENCE, **options})


def eventually(what, look):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {PATIENCE} s")


def raises(kind, status, act, code=None):
    """The error that it must be."""
    try:
        act()
    except openai.APIStatusError as error:
        assert type(error) is kind, f"{type(error).__name__} ({error.status_code}), not {kind.__name__}: {error}"
        assert error.status_code == status, f"{error.status_code}: {error}"
        assert error.message and isinstance(error.body, dict), f"no envelope: {error.body!r}"
        assert code is None or error.code == code, f"{error.code}, not {code}: {error}"
        return error
    raise AssertionError(f"no {kind.__name__}")


# The same provider once more, known to have `/responses`; to the one of the
# environment the service speaks chat only.
PASSED = {"base_url": os.environ["UPSTREAM_URL"], "api_key": os.environ["PROVIDER_KEY"], "responses": True}
admin("PUT", "/admin/models/providers/passed", PASSED)

TENANT, KEY = new_key()
client = client_of(KEY)
HELLO = [{"role": "user", "content": "Hello there"}]


def chat(**options):
    return client.chat.completions.create(**{"model": MODEL, "messages": HELLO, **options})


# Chat.


def chat_whole():
    script(used={"input": 20, "cached": 8, "output": 5, "reasoning": 2})
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    answer = raw.parse()
    assert answer.choices[0].message.content == "hello hello hello"
    assert answer.choices[0].finish_reason == "stop"
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (20, 5, 25)
    assert usage.prompt_tokens_details.cached_tokens == 8
    assert usage.completion_tokens_details.reasoning_tokens == 2
    assert float(raw.headers["X-Cost-Usd"]) > 0
    assert raw.headers["X-Model-Used"] == MODEL
    for name in ["X-Fallbacks", "X-Agentd-Overhead-Ms", "X-Budget-Remaining-Usd", "X-Request-Id"]:
        assert raw.headers.get(name), f"no {name}"


def chat_once_more():
    script(text="This once.", used={"input": 20, "output": 5})
    options = {"model": MODEL, "messages": HELLO, "seed": 7, "extra_headers": {"Cache-Control": "max-age=60"}}
    ages = []
    for _ in range(2):
        raw = client.chat.completions.with_raw_response.create(**options)
        assert raw.parse().choices[0].message.content == "This once."
        ages.append(raw.headers.get("Age"))
    assert ages[0] is None and int(ages[1]) >= 0, ages
    assert raw.headers["X-Cost-Usd"] == "0"


def chat_stream():
    script(text="Grüße aus 東京 🌍 heute", pieces=3)
    stream = chat(stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Grüße aus 東京 🌍 heute", text
    assert chunks[-1].usage.completion_tokens == 5
    assert not chunks[-1].choices
    # Without being asked for there is no usage, although the service needs it.
    chunks = list(chat(stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks), chunks


def chat_stream_helper():
    script(used={"input": 10, "output": 4})
    with client.chat.completions.stream(model=MODEL, messages=HELLO) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and "content.done" in kinds
    assert final.choices[0].message.content == "hello hello hello hello"


def chat_tools():
    script(use_tools=True)
    tools = [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "The weather in a city",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            },
        }
    ]
    answer = chat(tools=tools)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    asked = choice.message.tool_calls[0]
    assert (asked.function.name, json.loads(asked.function.arguments)) == ("weather", {"city": "text"})
    messages = [*HELLO, choice.message, {"role": "tool", "tool_call_id": asked.id, "content": "sunny"}]
    assert chat(messages=messages, tools=tools).choices[0].message.content
    assert last_body()["messages"][2]["content"] == "sunny"
    with client.chat.completions.stream(model=MODEL, messages=HELLO, tools=tools) as stream:
        final = stream.get_final_completion()
    assert json.loads(final.choices[0].message.tool_calls[0].function.arguments) == {"city": "text"}


class Day(BaseModel):
    city: str
    degrees: float
    rain: bool
    hours: list[int]


def chat_structured_output():
    script()
    answer = client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Day)
    assert answer.choices[0].message.parsed == Day(city="text", degrees=1.5, rain=True, hours=[1])
    script(refusal="I cannot help with that")
    answer = client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Day)
    assert answer.choices[0].message.refusal == "I cannot help with that"


def chat_images():
    script(used={"input": 900, "output": 3})
    picture = "data:image/png;base64," + base64.b64encode(b"\x89PNG" + bytes(3000)).decode()
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": picture}},
    ]
    chat(messages=[{"role": "user", "content": parts}])
    assert last_body()["messages"][0]["content"] == parts


def chat_unknown_fields_pass():
    script(extra={"new": [1, 2]})
    answer = chat(extra_body={"x_unknown": {"a": [1, None]}})
    assert last_body()["x_unknown"] == {"a": [1, None]}
    assert answer.model_extra["x_extra"] == {"new": [1, 2]}


def chat_choices_and_limits():
    script(used={"input": 10, "output": 50})
    answer = chat(n=2, max_completion_tokens=4)
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert answer.usage.completion_tokens == 8


def chat_aliases():
    script()
    script("gpt-4.1-nano")
    raw = client.chat.completions.with_raw_response.create(model="default", messages=HELLO)
    assert raw.headers["X-Model-Used"] == MODEL
    raw = client.chat.completions.with_raw_response.create(model="low-cost", messages=HELLO)
    assert raw.headers["X-Model-Used"] == "gpt-4.1-nano"
    assert last_body()["model"] == "gpt-4.1-nano"


def chat_at_once():
    script(latency_ms=20)

    async def all_of_them():
        async with AsyncOpenAI(api_key=KEY, base_url=f"{SERVICE}/v1", max_retries=0) as asynchronous:

            async def one():
                text = ""
                stream = await asynchronous.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
                async for chunk in stream:
                    text += chunk.choices[0].delta.content or "" if chunk.choices else ""
                return text

            return await asyncio.gather(*(one() for _ in range(20)))

    assert set(asyncio.run(all_of_them())) == {" ".join(["hello"] * 8)}


# Responses. The provider has them, or the service makes them of chat.


class Responses:
    """The model by which one or the other happens."""

    model = MODEL


def responses_whole():
    script(used={"input": 12, "cached": 4, "output": 3, "reasoning": 1})
    made = client.responses.create(model=Responses.model, input="Hello", instructions="Be brief", metadata={"a": "b"})
    assert made.output_text == "hello hello" and made.status == "completed", made
    usage = made.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (12, 3, 15)
    assert usage.input_tokens_details.cached_tokens == 4
    assert usage.output_tokens_details.reasoning_tokens == 1
    kept = client.responses.retrieve(made.id)
    assert (kept.id, kept.output_text, kept.metadata) == (made.id, made.output_text, {"a": "b"})
    items = client.responses.input_items.list(made.id)
    assert items.data[0].content[0].text == "Hello"
    after = client.responses.create(model=Responses.model, input="And now?", previous_response_id=made.id)
    assert after.previous_response_id == made.id
    sent = json.dumps(last_body())
    assert "hello hello" in sent and "And now?" in sent, sent
    client.responses.delete(made.id)
    raises(openai.NotFoundError, 404, lambda: client.responses.retrieve(made.id))


def responses_not_stored():
    script()
    made = client.responses.create(model=Responses.model, input="Hello", store=False)
    raises(openai.NotFoundError, 404, lambda: client.responses.retrieve(made.id))


def in_order(events):
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers


def responses_stream():
    script(used={"input": 12, "output": 4})
    events = list(client.responses.create(model=Responses.model, input="Hello", stream=True))
    in_order(events)
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text == "hello hello hello hello"
    assert events[-1].response.usage.output_tokens == 4
    with client.responses.stream(model=Responses.model, input="Hello") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == text


def responses_tools():
    script(use_tools=True)
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"type": "function", "name": "weather", "parameters": schema, "strict": False}]
    made = client.responses.create(model=Responses.model, input="Weather?", tools=tools)
    asked = next(item for item in made.output if item.type == "function_call")
    assert (asked.name, json.loads(asked.arguments)) == ("weather", {"city": "text"})
    outcome = {"type": "function_call_output", "call_id": asked.call_id, "output": "sunny"}
    after = client.responses.create(model=Responses.model, input=[outcome], previous_response_id=made.id, tools=tools)
    assert after.output_text
    with client.responses.stream(model=Responses.model, input="Weather?", tools=tools) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert "response.function_call_arguments.delta" in kinds
    assert any(item.type == "function_call" for item in final.output)


def responses_structured_output():
    script()
    made = client.responses.parse(model=Responses.model, input="Weather?", text_format=Day)
    assert made.output_parsed == Day(city="text", degrees=1.5, rain=True, hours=[1])


def responses_incomplete():
    script(used={"input": 12, "output": 40})
    made = client.responses.create(model=Responses.model, input="Hello", max_output_tokens=16)
    assert (made.status, made.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def ended(response_id):
    def look():
        response = client.responses.retrieve(response_id)
        return response if response.status not in ("queued", "in_progress") else None

    return eventually("it ends", look)


def responses_background():
    script(used={"input": 12, "output": 3}, latency_ms=50)
    made = client.responses.create(model=Responses.model, input="Hello", background=True)
    assert made.status in ("queued", "in_progress"), made.status
    response = ended(made.id)
    assert (response.status, response.output_text) == ("completed", "hello hello hello")


def responses_background_cancel():
    script(fault="hang_before")
    before = upstream("state")["counts"]
    made = client.responses.create(model=Responses.model, input="Hello", background=True)
    eventually("the provider is asked", lambda: upstream("state")["counts"]["requests"] > before["requests"])
    assert client.responses.cancel(made.id).status == "cancelled"
    assert ended(made.id).status == "cancelled"
    eventually("the provider is left alone", lambda: upstream("state")["counts"]["cancelled"] > before["cancelled"])


def responses_resume():
    script(used={"input": 12, "output": 6}, pause_ms=20)
    stream = client.responses.create(model=Responses.model, input="Hello", background=True, stream=True)
    seen = []
    for event in stream:
        seen.append(event)
        if len(seen) == 5:
            break
    stream.close()
    response_id = seen[0].response.id
    rest = client.responses.retrieve(response_id, stream=True, starting_after=seen[-1].sequence_number)
    seen.extend(rest)
    in_order(seen)
    assert seen[-1].type == "response.completed"
    text = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
    assert text == "hello hello hello hello hello hello"
    again = list(client.responses.retrieve(response_id, stream=True, starting_after=2))
    assert again[0].sequence_number == 3 and again[-1].type == "response.completed"


def responses_cut():
    script(used={"input": 12, "output": 6}, fault={"cut_after": 3})
    try:
        events = list(client.responses.create(model=Responses.model, input="Hello", stream=True))
        assert events[-1].type in ("response.failed", "error"), events[-1]
    except openai.APIError as error:
        assert error.message


# The rest of the interface.


def embeddings():
    # The library asks for base64 by itself.
    made = client.embeddings.create(model=EMBEDDING, input=["one", "two"], dimensions=4)
    floats = client.embeddings.create(model=EMBEDDING, input=["one", "two"], dimensions=4, encoding_format="float")
    assert [row.embedding for row in made.data] == [row.embedding for row in floats.data]
    assert len(made.data) == 2 and len(made.data[0].embedding) == 4
    assert made.usage.prompt_tokens == 2


def models():
    names = [model.id for model in client.models.list()]
    for name in ["default", "low-cost", f"openai/{MODEL}"]:
        assert name in names, names
    assert client.models.retrieve("default").id == "default"
    raises(openai.NotFoundError, 404, lambda: client.models.retrieve("no-such-model"))


WAV = b"RIFF" + (36 + 16000).to_bytes(4, "little") + b"WAVEfmt " + bytes([16, 0, 0, 0, 1, 0, 1, 0]) + (
    8000
).to_bytes(4, "little") + (16000).to_bytes(4, "little") + bytes([2, 0, 16, 0]) + b"data" + (16000).to_bytes(
    4, "little"
) + bytes(16000)


def sound():
    return ("a.wav", io.BytesIO(WAV), "audio/wav")


def transcriptions():
    upstream("script", {"model": "whisper-1", "script": {"text": "spoken words", "used": {"seconds": 1}}})
    transcribe = client.audio.transcriptions.create
    assert transcribe(model="whisper-1", file=sound()).text == "spoken words"
    assert transcribe(model="whisper-1", file=sound(), response_format="text").strip() == "spoken words"
    assert "-->" in transcribe(model="whisper-1", file=sound(), response_format="srt")
    verbose = transcribe(model="whisper-1", file=sound(), response_format="verbose_json")
    assert verbose.segments[0].text == "spoken words"
    model = "gpt-4o-mini-transcribe"
    script(model, used={"input": 10, "output": 4})
    events = list(transcribe(model=model, file=sound(), stream=True))
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == "hello hello hello hello"


def speech():
    text = "Good morning"
    answer = client.audio.speech.create(model="tts-1", voice="alloy", input=text, response_format="mp3")
    assert len(answer.content) == len(text) * 100
    with client.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input=text) as streamed:
        assert sum(len(piece) for piece in streamed.iter_bytes()) == len(text) * 100


def files():
    content = b'{"a": 1}\n' * 40_000
    made = client.files.create(file=("data.jsonl", content), purpose="user_data")
    assert (made.bytes, made.filename, made.purpose) == (len(content), "data.jsonl", "user_data")
    assert client.files.retrieve(made.id).id == made.id
    assert client.files.content(made.id).content == content
    assert made.id in [file.id for file in client.files.list(limit=2)]
    _, other = new_key()
    raises(openai.NotFoundError, 404, lambda: client_of(other).files.retrieve(made.id))
    assert client.files.delete(made.id).deleted
    raises(openai.NotFoundError, 404, lambda: client.files.content(made.id))


def batch_of(requests, url="/v1/chat/completions"):
    lines = (
        json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body}) for name, body in requests.items()
    )
    file = client.files.create(file=("batch.jsonl", "\n".join(lines).encode()), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=url, completion_window="24h", metadata={"a": "b"})


def batch_ended(batch_id):
    def look():
        batch = client.batches.retrieve(batch_id)
        return batch if batch.status in ("completed", "failed", "cancelled", "expired") else None

    return eventually("the batch ends", look)


def batches():
    script(used={"input": 10, "output": 3})
    body = {"model": MODEL, "messages": HELLO}
    made = batch_of({"one": body, "two": body, "bad": {**body, "max_tokens": -1}})
    batch = batch_ended(made.id)
    assert (batch.status, batch.metadata) == ("completed", {"a": "b"}), batch
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (3, 2, 1), counts
    lines = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert {line["custom_id"] for line in lines} == {"one", "two"}
    assert lines[0]["response"]["body"]["choices"][0]["message"]["content"] == "hello hello hello"
    lines = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
    assert [line["custom_id"] for line in lines] == ["bad"]
    assert made.id in [batch.id for batch in client.batches.list(limit=5)]


def batches_cancelled():
    script(fault="hang_before")
    made = batch_of({str(name): {"model": MODEL, "messages": HELLO} for name in range(3)})
    assert client.batches.cancel(made.id).status in ("cancelling", "cancelled")
    assert batch_ended(made.id).status == "cancelled"
    script()


# What goes wrong.


def errors_of_the_caller():
    script()
    raises(openai.AuthenticationError, 401, lambda: client_of("agk_live_wrong_key").models.list())
    raises(openai.NotFoundError, 404, lambda: chat(model="no-such-model"))
    for wrong in [{"max_tokens": -1}, {"max_tokens": 10**12}, {"n": 0}, {"messages": "no list"}]:
        raises(openai.BadRequestError, 400, lambda: chat(**wrong))
    tool = {"type": "function", "function": {"name": "t", "parameters": {"type": "no such type"}}}
    raises(openai.BadRequestError, 400, lambda: chat(tools=[tool]))
    raises(openai.BadRequestError, 400, lambda: client.post("/chat/completions", cast_to=object, content=b"{"))
    _, key = new_key(scopes=["jobs:read"])
    raises(openai.PermissionDeniedError, 403, lambda: client_of(key).chat.completions.create(model=MODEL, messages=HELLO))


def errors_of_money():
    script()
    tenant, key = new_key()
    admin("PUT", f"/admin/tenants/{tenant}/budget", {"day_usd": "0"})
    poor = client_of(key)
    error = raises(openai.APIStatusError, 402, lambda: poor.chat.completions.create(model=MODEL, messages=HELLO))
    assert error.code == "budget_exceeded", error.body
    admin("PUT", f"/admin/tenants/{tenant}/budget", {"day_usd": "1"})
    poor.chat.completions.create(model=MODEL, messages=HELLO)


def errors_of_rate():
    tenant, key = new_key()
    admin("PUT", f"/admin/tenants/{tenant}/quota", {"requests_per_minute": 1})
    fast = client_of(key)
    fast.models.list()
    error = raises(openai.RateLimitError, 429, fast.models.list)
    assert int(error.response.headers["Retry-After"]) >= 1


def errors_of_the_provider():
    # A model of its own: after so many failures it is left alone for a while.
    model = "gpt-4.1-mini"
    # Once is tried again and not seen.
    following({"status": 503}, {"status": 429, "headers": [["Retry-After", "0"]]}, model=model)
    chat(model=model)
    for fault in [{"status": 500}, {"body": ["text/html", "<html>Oops</html>"]}]:
        script(model, **fault)
        try:
            chat(model=model)
            raise AssertionError("no error")
        except openai.InternalServerError as error:
            assert error.status_code >= 500 and error.message


def errors_in_mid_stream():
    model = "gpt-4.1"
    script(model, used={"input": 10, "output": 8}, fault={"cut_after": 3})
    text = ""
    try:
        for chunk in chat(model=model, stream=True):
            text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        raise AssertionError("no error")
    except openai.APIError as error:
        assert text == "hello hello hello" and error.message, (text, error)


def timeouts():
    model = "gpt-4o"
    script(model, fault="hang_before")
    asked = upstream("state")["counts"]["requests"]
    impatient = client_of(KEY, timeout=2)
    try:
        impatient.chat.completions.create(model=model, messages=HELLO)
        raise AssertionError("no timeout")
    except openai.APITimeoutError:
        pass
    assert upstream("state")["counts"]["requests"] == asked + 1, "it was asked again"


def hanging_up_cancels_the_stream():
    model = "gpt-4o"
    before = upstream("state")["counts"]["cancelled"]

    def is_left_alone(times):
        eventually("the provider is left alone", lambda: upstream("state")["counts"]["cancelled"] >= before + times)

    script(model, used={"input": 10, "output": 8}, fault={"hang_after": 2})
    stream = chat(model=model, stream=True)
    assert any(chunk.choices and chunk.choices[0].delta.content for chunk in stream)
    stream.close()
    is_left_alone(1)
    # Before its first byte, too.
    script(model, fault="hang_before")
    try:
        client_of(KEY, timeout=2).chat.completions.create(model=model, messages=HELLO, stream=True)
        raise AssertionError("no timeout")
    except openai.APITimeoutError:
        is_left_alone(2)


RESPONSES = [
    responses_whole,
    responses_not_stored,
    responses_stream,
    responses_tools,
    responses_structured_output,
    responses_incomplete,
    responses_background,
    responses_background_cancel,
    responses_resume,
    responses_cut,
]
CHECKS = [
    chat_whole,
    chat_once_more,
    chat_stream,
    chat_stream_helper,
    chat_tools,
    chat_structured_output,
    chat_images,
    chat_unknown_fields_pass,
    chat_choices_and_limits,
    chat_aliases,
    chat_at_once,
    *RESPONSES,
    embeddings,
    models,
    transcriptions,
    speech,
    files,
    batches,
    batches_cancelled,
    errors_of_the_caller,
    errors_of_money,
    errors_of_rate,
    errors_of_the_provider,
    errors_in_mid_stream,
    timeouts,
    hanging_up_cancels_the_stream,
]


def main():
    only = os.environ.get("ONLY", "")
    failed = 0
    plan = [(check.__name__, check, MODEL) for check in CHECKS]
    plan += [(f"{check.__name__}, passed on", check, f"passed/{MODEL}") for check in RESPONSES]
    for name, check, model in plan:
        if only not in name:
            continue
        try:
            Responses.model = model
            # Where it is not to be asked it does not have it.
            upstream("without", [] if model.startswith("passed/") else ["/v1/responses"])
            check()
            print(f"  ok      {name}", flush=True)
        except Exception:
            failed += 1
            print(f"  FAILED  {name}", flush=True)
            traceback.print_exc(limit=4, file=sys.stdout)
        finally:
            script()
    return 1 if failed else 0


sys.exit(main())
