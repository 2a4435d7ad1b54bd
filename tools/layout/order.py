"""Writes `functions.ld`: which functions the linker puts side by side.

A request runs through some thousand functions that lie scattered over all of the
program. Side by side they take fewer pages, which is what the first token waits
for when nothing of it is in the processor's cache, and what idle memory is made of.

    cargo build --release --bin sluice
    python3 tools/layout/order.py target/release/sluice          writes functions.ld
    python3 tools/layout/order.py --check target/release/sluice  tells how much of it still fits

Needs valgrind and nm. What is listed and is not in the program any more has no effect.
"""
import collections, hashlib, http.client, http.server, json, os, re, socket, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "functions.ld")
KEY = "of-the-layout"
TIMES = 120
# Called more often than this while requests are answered: part of each of them.
OFTEN = TIMES // 4
# Functions that differ in their types alone have one name here. They are taken along where at least this share of
# their bytes is wanted,
SHARE = {"often": 0.25, "once": 0.5, "start": 0.5}
# or where they are small: what lies alone takes a window of 64 KiB that the kernel maps at once.
SMALL = 40_000
HEAD = """\
/* Made by tools/layout/order.py, which says why. Functions in the order in which they call each other: those of
 * every request, those of some, those of the start. */
"""


class Provider(http.server.BaseHTTPRequestHandler):
    """Says something, whole or streamed."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        usage = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
        told = {"id": "c1", "object": "chat.completion", "created": 1, "model": asked.get("model")}
        said = "A limit holds for a key, a user or an address."
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
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
        choices = [{"index": 0, "delta": {"content": word + " "}, "finish_reason": None} for word in said.split()]
        choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
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


def ask(port):
    """Asks in every way, again and again."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for turn in range(TIMES):
        chat = {"model": "m", "messages": [{"role": "user", "content": f"How do limits work, case {turn}?"}]}
        asked = [
            ("/v1/chat/completions", chat),
            ("/v1/chat/completions", chat | {"stream": True}),
            ("/v1/messages", chat | {"max_tokens": 99}),
            ("/v1/messages", chat | {"max_tokens": 99, "stream": True}),
            ("/query", {"question": f"How do I limit requests, case {turn}?", "user_id": "u1"}),
            ("/query", {"question": "How do I limit requests per user?", "user_id": "u1"}),
            ("/stream", {"question": f"What is a budget, case {turn}?", "user_id": "u1"}),
        ]
        for path, body in asked:
            text = json.dumps(body)
            # What is measured most is asked most.
            for _ in range(3 if "chat" in path else 1):
                head = {"content-type": "application/json", "authorization": "Bearer " + KEY}
                connection.request("POST", path, text, head)
                answer = connection.getresponse()
                said = answer.read()
                assert answer.status == 200, (path, answer.status, said)


def record(binary, folder):
    """Runs the program under callgrind: what the start takes, and what requests take."""
    provider = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    port = free_port()
    config = {
        "server": {"listen": f"127.0.0.1:{port}", "workers": 1},
        "auth": {"keys": [{"name": "layout", "hash": "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()}]},
        "limits": {"requests_per_minute": {"key": 10**8, "user": 10**8, "address": 10**8, "global": 10**8}},
        "providers": {"p": {"kind": "openai", "base_url": f"http://127.0.0.1:{provider.server_port}/v1"}},
        "models": {"m": {"targets": [{"provider": "p", "model": "m"}]}},
        "store": {"sqlite": os.path.join(folder, "data", "sluice.db")},
        "audit": {"folder": os.path.join(folder, "data", "audit")},
    }
    with open(os.path.join(folder, "sluice.yaml"), "w") as file:
        json.dump(config, file)
    out = os.path.join(folder, "calls")
    gateway = subprocess.Popen(
        ["valgrind", "--tool=callgrind", "--demangle=no", "--compress-strings=no", "--compress-pos=no",
         f"--callgrind-out-file={out}", binary, "--config", "sluice.yaml"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=open(os.path.join(folder, "said"), "w"))
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert gateway.poll() is None, open(os.path.join(folder, "said")).read()
            time.sleep(0.1)
    time.sleep(5)
    subprocess.run(["callgrind_control", "-d", "start", str(gateway.pid)], check=True, stdout=subprocess.DEVNULL)
    ask(port)
    gateway.terminate()
    gateway.wait()
    return out + ".1", out


def plain(name):
    """A mangled name without the hash, which another compiler makes otherwise."""
    return re.sub(r"17h[0-9a-f]{16}E$", "17h*", re.sub(r"\.llvm\.\d+$", "", name))


def symbols_of(binary):
    """How many bytes each function takes."""
    listed = subprocess.run(["nm", "-S", binary], capture_output=True, text=True, check=True).stdout
    parts = [line.split() for line in listed.splitlines()]
    return {name: int(size, 16) for _, size, kind, name in (p for p in parts if len(p) == 4) if kind in "tTwW"}


def read(path):
    """What ran and what it took, what it called how often, and how often it was called."""
    cost, calls, called = collections.Counter(), collections.defaultdict(collections.Counter), collections.Counter()
    name = callee = None
    of_callee = False
    for line in open(path):
        line = line.rstrip("\n")
        key, _, value = line.partition("=")
        if key == "fn":
            name = re.sub(r"'\d+$", "", value)
        elif key == "cfn":
            callee = re.sub(r"'\d+$", "", value)
        elif key == "calls":
            count = int(value.split()[0])
            calls[name][callee] += count
            called[callee] += count
            of_callee = True
        elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
            if not of_callee and len(line.split()) > 1:
                cost[name] += int(line.split()[1])
            of_callee = False
    return cost, calls, called


def ordered(started, asked, symbols):
    """The functions of every request as they call each other, those of some, and those of the start."""
    cost, calls, called = read(asked)
    often = {name for name in cost if name in symbols and called[name] >= OFTEN}
    order, seen = [], set()
    inner = {callee for name in often for callee in calls[name]}
    by_cost = sorted(often, key=lambda name: -cost[name])
    # Those that nobody calls often are where a request begins.
    waiting = [*reversed(by_cost), *(name for name in reversed(by_cost) if name not in inner)]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        order.append(name)
        waiting.extend(reversed([callee for callee, _ in calls[name].most_common() if callee in often - seen]))
    once = [name for name in cost if name in symbols and name not in often]
    start = [name for name in read(started)[0] if name in symbols and name not in cost]
    return {"often": order, "once": once, "start": start}


def script(groups, symbols):
    """The linker script."""
    total = collections.Counter()
    for name, size in symbols.items():
        total[plain(name)] += size
    every = [name for group in groups.values() for name in group]
    lines, had = [], set()
    for label, group in [*groups.items(), (None, every)]:
        wanted, count = collections.Counter(), collections.Counter()
        for name in group:
            wanted[plain(name)] += symbols[name]
            count[plain(name)] += 1
        for name in dict.fromkeys(map(plain, group)):
            small = total[name] < SMALL * count[name]
            if name not in had and (small if label is None else wanted[name] >= SHARE[label] * total[name]):
                had.add(name)
                lines.append(f"    *(.text.{name} .text.unlikely.{name})\n")
    return HEAD + "SECTIONS\n{\n  .text.requests :\n  {\n" + "".join(lines) + "  }\n}\nINSERT BEFORE .text;\n"


def check(binary):
    """How many of the listed functions a program has."""
    names = set(map(plain, symbols_of(binary)))
    listed = re.findall(r"\*\(\.text\.(\S+) ", open(OUT).read())
    there = sum(name in names for name in listed)
    print(f"{there} of {len(listed)} functions are in {binary}")
    return there >= 0.9 * len(listed)


def main():
    if sys.argv[1] == "--check":
        sys.exit(0 if check(sys.argv[2]) else "make it anew: see the top of this file")
    binary = os.path.abspath(sys.argv[1])
    symbols = symbols_of(binary)
    with tempfile.TemporaryDirectory() as folder:
        groups = ordered(*record(binary, folder), symbols)
    for label, names in groups.items():
        print(f"{label}: {len(names)} functions, {sum(symbols[name] for name in names) // 1024} KiB")
    with open(OUT, "w") as file:
        file.write(script(groups, symbols))


if __name__ == "__main__":
    main()
