"""Starts a gateway with a pool for each fault, whose first member has it and whose second has none.

Used by the Python tests, and as a program by the Node tests: it prints the gateway's URL and runs until its standard
input closes.
"""

import contextlib
import http.server
import json
import pathlib
import sys
import tempfile
import threading

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


@contextlib.contextmanager
def gateway():
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


if __name__ == "__main__":
    with gateway() as address:
        print(address, flush=True)
        sys.stdin.read()
