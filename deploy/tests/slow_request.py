"""A request whose body takes its time: python3 slow_request.py PORT

Prints `sent` when its first half is away, sends the rest after a line on standard input, then prints
the status of the answer.
"""

import json
import socket
import sys

BODY = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "Are you still there?"}]}).encode()
HALF = len(BODY) // 2
HEAD = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"

connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30)
connection.sendall(HEAD.encode() + BODY[:HALF])
print("sent", flush=True)
sys.stdin.readline()
try:
    connection.sendall(BODY[HALF:])
    print((connection.recv(65536).decode().split() + ["", "closed"])[1], flush=True)
except OSError as error:
    print(error, flush=True)
