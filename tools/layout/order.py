"""Writes `functions.ld`: which functions the linker puts side by side.

A request runs through some thousand functions that lie scattered over all of the
program. Side by side they take fewer pages, which is what the first token waits
for when nothing of it is in the processor's cache, and what idle memory is made of.

    cargo build --release --bin sluice
    python3 tools/layout/order.py target/release/sluice          writes functions.ld
    python3 tools/layout/order.py --check target/release/sluice  tells how much of it still fits

Needs valgrind and nm. What is listed and is not in the program any more has no effect.
"""
import bisect, collections, os, re, subprocess, sys, tempfile, time

from workload import CONFIG, FLOW, Gateway

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "functions.ld")
TIMES = 120
# Called more often than this while requests are answered: part of each of them.
OFTEN = TIMES // 4
# Functions that differ in their types alone have one name but for its hash. They are taken together where at least this
# share of their bytes is wanted, which holds for another compiler, too; else those that are wanted have their hash here.
SHARE = 0.7
# What newer processors run instead of what valgrind's does.
ALSO = ["9crc32fast", "4sha26sha256"]
HEAD = """\
/* Made by tools/layout/order.py, which says why. Functions in the order in which they call each other: those of
 * every request, those of the start and of the first requests, and those of some. */
"""


def record(binary, folder, config):
    """Runs the program under callgrind: what the start and the first requests take, and what requests take."""
    out = os.path.join(folder, "calls")
    gateway = Gateway(
        ["valgrind", "--tool=callgrind", "--demangle=no", "--dump-instr=yes", "--compress-strings=no", "--compress-pos=no",
         f"--callgrind-out-file={out}", binary], folder, config=config)
    # An idle program has this in memory.
    gateway.ask(1)
    time.sleep(5)
    subprocess.run(
        ["callgrind_control", "-d", "start", str(gateway.process.pid)], check=True, stdout=subprocess.DEVNULL)
    gateway.ask(TIMES)
    gateway.stop()
    return out + ".1", out


def plain(name):
    """A mangled name without the hash, which another compiler makes otherwise."""
    name, dot, part = re.sub(r"\.llvm\.\d+$", "", name).partition(".cold")
    return re.sub(r"17h[0-9a-f]{16}E(\.\d+)?$", "17h*", name) + dot + part


def sections(name):
    """What the linker is to look for: what the compiler was told of a function (watch.py) is part of its section's name."""
    if name.endswith(".cold"):
        return f".text.split.{name.removesuffix('.cold')}"
    return " ".join(f".text.{told}{name}" for told in ("", "hot.", "unlikely."))


class Symbols(dict):
    """How many bytes each function takes, and which of them holds an address."""

    def __init__(self, binary):
        listed = subprocess.run(["nm", "-S", binary], capture_output=True, text=True, check=True).stdout
        parts = sorted(
            (int(at, 16), int(size, 16), name)
            for at, size, kind, name in (p for p in map(str.split, listed.splitlines()) if len(p) == 4)
            if kind in "tTwW")
        super().__init__((name, size) for _, size, name in parts)
        self.parts = parts
        self.starts = [part[0] for part in parts]
        self.start = {name: at for at, _, name in parts}

    def at(self, address):
        found = bisect.bisect(self.starts, address) - 1
        if found >= 0 and address < sum(self.parts[found][:2]):
            return self.parts[found][2]
        return None


def read(path, symbols):
    """What ran and what it took, what it called how often, and how often it was called."""
    cost, calls, called = collections.Counter(), collections.defaultdict(collections.Counter), collections.Counter()
    ran, moved = collections.Counter(), collections.Counter()
    name = callee = None
    of_callee = False
    place = ""
    for line in open(path):
        line = line.rstrip("\n")
        key, _, value = line.partition("=")
        if key == "ob":
            place = value
        elif key == "fn":
            name = re.sub(r"'\d+$", "", value)
        elif key == "cfn":
            callee = re.sub(r"'\d+$", "", value)
        elif key == "calls":
            count, target = value.split()[:2]
            count = int(count)
            if callee in symbols.start:
                moved[int(target, 16) - symbols.start[callee]] += 1
            calls[name][callee] += count
            called[callee] += count
            of_callee = True
        elif line.startswith("0x"):
            if not of_callee and ".so" not in place:
                address, _, count = line.split()[:3]
                ran[place == "???", int(address, 16)] += int(count)
            of_callee = False
    # By its address, as what is hardly ever run of a function lies elsewhere, and callgrind knows no name for it. For a
    # section that it does not know, either, it tells the address in memory.
    bias = moved.most_common(1)[0][0]
    for (in_memory, address), count in ran.items():
        cost[symbols.at(address - bias if in_memory else address)] += count
    return cost, calls, called


def ordered(starts, asked, symbols):
    """The functions of every request as they call each other, those of the start, and those of some requests."""
    cost, calls, called = read(asked, symbols)
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
    ran = dict.fromkeys(name for started in starts for name in read(started, symbols)[0])
    start = [name for name in ran if name in symbols and name not in often]
    once = [name for name in cost if name in symbols and name not in often and name not in ran]
    return {"often": order, "start": start, "once": once}


def script(groups, symbols):
    """The linker script."""
    total = collections.Counter()
    for name, size in symbols.items():
        total[plain(name)] += size
    lines = {}
    for group in groups.values():
        wanted = collections.Counter()
        for name in group:
            wanted[plain(name)] += symbols[name]
        for name in group:
            all_of_them = wanted[plain(name)] >= SHARE * total[plain(name)]
            lines[f"    *({sections(plain(name) if all_of_them else name)})\n"] = None
    lines.update((f"    *(.text.*{name}*)\n", None) for name in ALSO)
    return HEAD + "SECTIONS\n{\n  .text.requests :\n  {\n" + "".join(lines) + "  }\n}\nINSERT BEFORE .text;\n"


def check(binary):
    """How many of the listed functions a program has."""
    names = {sections(name).split()[0] for full in Symbols(binary) for name in (full, plain(full))}
    listed = re.findall(r"\*\((\S+)", open(OUT).read())
    there = sum(re.sub(r"\)$", "", name) in names for name in listed)
    print(f"{there} of {len(listed)} functions are in {binary}")
    return there >= 0.9 * len(listed)


def main():
    if sys.argv[1] == "--check":
        sys.exit(0 if check(sys.argv[2]) else "make it anew: see the top of this file")
    binary = os.path.abspath(sys.argv[1])
    symbols = Symbols(binary)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        started, asked = record(binary, first, CONFIG)
        otherwise, _ = record(binary, second, FLOW)
        groups = ordered([started, otherwise], asked, symbols)
    for label, names in groups.items():
        print(f"{label}: {len(names)} functions, {sum(symbols[name] for name in names) // 1024} KiB")
    with open(OUT, "w") as file:
        file.write(script(groups, symbols))


if __name__ == "__main__":
    main()
