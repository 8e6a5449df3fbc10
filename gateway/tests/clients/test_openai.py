"""openai for Python through the gateway, against a pool whose first target always throttles."""

import time

import openai
import pytest

import harness
from harness import CACHED, KEY, LIMITED, REPLY


@pytest.fixture(scope="module")
def urls():
    with harness.gateway() as urls:
        yield urls


@pytest.fixture(params=["openai", "azure", "azure-v1"])
def client(request, urls):
    url, admin = urls
    before = harness.throttled_attempts(admin)
    if request.param == "openai":
        yield openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)
    elif request.param == "azure":
        yield openai.AzureOpenAI(azure_endpoint=url, api_key=KEY, api_version="2024-10-21", max_retries=0)
    else:
        yield openai.OpenAI(base_url=f"{url}/openai/v1/", api_key=KEY, max_retries=0)
    assert harness.throttled_attempts(admin) > before, "the first target was never asked"


MESSAGES = [{"role": "user", "content": "What is a spillway?"}]


def test_chat(client):
    answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, n=2)
    assert [choice.message.content for choice in answer.choices] == [REPLY, REPLY]
    assert answer.usage.total_tokens > 0


def test_chat_stream(client):
    stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == REPLY
    assert chunks[-1].usage.total_tokens > 0
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"


def test_embeddings(client):
    answer = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert [len(item.embedding) for item in answer.data] == [1536, 1536]
    assert abs(sum(x * x for x in answer.data[0].embedding) - 1) < 1e-4


def test_responses(client):
    answer = client.responses.create(model="gpt-4o", input="What is a spillway?")
    assert answer.output_text == REPLY
    assert answer.status == "completed"


def test_a_conversation_goes_on(client):
    first = client.responses.create(model="gpt-4o", input="What is a spillway?")
    second = client.responses.create(model="gpt-4o", input="And what is it for?", previous_response_id=first.id)
    assert second.output_text == REPLY
    with pytest.raises(openai.NotFoundError) as error:
        client.responses.create(model="gpt-4o", input="x", previous_response_id="resp_of_somebody_else")
    assert error.value.code == "object_not_found"


def test_responses_stream(client):
    text, last = "", None
    for event in client.responses.create(model="gpt-4o", input="What is a spillway?", stream=True):
        text += event.delta if event.type == "response.output_text.delta" else ""
        last = event.type
    assert (text, last) == (REPLY, "response.completed")


def test_transcription(client):
    answer = client.audio.transcriptions.create(model="gpt-4o", file=("a.wav", b"\0" * 200_000))
    assert answer.text == REPLY


def test_errors_are_the_sdks_own(urls):
    url, _ = urls
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="gpt-9", messages=MESSAGES)
    assert error.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError) as error:
        openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0).models.list()
    assert error.value.code == "invalid_api_key"
    assert [model.id for model in client.models.list()] == ["gpt-4o", "text-embedding-3-small"]


def test_entra_tokens(urls):
    url, _ = urls
    azure = {"azure_endpoint": url, "api_version": "2024-10-21", "max_retries": 0}
    token = harness.ISSUER.token()
    for client in [
        openai.AzureOpenAI(azure_ad_token=token, **azure),
        openai.AzureOpenAI(azure_ad_token_provider=lambda: token, **azure),
        openai.OpenAI(base_url=f"{url}/openai/v1/", api_key=token, max_retries=0),
    ]:
        assert client.chat.completions.create(model="gpt-4o", messages=MESSAGES).choices[0].message.content == REPLY
    for wrong in [{"aud": "api://other"}, {"exp": 1}, {"iss": "https://evil.example"}]:
        client = openai.AzureOpenAI(azure_ad_token=harness.ISSUER.token(**wrong), **azure)
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)


def test_a_rate_limit_is_waited_out_as_told(urls):
    url, _ = urls
    at_once = openai.OpenAI(base_url=f"{url}/v1", api_key=LIMITED, max_retries=0)
    patient = openai.OpenAI(base_url=f"{url}/v1", api_key=LIMITED, max_retries=5)
    stream = at_once.chat.completions.create(model="slow", messages=MESSAGES, stream=True)
    next(iter(stream))
    with pytest.raises(openai.RateLimitError) as refused:
        at_once.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert refused.value.code == "rate_limit_exceeded"
    headers = refused.value.response.headers
    assert headers["retry-after"] == "1" and headers["x-ratelimit-limit-tokens"] == "100000"
    began = time.monotonic()
    answer = patient.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert time.monotonic() - began >= 1, "it came back before it was told to"
    assert answer.choices[0].message.content == REPLY
    assert "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices) in REPLY


def test_a_request_that_never_fits_is_not_tried_again(urls):
    url, _ = urls
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=LIMITED, max_retries=5)
    began = time.monotonic()
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=1_000_000)
    assert time.monotonic() - began < 5


def kept(call, **arguments):
    """Calls, and says how the request stood with the cache."""
    raw = call.with_raw_response.create(**arguments)
    return raw.headers["x-spillway-cache"], raw.parse()


def text_of(stream):
    chunks = list(stream)
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices), chunks[-1].usage


@pytest.mark.parametrize("first", ["plain", "stream"])
def test_a_kept_chat_is_the_same_in_both_forms(urls, first):
    url, _ = urls
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=CACHED, max_retries=0)
    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"What is a spillway, {first}?"}]}
    streamed = asked | {"stream": True, "stream_options": {"include_usage": True}}
    result, original = kept(client.chat.completions, **(asked if first == "plain" else streamed))
    assert result == "miss"
    original = (original.choices[0].message.content, original.usage) if first == "plain" else text_of(original)
    assert original[0] == REPLY
    result, plain = kept(client.chat.completions, **asked)
    assert result == "hit"
    assert (plain.choices[0].message.content, plain.usage, plain.choices[0].finish_reason) == (*original, "stop")
    result, stream = kept(client.chat.completions, **streamed)
    assert (result, text_of(stream)) == ("hit", original)
    with client.chat.completions.stream(**asked) as events:
        assert events.get_final_completion().choices[0].message.content == REPLY


@pytest.mark.parametrize("first", ["plain", "stream"])
def test_a_kept_response_is_the_same_in_both_forms(urls, first):
    url, _ = urls
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=CACHED, max_retries=0)
    asked = {"model": "gpt-4o", "input": f"What is a spillway, {first}?"}

    def last(stream):
        events = list(stream)
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == REPLY
        assert [event.sequence_number for event in events] == list(range(len(events)))
        return events[-1].response

    result, original = kept(client.responses, **(asked if first == "plain" else asked | {"stream": True}))
    original = original if first == "plain" else last(original)
    assert (result, original.output_text) == ("miss", REPLY)
    result, plain = kept(client.responses, **asked)
    assert (result, plain) == ("hit", original)
    result, stream = kept(client.responses, **asked, stream=True)
    assert (result, last(stream)) == ("hit", original)
    with client.responses.stream(**asked) as events:
        assert events.get_final_response().output_text == REPLY


def test_kept_embeddings_are_the_same(urls):
    url, _ = urls
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=CACHED, max_retries=0)
    results = [kept(client.embeddings, model="text-embedding-3-small", input="the same") for _ in range(2)]
    assert [result for result, _ in results] == ["miss", "hit"]
    assert results[0][1] == results[1][1]
