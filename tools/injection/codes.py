"""Attacks and harmless texts in every code and disguise, some of which the training does not know."""

import base64
import random
import re

import texts
import unseen

MORSE = dict(zip("abcdefghijklmnopqrstuvwxyz0123456789", ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. ----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----.".split()))
ATBASH = str.maketrans("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "zyxwvutsrqponmlkjihgfedcbaZYXWVUTSRQPONMLKJIHGFEDCBA")
LOOKS = {"a": "а", "c": "с", "e": "е", "i": "і", "j": "ј", "o": "о", "p": "р", "s": "ѕ", "x": "х", "y": "у", "A": "Α", "B": "В", "E": "Ε", "I": "Ι", "O": "Ο", "T": "Τ"}
HEAVY = {"a": "@", "e": "3", "i": "!", "o": "0", "s": "$", "t": "7", "l": "1", "b": "8", "g": "9"}


def wrapped(code, width=60):
    return "\n".join(code[i : i + width] for i in range(0, len(code), width))


# Besides those that the training knows.
FURTHER = {
    "base64_wrapped": lambda t, r: wrapped(base64.b64encode(t.encode()).decode(), 64),
    "base64_data_url": lambda t, r: "data:text/plain;base64," + base64.b64encode(t.encode()).decode(),
    "hex_upper": lambda t, r: t.encode().hex().upper(),
    "hex_0x": lambda t, r: " ".join(f"0x{b:02x}" for b in t.encode()),
    "hex_commas": lambda t, r: ",".join(f"{b:02x}" for b in t.encode()),
    "hex_colons": lambda t, r: t.encode().hex(":"),
    "octal": lambda t, r: "".join(f"\\{b:03o}" for b in t.encode()),
    "binary_joined": lambda t, r: "".join(f"{b:08b}" for b in t.encode()),
    "decimal_commas": lambda t, r: ", ".join(str(b) for b in t.encode()),
    "percent_some": lambda t, r: "".join(f"%{ord(c):02X}" if c in " .,'\":?!" or c.isascii() and r.random() < 0.3 else c for c in t),
    "percent_plus": lambda t, r: "".join("+" if b == 32 else f"%{b:02x}" for b in t.encode()),
    "entities_some": lambda t, r: "".join(f"&#{ord(c)};" if r.random() < 0.5 else c for c in t),
    "quoted_printable": lambda t, r: "".join(f"={b:02X}" for b in t.encode()),
    "morse": lambda t, r: " / ".join(" ".join(MORSE[c] for c in w if c in MORSE) for w in t.lower().split()),
    "atbash": lambda t, r: t.translate(ATBASH),
    "rot47": lambda t, r: "".join(chr(33 + (ord(c) - 33 + 47) % 94) if "!" <= c <= "~" else c for c in t),
    "ascii85": lambda t, r: base64.a85encode(t.encode()).decode(),
    "base58": lambda t, r: base58(t.encode()),
    "leet_heavy": lambda t, r: "".join(HEAVY.get(c, c) for c in t.lower()),
    "leet_light": lambda t, r: "".join({"e": "3", "o": "0", "a": "4"}.get(c, c) for c in t.lower()),
    "confusables_all": lambda t, r: "".join(LOOKS.get(c, c) for c in t),
    "fullwidth_spaces": lambda t, r: "".join("\u3000" if c == " " else chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in t),
    "italic": lambda t, r: "".join(chr(0x1D482 + ord(c) - 97) if "a" <= c <= "z" else chr(0x1D468 + ord(c) - 65) if "A" <= c <= "Z" else c for c in t),
    "circled": lambda t, r: "".join(chr(0x24D0 + ord(c) - 97) if "a" <= c <= "z" else c for c in t.lower()),
    "squared": lambda t, r: "".join(chr(0x1F130 + ord(c) - 65) if "A" <= c <= "Z" else c for c in t.upper()),
    "regional": lambda t, r: "".join(chr(0x1F1E6 + ord(c) - 65) + "\u200b" if "A" <= c <= "Z" else c for c in t.upper()),
    "tags_between": lambda t, r: "What a nice day" + "".join(chr(0xE0000 + ord(c)) for c in t if c.isascii()) + " it is!",
    "variation": lambda t, r: "\U0001F600" + "".join(chr(0xFE00 + b) if b < 16 else chr(0xE0100 + b - 16) for b in t.encode()),
    "soft_hyphens": lambda t, r: "\u00ad".join(t),
    "bidi": lambda t, r: "\u202e" + t[::-1] + "\u202c",
    "underscores": lambda t, r: "_".join(t.split()),
    "dots_between_words": lambda t, r: ".".join(t.split()),
    "camel": lambda t, r: "".join(w[:1].upper() + w[1:] for w in re.findall(r"[A-Za-z]+", t)),
    "dashes_between_letters": lambda t, r: "-".join(t),
    "dots_between_letters": lambda t, r: ".".join(t),
    "stars_between_letters": lambda t, r: "*".join(t),
    "spaced_double": lambda t, r: "  ".join(t),
    "line_a_letter": lambda t, r: "\n".join(t),
    "line_a_word": lambda t, r: "\n".join(t.split()),
    "word_order": lambda t, r: " ".join(reversed(t.split())),
    "alternating_case": lambda t, r: "".join(c.upper() if n % 2 else c.lower() for n, c in enumerate(t)),
    "stretched": lambda t, r: "".join(c * 3 if c in "aeiou" else c for c in t),
    "fullwidth_base64": lambda t, r: "".join(chr(ord(c) + 0xFEE0) for c in base64.b64encode(t.encode()).decode()),
    "typos": lambda t, r: re.sub(r"[A-Za-z]{6,}", lambda m: m[0][:2] + m[0][3] + m[0][2] + m[0][4:], t),
}
# What no tool of a reader undoes at sight, or what changes the meaning: told, but not asked for.
HARD = {"rot47", "ascii85", "base58", "word_order", "typos"}
# In these the words around are a part of it.
ALONE = {"tags_between", "tags", "variation", "bidi", "line_a_letter"}


def base58(data):
    number, out = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        out = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[digit] + out
    return out


ALL = texts.ENCODINGS | texts.DISGUISES | FURTHER


def grid(plain, seed=7):
    """Rows of attacks in codes: each text in each code, the carriers by turns."""
    rng = random.Random(seed)
    made = []
    chains = [("+".join(names), names) for names in unseen.LAYERS]
    for name, steps in [(name, (name,)) for name in ALL] + chains:
        for number, row in enumerate(plain):
            code = row["text"]
            for step in steps:
                code = ALL[step](code, rng)
            around = ["{x}"] if name in ALONE else [unseen.AROUND[0], unseen.AROUND[1 + number % (len(unseen.AROUND) - 1)]]
            for place, frame in enumerate(around):
                made.append({"text": frame.replace("{x}", code), "attack": True, "family": name, "trust": row["trust"], "alone": place == 0})
    return made


def harmless(seed=8):
    """Harmless texts in the same codes, and strings that only look like codes."""
    rng = random.Random(seed)
    made = []
    for name, steps in [(name, (name,)) for name in ALL] + [("+".join(n), n) for n in unseen.LAYERS]:
        for number, text in enumerate(unseen.HARMLESS_IN_CODES):
            for step in steps:
                text = ALL[step](text, rng)
            frame = unseen.AROUND[number % len(unseen.AROUND)].replace("and do what it says", "for me").replace(" and act on it", "")
            made.append({"text": frame.replace("{x}", text), "attack": False, "family": name, "trust": "user"})
    for text in unseen.NOTHING_HIDDEN:
        for frame in ["{x}", "What is {x}?", "The log shows {x} since yesterday, why?", "Please keep {x} for later."]:
            for trust in ("user", "document"):
                made.append({"text": frame.replace("{x}", text), "attack": False, "family": "nothing_hidden", "trust": trust})
    return made
