"""Ordinary long texts to learn from, which nobody wrote with a detector in mind: prompts, documentation and source.

They come from packages with open licences (requirements.txt): the prompts of people's evaluations (evals, MIT; half
of them, the other half is for the test), documentation of evaluations, many of them about attacks (inspect_evals,
MIT), source of scikit-learn and SciPy (BSD-3).
"""

import hashlib
import importlib.metadata
import json
import pathlib
import random
import re

ATTACKS = re.compile(r"inject|jailbreak|ignore (all |any |the |your )?(previous|prior|above)|DAN mode|do anything now", re.I)


def files(package, pattern):
    """Files of an installed package."""
    found = [f for f in importlib.metadata.files(package) if re.search(pattern, str(f))]
    return sorted(pathlib.Path(f.locate()) for f in found)


def learned(name):
    """Whether texts of a collection are learned from; the others test."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 0


def prompts(learn, each=2):
    """What people ask models in their evaluations, and how they set them up: (text, name of the collection)."""
    found = {}
    for path in files("evals", r"registry/data/.*\.jsonl$"):
        name = path.parts[path.parts.index("data", path.parts.index("registry")) + 1]
        if name in found or learned(name) != learn or ATTACKS.search(name):
            continue
        with path.open() as lines:
            first = [line for line, _ in zip(lines, range(40))]
        texts = found.setdefault(name, [])
        for line in random.Random(name).sample(first, min(each, len(first))):
            said = json.loads(line).get("input")
            for turn in said[-2:] if isinstance(said, list) else []:
                text = turn.get("content") if isinstance(turn, dict) else None
                if isinstance(text, str) and len(text) > 30 and not ATTACKS.search(text) and text not in texts:
                    texts.append(text[:6000])
    return [(text, name) for name, texts in sorted(found.items()) for text in texts]


def pieces(text, most):
    """A text cut at empty lines into pieces of at most so many characters."""
    found, now = [], ""
    for part in text.split("\n\n"):
        if len(now) + len(part) > most and now:
            found.append(now)
            now = ""
        now += part[:most] + "\n\n"
    return found + [now]


def some(paths, many, rng):
    """One piece of each of so many files, of lengths in which people paste them."""
    paths = list(paths)
    rng.shuffle(paths)
    for path in paths[:many]:
        cut = [p for p in pieces(path.read_text(errors="replace"), rng.choice([400, 900, 1800, 3000])) if len(p) > 150]
        if cut:
            yield rng.choice(cut).strip()


def texts():
    """Texts to learn from: (text, family, trust)."""
    rng = random.Random(13)
    rows = [(text, f"ord_prompts_{name}") for text, name in prompts(True)]
    readmes = files("inspect_evals", r"inspect_evals/[^/]+/README\.md$")
    rows += [(text, f"ord_readmes_{n % 20}") for n, text in enumerate(some(readmes * 3, 360, rng))]
    for package in ("scikit-learn", "scipy"):
        source = [f for f in files(package, r"\.py$") if f.stat().st_size > 600]
        rows += [(text, f"ord_source_{package}_{n % 10}") for n, text in enumerate(some(source, 350, rng))]
    return [(text, family, "document" if n % 2 else "user") for n, (text, family) in enumerate(rows) if len(text) > 30]
