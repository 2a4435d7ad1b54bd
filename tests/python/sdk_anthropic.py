"""The unmodified Anthropic SDK against a gateway: BASE_URL KEY WIRE."""

import sys

import anthropic

url, key, wire = sys.argv[1:4]
client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=30)
HI = {"max_tokens": 20, "messages": [{"role": "user", "content": "Hi"}]}
SAID = "Hello from upstream."
TOOLS = [{"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]


def fails(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def create():
    answer = client.messages.create(model="main", system="Be brief.", **HI)
    assert answer.content[0].text == SAID and answer.stop_reason == "end_turn", answer
    assert answer._request_id, answer


def usage():
    answer = client.messages.create(model="main", **HI)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 7), answer


def stream():
    with client.messages.stream(model="main", **HI) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    assert text == SAID and final.content[0].text == SAID, final
    assert final.stop_reason == "end_turn" and final.usage.output_tokens == 7, final


def tools():
    answer = client.messages.create(model="tools", tools=TOOLS, **HI)
    call = answer.content[-1]
    assert call.type == "tool_use" and call.name == "weather" and call.input == {"city": "Köln"}, answer
    assert answer.stop_reason == "tool_use", answer
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
    turns = [*HI["messages"], {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    again = client.messages.create(model="main", max_tokens=20, tools=TOOLS, messages=turns)
    assert again.content[0].text == SAID, again


def tool_deltas():
    with client.messages.stream(model="tools", tools=TOOLS, **HI) as events:
        final = events.get_final_message()
    assert final.content[-1].input == {"city": "Köln"} and final.stop_reason == "tool_use", final


def errors():
    stranger = anthropic.Anthropic(base_url=url, api_key="wrong", max_retries=0)
    error = fails(anthropic.AuthenticationError, lambda: stranger.messages.create(model="main", **HI))
    assert error.body["error"]["type"] == "authentication_error", error
    error = fails(anthropic.NotFoundError, lambda: client.messages.create(model="nobody", **HI))
    assert error.body["error"]["type"] == "not_found_error", error
    error = fails(anthropic.BadRequestError, lambda: client.messages.create(model="main", extra_body={"temperature": "hot"}, **HI))
    assert "temperature" in error.body["error"]["message"], error
    error = fails(anthropic.BadRequestError, lambda: client.messages.create(model="refusing", **HI))
    assert "top_k" in error.body["error"]["message"], error
    error = fails(anthropic.RateLimitError, lambda: client.messages.create(model="busy", **HI))
    assert error.body["error"]["type"] == "rate_limit_error", error
    assert 15 <= int(error.response.headers["retry-after"]) <= 17, error.response.headers


for check in [create, usage, stream, tools, tool_deltas, errors]:
    check()
    print(f"anthropic sdk, {wire} wire: {check.__name__} passed", flush=True)
