#!/usr/bin/env python3
"""Where the expected values of the hashing tests come from: a second implementation, in another language.

Writes python_floats.txt and python_recipe_texts.json beside itself, and prints the digests that stand as literals in
the tests of fingerprint.rs, derive.rs, key.rs, record.rs, http/stored.rs and consumer/note.rs. Run it again and nothing may change.
"""
import hashlib
import hmac
import json
import random
import struct
import zlib
from pathlib import Path

HERE = Path(__file__).parent


# The layouts: a version byte, then parts of tag, length and bytes. A length is one byte, or from 255 on that and eight (big endian).


def digested(*parts):
    lengths = [bytes([len(part)] if len(part) < 255 else [255, *len(part).to_bytes(8, "big")]) for _, part in parts]
    return b"\x01" + b"".join(bytes([tag]) + length + part for (tag, part), length in zip(parts, lengths))


def digest(*parts):
    return hashlib.sha256(digested(*parts)).hexdigest()


def stored_key(*parts, pepper=None):
    return digest(*parts) if pepper is None else hmac.new(pepper, digested(*parts), "sha256").hexdigest()


def canonical(value):
    """The canonical form, for values whose numbers are whole: json.dumps has it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def target(method=b"POST", path=b"/payments", query=b"", content_type=b"application/json"):
    return [(1, method), (2, path), (3, query), (4, content_type)]


BODY = b'{ "amount": 1999, "currency": "usd", "note": null }'
JSON = canonical(json.loads(BODY))

FINGERPRINTS = {
    "bytes": digest(*target(), (5, BODY)),
    "bytes, query": digest(*target(query=b"a=1&b=2"), (5, BODY)),
    "bytes, nothing": digest(*target(method=b"DELETE", path=b"/", content_type=b""), (5, b"")),
    "json": digest(*target(), (6, JSON)),
    "fields": digest(
        *target()[:2], (7, b"/amount"), (8, b"1999"), (7, b"/note"), (8, b"null"), (7, b"/source"), (7, b""), (8, JSON)
    ),
    "function": digest(*target()[:2], (11, b"\x07" * 32)),
    "off, endpoint": digest(),
    "off, scope": digest(*target()[:2]),
    "of_bytes": digest((9, b"\x00\xffinput")),
    "of_bytes, 254": digest((9, b"a" * 254)),
    "of_bytes, 255": digest((9, b"a" * 255)),
    "of_json": digest((10, JSON)),
}

DERIVED = [
    ("order-123", "charge", '{"amount":1999,"installment":3}'),
    ("order-123", "charge", "null"),
    ("order-123", "charge", "{}"),
    ("42", "refund", "[1,2.5,-1e-7,1e+21]"),
    ("commande-é", "créer", '{"":"\\u0001\\t\\"","é":"日本😀/"}'),
    ("", "", '""'),
]


def derived(entity, action, params):
    """Every length in eight bytes: other languages compute it too."""
    text = b"\x01"
    for tag, part in enumerate([entity.encode(), action.encode(), params.encode()], 1):
        text += bytes([tag]) + len(part).to_bytes(8, "big") + part
    return hashlib.sha256(text).hexdigest()


# What stores see: keys, and answers in their envelope.


def storage_key(scope, principal, key, endpoint=None, pepper=None):
    parts = [(1, scope), (2, "") if principal is None else (3, principal), (4, key)]
    if endpoint:
        parts += zip((5, 6), endpoint)
    return stored_key(*[(tag, part.encode()) for tag, part in parts], pepper=pepper)


def event_key(scope, *parts, pepper=None):
    return stored_key((1, scope.encode()), *parts, pepper=pepper)


def note(*parts):
    """Why an event is parked: parts of tag, length in eight bytes (big endian) and bytes."""
    return answer(3, b"".join(bytes([tag]) + len(part).to_bytes(8, "big") + part for tag, part in parts))


def answer(kind, content):
    """A format byte, a kind byte, CRC-32 over both and the content in four bytes, the content."""
    head = bytes([1, kind])
    return (head + zlib.crc32(head + content).to_bytes(4, "big") + content).hex()


def response(status, headers, body, trailers=()):
    def lines(lines):
        text = len(lines).to_bytes(4, "big")
        for name, value, *sensitive in lines:
            length = len(value) | (1 << 31 if sensitive else 0)
            text += len(name).to_bytes(2, "big") + name + length.to_bytes(4, "big") + value
        return text

    return status.to_bytes(2, "big") + lines(headers) + len(body).to_bytes(8, "big") + body + lines(trailers)


POST = ("POST", "/payments")
HEADERS = [
    (b"location", b"/payments/1"),
    (b"link", b"</a>; rel=next"),
    (b"link", b"</b>; rel=last"),
    (b"x-name", b"caf\xe9"),
]

STORED = {
    "shared": storage_key("payments", None, "k-1", POST),
    "principal": storage_key("payments", "acct_1", "k-1", POST),
    "empty principal": storage_key("payments", "", "k-1", POST),
    "scope wide": storage_key("payments", "acct_1", "k-1"),
    "not ascii": storage_key("a.b_c-9", "commerçant", "clé-日本", ("PATCH", "/caf%C3%A9")),
    "empty": storage_key("s", None, ""),
    "pepper": storage_key("payments", "acct_1", "k-1", POST, pepper=b"pepper"),
    "long pepper": storage_key("payments", "acct_1", "k-1", POST, pepper=bytes(range(200))),
    "sealed fingerprint": stored_key((11, bytes(range(32))), pepper=b"pepper"),
    "empty response": answer(1, b""),
    "empty value": answer(2, b""),
    "value": answer(2, b'{"id":1}'),
    "response": answer(1, response(201, HEADERS, b'{"id":1}\0\xff')),
    "response with trailers": answer(1, response(204, [], b"", [(b"x-checksum", b"0")])),
    "response with a sensitive header": answer(1, response(200, [(b"x-token", b"s", True), (b"x-name", b"n")], b"")),
}

PAYLOAD = hashlib.sha256(b"payload").digest()

EVENTS = {
    "id": event_key("ship", (7, b"evt_1")),
    "id, not ascii": event_key("a.b_c-9", (7, "é:日本".encode())),
    "id, pepper": event_key("ship", (7, b"evt_1"), pepper=b"pepper"),
    "reused": event_key("ship", (7, b"evt_1"), (8, PAYLOAD)),
    "anonymous": event_key("ship", (8, PAYLOAD)),
    "undecodable": event_key("ship", (9, PAYLOAD)),
    "undecodable, id": event_key("ship", (7, b"evt_1"), (9, PAYLOAD)),
    "redriven": event_key("ship", (10, bytes(range(32)))),
    "payload, json": digest((10, JSON)),
    "payload, fields": digest((7, b"/amount"), (8, b"1999"), (7, b"/source")),
    "payload, off": digest(),
    "note": note(
        (1, b"ship"), (2, b"\x01"), (3, (5).to_bytes(4, "big")), (4, b"evt_1"), (5, b"payload"), (6, "nö".encode()),
        (7, (24 * 60 * 60 * 1_000_000).to_bytes(8, "big")),
    ),
    "bare note": note((1, b"ship"), (2, b"\x02")),
    "redriven answer": answer(4, b""),
}


# The recipe in common use.


def recipe(entity, action, params=None):
    text = f"{entity}:{action}"
    if params:
        text += ":" + json.dumps(params, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def floats(random):
    yield from [0.0, -0.0, 1.0, 5e-324, 2.2250738585072014e-308, 2.225073858507201e-308, 1.7976931348623157e308]
    yield from [0.1, 0.3, 1 / 3, 2 / 3, 1e22, 1e23, 9007199254740992.0, 9007199254740994.0, 123456789012345680.0]
    for exponent in range(-30, 31):
        for digits in ("1", "9.5", "1.2345678"):
            yield float(f"{digits}e{exponent}")
    for exponent in range(-1074, 1024, 11):
        yield 2.0**exponent
    while True:
        yield struct.unpack("<d", random.randbytes(8))[0]
        yield random.uniform(-1e6, 1e6)
        yield round(random.uniform(0, 1e5), 2)
        yield random.random() * 10.0 ** random.randint(-20, 25)
        # Often halfway between the two nearest of the shortest texts.
        yield random.randint(2**44, 2**53) / random.choice([2, 4, 8, 16, 32, 64])


def number_text(random):
    """A number as clients write them, not as Python would."""
    sign = random.choice(["", "", "-"])
    whole = random.choice(["0", str(random.randint(1, 9)), str(random.randint(1, 10 ** random.randint(1, 40)))])
    fraction = random.choice(["", "", ".0", "." + str(random.randint(0, 10 ** random.randint(1, 25)))])
    exponent = random.choice(["", "", "", "e5", "E-3", "e+17", "e00", f"e{random.randint(-330, 300)}"])
    return sign + whole + fraction + exponent


def string_text(random):
    pieces = ["a", "Z", " ", "é", "日", "😀", "\x7f", "\u2028", "/", "\\/", "\\\\", '\\"', "\\n", "\\r", "\\t", "\\b"]
    pieces += ["\\f", "\\u0000", "\\u001F", "\\u00e9", "\\uD83D\\uDE00", "\\uffff", "\ufb33", "~", ":"]
    return '"' + "".join(random.choice(pieces) for _ in range(random.randint(0, 6))) + '"'


def json_text(random, depth):
    space = lambda: random.choice(["", "", "", " ", "\n\t", "\r\n  "])
    kind = random.randint(0, 9)
    if depth == 0 and kind > 5:
        kind = 0
    if kind <= 2:
        return number_text(random)
    if kind <= 4:
        return string_text(random)
    if kind == 5:
        return random.choice(["true", "false", "null"])
    if kind <= 7:
        items = [space() + json_text(random, depth - 1) + space() for _ in range(random.randint(0, 4))]
        return "[" + ",".join(items) + "]"
    members, names = [], set()
    for _ in range(random.randint(0, 6)):
        name = string_text(random)
        if json.loads(name) not in names:
            names.add(json.loads(name))
            members.append(f"{space()}{name}{space()}:{space()}{json_text(random, depth - 1)}{space()}")
    return "{" + ",".join(members) + "}"


def texts(random):
    yield from ["null", "true", "false", "0", "-0", "0.0", "-0.0", "0e9", '""', "[]", "{}", " [ ] ", "[0]", '"0"', "1"]
    yield from ["18446744073709551616", "-9223372036854775809", "1" + "0" * 60, '{"n":' + "9" * 400 + "}"]
    yield from ["1e400", "-1e400", "1e-400", "[1e400]", "123456789012345678901234567890.0", "0.1e1", "100e-2", "1E400"]
    yield from ['{"b":1,"a":2,"B":3,"":4,"\\ufb33":5,"\\ud83d\\ude00":6,"\\u00e9":7}', "[" * 128 + "]" * 128]
    while True:
        yield json_text(random, 4)


def main():
    source = random.Random(20240229)
    kept = dict.fromkeys(repr(value) for value, _ in zip(floats(source), range(3000)))
    kept = [text for text in kept if text not in ("nan", "inf", "-inf")]
    (HERE / "python_floats.txt").write_text("\n".join(kept) + "\n")

    rows = []
    for number, text in zip(range(300), texts(source)):
        params = json.loads(text)
        row = {
            "entity": f"e{number}",
            "action": "act",
            "text": text,
            "printed": json.dumps(params, sort_keys=True),
            "key": recipe(f"e{number}", "act", params),
        }
        rows.append(json.dumps(row))
    (HERE / "python_recipe_texts.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")

    for name, value in FINGERPRINTS.items():
        print(f"{value}  {name}")
    for name, value in STORED.items():
        print(f"{value}  {name}")
    for name, value in EVENTS.items():
        print(f"{value}  {name}")
    for entity, action, params in DERIVED:
        print(f"{derived(entity, action, params)}  {entity} {action} {params}")


if __name__ == "__main__":
    main()
