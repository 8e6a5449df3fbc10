"""Other clients through the gateway, each against pools whose first member throttles, fails, breaks, stalls or is odd.

No client may see an exception where an answer was to be had, and each must read the right text and the right usage.
"""

import asyncio

import anthropic
import litellm
import openai
import pytest
from agents import Agent, ModelSettings, OpenAIResponsesModel, OpenAIResponsesWSModel, RunConfig, Runner, set_tracing_disabled
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import BaseModel

from faults import FAULTS, ODD, gateway
from harness import REPLY

set_tracing_disabled(True)
# litellm's own types make pydantic warn.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def url():
    with gateway() as address:
        yield address


MESSAGES = [{"role": "user", "content": "What is a spillway?"}]
every_fault = pytest.mark.parametrize("model", [*FAULTS, *ODD])


@every_fault
def test_openai(url, model):
    client = openai.OpenAI(base_url=f"{url}/v1/", api_key="x", max_retries=0)
    answer = client.chat.completions.create(model=model, messages=MESSAGES)
    assert (answer.choices[0].message.content, answer.usage.completion_tokens > 0) == (REPLY, True)
    chunks = list(client.chat.completions.create(model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}))
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == REPLY
    if model == "without-done":
        return  # A response without its last event is not whole.
    with client.responses.stream(model=model, input="What is a spillway?") as stream:
        stream.until_done()
        final = stream.get_final_response()
    assert (final.output_text, final.usage.output_tokens > 0) == (REPLY, True)


@every_fault
@pytest.mark.parametrize("kind", ["openai", "azure", "azure-slash"])
def test_langchain(url, model, kind):
    if kind == "openai":
        chat = ChatOpenAI(base_url=f"{url}/v1", api_key="x", model=model, max_retries=0)
    else:
        endpoint = url if kind == "azure" else f"{url}/"
        chat = AzureChatOpenAI(azure_endpoint=endpoint, api_key="x", api_version="2024-10-21", azure_deployment=model, max_retries=0)
    answer = chat.invoke("What is a spillway?")
    assert (answer.content, answer.usage_metadata["output_tokens"] > 0) == (REPLY, True)
    chunks = list(chat.stream("What is a spillway?", stream_usage=True))
    assert "".join(chunk.content for chunk in chunks) == REPLY
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) == answer.usage_metadata["output_tokens"]


class Spillway(BaseModel):
    """What is known of a spillway."""

    height: int


def test_langchain_tools_and_objects(url):
    for chat in [
        ChatOpenAI(base_url=f"{url}/v1", api_key="x", model="tools", max_retries=0),
        AzureChatOpenAI(azure_endpoint=url, api_key="x", api_version="2024-10-21", azure_deployment="tools", max_retries=0),
    ]:
        answer = chat.bind_tools([Spillway]).invoke("How high is it?")
        assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("Spillway", {"height": 7})]
        assert answer.usage_metadata["total_tokens"] == 16
        streamed = None
        for chunk in chat.bind_tools([Spillway]).stream("How high is it?"):
            streamed = chunk if streamed is None else streamed + chunk
        assert [(call["name"], call["args"]) for call in streamed.tool_calls] == [("Spillway", {"height": 7})]
        assert chat.with_structured_output(Spillway, method="json_schema").invoke("How high is it?") == Spillway(height=7)


@every_fault
def test_litellm(url, model):
    common = {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": "x", "messages": MESSAGES, "num_retries": 0}
    answer = litellm.completion(**common)
    assert (answer.choices[0].message.content, answer.usage.completion_tokens > 0) == (REPLY, True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(**common, stream=True)) == REPLY


def test_anthropics_client_reads_models_and_ids(url):
    client = anthropic.Anthropic(base_url=url, api_key="x", max_retries=0)
    models = list(client.models.list())
    assert models and all(model.type == "model" and model.display_name == model.id for model in models)
    with pytest.raises(anthropic.NotFoundError) as error:
        client.messages.create(model="unknown", max_tokens=5, messages=MESSAGES)
    assert error.value.request_id == error.value.response.headers["x-request-id"]


@every_fault
def test_anthropic(url, model):
    client = anthropic.Anthropic(base_url=url, api_key="x", max_retries=0)
    answer = client.messages.create(model=model, max_tokens=100, messages=MESSAGES)
    assert (answer.content[0].text, answer.usage.output_tokens > 0) == (REPLY, True)
    with client.messages.stream(model=model, max_tokens=100, messages=MESSAGES) as stream:
        assert "".join(stream.text_stream) == REPLY
        assert stream.get_final_message().usage.output_tokens == answer.usage.output_tokens


# A response without its last event is not whole.
every_fault_of_responses = pytest.mark.parametrize("model", [*FAULTS, "malformed"])


@every_fault_of_responses
def test_responses_over_a_socket(url, model):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
    with client.responses.connect() as connection:
        previous = None
        for question in ["What is a spillway?", "Why?"]:
            connection.response.create(model=model, store=False, input=question, previous_response_id=previous)
            text = ""
            for event in connection:
                assert event.type != "error", event
                if event.type == "response.output_text.delta":
                    text += event.delta
                if event.type == "response.completed":
                    break
            assert (text, event.response.usage.output_tokens > 0) == (REPLY, True)
            previous = event.response.id


@every_fault_of_responses
@pytest.mark.parametrize(("kind", "plain"), [(OpenAIResponsesModel, 1), (OpenAIResponsesWSModel, 2)], ids=["http", "socket"])
def test_agents(url, model, kind, plain):
    config = RunConfig(tracing_disabled=True)

    async def run():
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
        agent = Agent(name="a", model=kind(model=model, openai_client=client), model_settings=ModelSettings(store=False))
        answers = [(await Runner.run(agent, "What is a spillway?", run_config=config)).final_output for _ in range(plain)]
        streamed = Runner.run_streamed(agent, "What is a spillway?", run_config=config)
        async for _ in streamed.stream_events():
            pass
        return [*answers, streamed.final_output]

    assert asyncio.run(run()) == [REPLY] * (plain + 1)
