"""What the program is watched at: a provider that says something, and clients that ask in every way."""
import concurrent.futures, hashlib, http.client, http.server, json, os, socket, subprocess, threading, time

KEY = "of-the-layout"
SYSTEM = "You are a careful assistant. Answer in two sentences, and say so when you do not know."
QUESTIONS = [
    "How do limits work, case {}?",
    "What is the capital of France, and what is it known for? Please name the river it lies on, too. ({})",
    "Schreib Anna Müller (anna.mueller{}@example.org, +49 30 901820) eine höfliche Absage.",
    "Summarise ticket {0}: the customer paid twice on 2024-03-01, from 192.0.2.17, and wants one of both back. " * 8,
    "```rust\nfn main() {{ println!(\"case {}\"); }}\n```\nWhy does this print nothing?",
]
SAID = "A limit holds for a key, a user or an address. Write to help@example.org, or look at https://example.org/limits."

CONFIG = """\
# As somebody would write it.
server:
  listen: 127.0.0.1:{port}
  workers: 1
  keep_alive: 15s
auth:
  query_key: false
  keys:
    - {{name: layout, hash: "sha256:{hash}", tenant: default}}
limits:
  requests_per_minute: {{key: 100000000, user: 100000000, address: 100000000, global: 100000000}}
providers:
  p:
    kind: openai
    base_url: http://127.0.0.1:{provider}/v1
models:
  m:
    targets: [{{provider: p, model: m, weight: 1}}]
pii:
  output: {{card: block}}
store: {{sqlite: {folder}/data/sluice.db}}
audit:
  folder: {folder}/data/audit
"""

FLOW = """\
server: {{listen: "127.0.0.1:{port}", workers: 1}}  # all in a row
auth: {{keys: [{{name: layout, hash: "sha256:{hash}"}}]}}
limits: {{requests_per_minute: {{key: 100000000, user: 100000000, address: 100000000, global: 100000000}}}}
providers: {{p: {{kind: openai, base_url: "http://127.0.0.1:{provider}/v1"}}}}
models: {{m: {{targets: [{{provider: p, model: m}}]}}}}
store: {{sqlite: "{folder}/data/sluice.db"}}
audit: {{folder: "{folder}/data/audit"}}
"""


class Provider(http.server.BaseHTTPRequestHandler):
    """Says something, whole or streamed."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        # With all that OpenAI says, too.
        usage = {
            "prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }
        told = {
            "id": "chatcmpl-c1", "object": "chat.completion", "created": 1700000000, "model": asked.get("model"),
            "service_tier": "default", "system_fingerprint": "fp_1",
        }
        if not asked.get("stream"):
            said = {"role": "assistant", "content": SAID, "refusal": None, "annotations": []}
            choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": "stop"}
            body = json.dumps(told | {"choices": [choice], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        told["object"] = "chat.completion.chunk"
        deltas = [{"role": "assistant", "content": "", "refusal": None}]
        deltas += [{"content": word + " "} for word in SAID.split()]
        choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas]
        choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"})
        events = [told | {"choices": [choice]} for choice in choices] + [told | {"choices": [], "usage": usage}]
        for text in [json.dumps(event) for event in events] + ["[DONE]"]:
            piece = f"data: {text}\n\n".encode()
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def client(port, turns):
    """Asks in every way, again and again."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    head = {"content-type": "application/json", "authorization": "Bearer " + KEY}
    for turn in turns:
        question = QUESTIONS[turn % len(QUESTIONS)].format(turn)
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        chat = {"model": "m", "messages": messages, "temperature": 0.2, "max_tokens": 99}
        turns_of = {"model": "m", "system": SYSTEM, "messages": messages[1:], "max_tokens": 99}
        asked = [
            ("/v1/chat/completions", chat),
            ("/v1/chat/completions", chat | {"stream": True, "stream_options": {"include_usage": True}}),
            ("/v1/messages", turns_of),
            ("/v1/messages", turns_of | {"stream": True}),
            ("/query", {"question": f"How do I limit requests, case {turn}?", "user_id": "u1"}),
            ("/query", {"question": "How do I limit requests per user?", "user_id": "u1"}),
            ("/stream", {"question": f"What is a budget, case {turn}?", "user_id": "u1"}),
        ]
        for path, body in asked:
            text = json.dumps(body)
            # What is measured most is asked most.
            for _ in range(3 if "chat" in path else 1):
                connection.request("POST", path, text, head)
                answer = connection.getresponse()
                said = answer.read()
                assert answer.status == 200, (path, answer.status, said)
        if turn % 8 == 0:
            connection.close()


class Gateway:
    """The program with a provider, in a folder of its own, started through other programs where wanted."""

    def __init__(self, command, folder, environment=(), config=CONFIG):
        provider = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        self.port = free_port()
        with open(os.path.join(folder, "sluice.yaml"), "w") as file:
            file.write(config.format(
                port=self.port, hash=hashlib.sha256(KEY.encode()).hexdigest(), provider=provider.server_port, folder=folder))
        said = os.path.join(folder, "said")
        self.process = subprocess.Popen(
            [*command, "--config", "sluice.yaml"], cwd=folder, env=os.environ | dict(environment),
            stdout=subprocess.DEVNULL, stderr=open(said, "w"))
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert self.process.poll() is None, open(said).read()
                time.sleep(0.1)
        raise AssertionError("it does not listen: " + open(said).read())

    def ask(self, times, clients=1):
        """Lets some clients ask at once, so many rounds in all."""
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            for done in [pool.submit(client, self.port, range(first, times, clients)) for first in range(clients)]:
                done.result()

    def stop(self):
        self.process.terminate()
        assert self.process.wait() == 0
