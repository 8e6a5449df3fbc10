"""Other clients through the gateway, each against pools whose first member throttles, fails, breaks, stalls or is odd.

No client may see an exception where an answer was to be had, and each must read the right text and the right usage.
"""

import asyncio
import contextlib
import http.server
import json
import pathlib
import tempfile
import threading

import anthropic
import litellm
import openai
import pytest
from agents import Agent, ModelSettings, OpenAIResponsesModel, RunConfig, Runner, set_tracing_disabled
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import BaseModel

from harness import REPLY, starter
from ports import free_port, wait_for

# The pool's model, and what its first member does to every request.
FAULTS = {
    "throttled": "throttle=1",
    "failing": "status=500",
    "gone": "status=503",
    "cut": "cut=0",
    "stalled": "stall=0",
    "error-event": "error-event",
}
# Faults of an answer that is there all the same.
ODD = {"malformed": "malformed", "without-done": "no-done"}

set_tracing_disabled(True)
# litellm's own types make pydantic warn.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Tools(http.server.BaseHTTPRequestHandler):
    """Calls the first tool that it is offered, or answers with an object."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        message = {"role": "assistant", "content": '{"height": 7}'}
        if asked.get("tools"):
            function = asked["tools"][0]["function"]
            call = {"id": "call_1", "type": "function", "function": {"name": function["name"], "arguments": '{"height": 7}'}}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        reason = "tool_calls" if message.get("tool_calls") else "stop"
        usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
        about = {"id": "chatcmpl-1", "created": 1, "model": asked["model"]}
        if not asked.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": reason}
            return self.send("application/json", json.dumps(about | {"object": "chat.completion", "choices": [choice], "usage": usage}))
        if message.get("tool_calls"):
            message["tool_calls"][0]["index"] = 0
        chunks = [
            {"choices": [{"index": 0, "delta": message, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
            {"choices": [], "usage": usage},
        ]
        events = [json.dumps(about | {"object": "chat.completion.chunk"} | chunk) for chunk in chunks] + ["[DONE]"]
        self.send("text/event-stream", "".join(f"data: {event}\n\n" for event in events))

    def send(self, kind, text):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def backend(name, port):
    return f'[[backends]]\nname = "{name}"\nkind = "azure-openai"\nurl = "http://127.0.0.1:{port}"\n\n'


def pool(model, first, second):
    members = f'[{{ backend = "{first}", priority = 1 }}, {{ backend = "{second}", priority = 2 }}]'
    timers = '[pools.timeouts]\nfirst_token = "1s"\nanswer = "1s"\n[pools.circuit]\nfailures = 10000\ndefault_retry_after = "1ms"\n'
    return f'[[pools]]\nname = "{model}"\nmodels = ["{model}"]\nmembers = {members}\n{timers}max_retry_after = "1ms"\n\n'


@pytest.fixture(scope="module")
def url():
    port, admin, good, tools = (free_port() for _ in range(4))
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        folder = pathlib.Path(directory)
        run = starter(stack)
        text = f'[server]\nlisten = ["127.0.0.1:{port}"]\nadmin = "127.0.0.1:{admin}"\n\n[log]\naccess = "off"\n\n'
        text += backend("good", good) + backend("tools", tools)
        for name, fault in (FAULTS | ODD).items():
            at = free_port()
            (folder / f"{name}.toml").write_text(
                f'name = "{name}"\nlisten = "127.0.0.1:{at}"\nreply = "{REPLY}"\n[default]\nfault_rate = 1.0\nfault = "{fault}"\n'
            )
            run("mock", "-c", str(folder / f"{name}.toml"))
            wait_for(at)
            text += backend(name, at) + pool(name, name, "good")
        text += pool("tools", "throttled", "tools")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", tools), Tools)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)
        run("mock", "--listen", f"127.0.0.1:{good}", "--name", "good", "--reply", REPLY)
        wait_for(good)
        (folder / "gateway.toml").write_text(text)
        run("run", "-c", str(folder / "gateway.toml"))
        wait_for(port)
        yield f"http://127.0.0.1:{port}"


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


@every_fault
def test_anthropic(url, model):
    client = anthropic.Anthropic(base_url=url, api_key="x", max_retries=0)
    answer = client.messages.create(model=model, max_tokens=100, messages=MESSAGES)
    assert (answer.content[0].text, answer.usage.output_tokens > 0) == (REPLY, True)
    with client.messages.stream(model=model, max_tokens=100, messages=MESSAGES) as stream:
        assert "".join(stream.text_stream) == REPLY
        assert stream.get_final_message().usage.output_tokens == answer.usage.output_tokens


@pytest.mark.parametrize("model", [*FAULTS, "malformed"])
def test_agents(url, model):
    config = RunConfig(tracing_disabled=True)

    async def run():
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
        agent = Agent(name="a", model=OpenAIResponsesModel(model=model, openai_client=client), model_settings=ModelSettings(store=False))
        plain = await Runner.run(agent, "What is a spillway?", run_config=config)
        streamed = Runner.run_streamed(agent, "What is a spillway?", run_config=config)
        async for _ in streamed.stream_events():
            pass
        return plain.final_output, streamed.final_output

    assert asyncio.run(run()) == (REPLY, REPLY)
