"""The unmodified OpenAI SDK against a gateway: BASE_URL KEY WIRE."""

import json
import sys

import openai

url, key, wire = sys.argv[1:4]
client = openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=0, timeout=30)
HI = [{"role": "user", "content": "Hi"}]
SAID = "Hello from upstream."
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


def fails(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def chat():
    answer = client.chat.completions.create(model="main", messages=HI, temperature=0.5, max_tokens=20)
    assert answer.choices[0].message.content == SAID, answer
    assert answer.choices[0].finish_reason == "stop", answer
    assert answer.usage.total_tokens == 18, answer


def stream():
    chunks = list(client.chat.completions.create(model="main", messages=HI, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == SAID, chunks
    assert chunks[-1].choices[0].finish_reason == "stop", chunks


def include_usage():
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="main", messages=HI, stream=True, stream_options=options))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 7, chunks[-1]
    assert all(c.usage is None for c in chunks[:-1]), chunks


def tools():
    answer = client.chat.completions.create(model="tools", messages=HI, tools=TOOLS)
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and json.loads(call.function.arguments) == {"city": "Köln"}, answer
    assert answer.choices[0].finish_reason == "tool_calls", answer
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    again = client.chat.completions.create(model="main", messages=[*HI, answer.choices[0].message, result], tools=TOOLS)
    assert again.choices[0].message.content == SAID, again


def tool_deltas():
    with client.chat.completions.stream(model="tools", messages=HI, tools=TOOLS) as events:
        final = events.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and json.loads(call.function.arguments) == {"city": "Köln"}, final


def responses():
    answer = client.responses.create(model="main", input="Hi")
    assert answer.output_text == SAID and answer.usage.output_tokens == 7, answer
    events = list(client.responses.create(model="main", input="Hi", stream=True))
    assert events[-1].type == "response.completed", events
    assert events[-1].response.output_text == SAID, events[-1]


def errors():
    stranger = openai.OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0)
    error = fails(openai.AuthenticationError, lambda: stranger.models.list())
    assert error.status_code == 401 and error.code == "invalid_api_key", error
    error = fails(openai.NotFoundError, lambda: client.chat.completions.create(model="nobody", messages=HI))
    assert error.code == "model_not_found", error
    error = fails(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model="main", messages=HI, temperature="hot"),
    )
    assert error.param == "temperature", error
    error = fails(openai.BadRequestError, lambda: client.chat.completions.create(model="refusing", messages=HI))
    assert "top_k" in error.message, error
    error = fails(openai.RateLimitError, lambda: client.chat.completions.create(model="busy", messages=HI))
    assert 15 <= int(error.response.headers["retry-after"]) <= 17, error.response.headers
    error = fails(openai.RateLimitError, lambda: client.chat.completions.create(model="busy", messages=HI, stream=True))
    assert error.request_id or error.response.headers["x-request-id"], error


def embeddings():
    if wire == "anthropic":
        fails(openai.BadRequestError, lambda: client.embeddings.create(model="embed", input="a"))
        return
    # Without an encoding the SDK asks for base64 and decodes it.
    answer = client.embeddings.create(model="embed", input=["a", "b"])
    assert answer.data[1].embedding == [1.0, 1.25, 1.5], answer
    answer = client.embeddings.create(model="embed", input="a", encoding_format="float", dimensions=2)
    assert answer.data[0].embedding == [0.0, 0.25], answer


def models():
    assert {"main", "tools"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("main").id == "main"
    fails(openai.NotFoundError, lambda: client.models.retrieve("nobody"))


for check in [chat, stream, include_usage, tools, tool_deltas, responses, errors, embeddings, models]:
    check()
    print(f"openai sdk, {wire} wire: {check.__name__} passed", flush=True)
