"""What the weights that the program comes with do on texts that they never saw: the tables of docs/guards.md."""

import collections
import json
import math
import pathlib
import subprocess

import codes
import others
import texts
import unseen


def wilson(hits, of):
    """The 95 % interval of a share."""
    if of == 0:
        return (0.0, 1.0)
    z, p = 1.96, hits / of
    middle, half = p + z * z / (2 * of), z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return ((middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of))


def tell(name, hits, of):
    low, high = wilson(hits, of)
    print(f"| {name} | {of} | {hits / max(of, 1):.3f} | {low:.3f} to {high:.3f} |")


def judged(sluice, rows):
    lines = "".join(json.dumps({"text": r["text"], "trust": r["trust"]}) + "\n" for r in rows)
    done = subprocess.run(sluice, input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line)["score"] for line in done.stdout.splitlines()]


TABLE = "| 95 % interval |\n| --- | --- | --- | --- |"


def tables(sluice, public, show):
    plain(sluice, "Our own test families", texts.held_out(), show)
    plain(sluice, "Families of unseen.py", unseen.rows(), show)
    plain(sluice, "Nineteen languages", abroad(), show)
    plain(sluice, "Public collections", public + others.attacks(), show)
    plain(sluice, "Ordinary texts of others", others.ordinary(), show)
    plain(sluice, "Pasted documents", pasted(), show)
    for by in "abcdefghi":
        plain(sluice, f"Strangers, {by}", strangers(by), show)
    hidden(sluice, show)


def abroad():
    """Plain attacks and harmless texts in nineteen languages, written before the training's of tongues.py."""
    lines = (pathlib.Path(__file__).parent / "abroad.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def pasted():
    """Whole documents that somebody pastes to ask about them, by a stranger who was asked for the hardest: many quote attacks."""
    lines = (pathlib.Path(__file__).parent / "pasted.jsonl").read_text().splitlines()
    return [r | {"family": r["kind"]} for r in map(json.loads, lines)]


def strangers(by):
    """Texts of one who knew nothing of the detector but its purpose; nothing was learned from them."""
    lines = (pathlib.Path(__file__).parent / "strangers.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [r | {"family": r["kind"]} for r in rows if r["by"] == by]


def plain(sluice, title, rows, show):
    """Texts as they are, by family."""
    print(f"\n### {title}\n\n| texts | number | flagged {TABLE}")
    groups = collections.OrderedDict()
    for r, score in zip(rows, judged(sluice, rows)):
        whole = "all attacks" if r["attack"] else "all harmless"
        kind = r["family"].split("_")[0] if r["family"].startswith(("encoded_", "disguised_")) else r["family"]
        kind = kind if r["attack"] else kind + " (harmless)"
        for name in (whole, kind):
            groups.setdefault(name, []).append(score >= 0.5)
        if show and (score >= 0.5) != r["attack"]:
            print(f"   {score:.2f} {r['family']} ({r['trust']}): {r['text'][:300]!r}")
    for name in sorted(groups):
        tell(name, sum(groups[name]), len(groups[name]))


def hidden(sluice, show):
    """The same attacks in every code: of those that are found in plain words, and of all direct overrides."""
    known = ("u_override", "u_leak", "u_role", "u_suppress", "v_override", "v_other", "t_override", "t_role", "t_leak")
    rows = [r for r in unseen.rows() + texts.held_out() if r["family"] in known and r["text"].isascii() and len(r["text"]) < 240]
    found = [r for r, score in zip(rows, judged(sluice, rows)) if score >= 0.5]
    for title, plain in (
        ("Decoding: attacks that are found in plain words, in codes", found),
        ("Direct overrides in codes, whether found in plain words or not", [r for r in rows if "override" in r["family"]]),
    ):
        grid = codes.grid(plain)
        groups = collections.OrderedDict()
        for r, score in zip(grid, judged(sluice, grid)):
            place = "alone" if r["alone"] else "between harmless words"
            kind = "hard: " + r["family"] if r["family"] in codes.HARD else r["family"]
            whole = "all" if r["family"] not in codes.HARD else "all hard ones"
            for name in (kind, f"{whole}, {place}"):
                groups.setdefault(name, []).append(score >= 0.5)
            if show and score < 0.5:
                print(f"   {score:.2f} {kind}: {r['text'][:200]!r}")
        print(f"\n### {title}\n\n| code | number | flagged {TABLE}")
        for name, hits in groups.items():
            tell(name, sum(hits), len(hits))
    rows = codes.harmless()
    scores = judged(sluice, rows)
    wrong = sum(score >= 0.5 for score in scores)
    print(f"\n### Harmless texts in codes, and what only looks like one\n\n| texts | number | flagged {TABLE}")
    tell("all", wrong, len(rows))
    for r, score in zip(rows, scores):
        if show and score >= 0.5:
            print(f"   {score:.2f} {r['family']}: {r['text'][:200]!r}")
