#!/usr/bin/env python3
"""Checks what optout says of its history, with nothing of optout's and the standard library alone.

  check.py root EXPORT                          the number of events and the root of the tree, from
                                                `optout history --json --hashed --oldest-first`
  check.py checkpoint FILE KEY                  the number of events and the root that it signs
  check.py proof FILE KEY                       either kind of proof
  check.py receipt FILE KEY [ADDRESS]           a receipt, and whose it is (domain in ASCII)

KEY is the line that `optout audit key` prints. Exits 1 when something does not fit.
"""

import base64
import datetime
import hashlib
import json
import sys
import unicodedata

ACTIONS = ["opt_out", "opt_in", "pause", "preference", "feedback", "bounce", "complaint", "suppress",
           "release", "import", "forget", "restore", "describe"]
SOURCES = ["one_click", "page", "mailto", "api", "cli", "import"]
FACTS = ["action", "scope", "source", "recorded", "reason", "until", "value", "event", "recipient", "salt", "leaf"]
REASONS = ["complaint", "bounce", "manual", "unsubscribe", "pause"]


class Wrong(Exception):
    """What does not fit."""


def must(holds, what):
    if not holds:
        raise Wrong(what)


# Canonical bytes of an event.

def millis(text):
    time = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    since = time - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (since.days * 86400 + since.seconds) * 1000 + since.microseconds // 1000


def canonical(event):
    def part(tag, value):
        return b"" if value is None else bytes([tag, len(value)]) + value

    def text(name):
        return None if event[name] is None else event[name].encode()

    def octets(name):
        return None if event[name] is None else bytes.fromhex(event[name])

    def time(name):
        return None if event[name] is None else millis(event[name]).to_bytes(8, "big", signed=True)

    reason = event["reason"]
    repeats, undoes = event["repeats"], event["undoes"]
    return b"".join([
        b"\x01", event["event"].to_bytes(8, "big"), time("at"),
        bytes([ACTIONS.index(event["action"]) + 1, SOURCES.index(event["source"]) + 1, event["changed"]]),
        part(1, octets("recipient_id")),
        part(2, text("scope")),
        part(3, None if reason is None else bytes([REASONS.index(reason) + 1])),
        part(4, time("occurred")),
        part(5, time("until")),
        part(6, text("value")),
        part(7, text("actor")),
        part(8, octets("key")),
        part(9, text("campaign")),
        part(10, octets("note_hash")),
        part(11, repeats.to_bytes(4, "big") if repeats else None),
        part(12, octets("link_hash")),
        part(13, None if undoes is None else undoes.to_bytes(8, "big")),
    ])


# The tree of RFC 6962.

def leaf_hash(body):
    return hashlib.sha256(b"\x00" + body).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(leaves):
    """Complete subtrees are joined as soon as there are two of a size."""
    peaks, size = [], 0
    for leaf in leaves:
        level, node = 0, leaf
        while peaks and peaks[-1][0] == level:
            node = node_hash(peaks.pop()[1], node)
            level += 1
        peaks.append((level, node))
        size += 1
    if not peaks:
        return 0, hashlib.sha256(b"").digest()
    root = peaks.pop()[1]
    while peaks:
        root = node_hash(peaks.pop()[1], root)
    return size, root


def split(size):
    return 1 << (size - 1).bit_length() - 1


def root_by_inclusion(leaf, index, size, proof):
    """RFC 6962 section 2.1.1, from the top down: the last hash is the sibling below the root."""
    must(0 <= index < size, "the index is not in the tree")
    if size == 1:
        must(not proof, "the proof is too long")
        return leaf
    must(proof, "the proof is too short")
    left = split(size)
    if index < left:
        return node_hash(root_by_inclusion(leaf, index, left, proof[:-1]), proof[-1])
    return node_hash(proof[-1], root_by_inclusion(leaf, index - left, size - left, proof[:-1]))


def roots_by_consistency(old, size, proof, is_whole, old_root):
    """RFC 6962 section 2.1.2, from the top down: the roots of both trees."""
    if old == size:
        if is_whole:
            must(not proof, "the proof is too long")
            return old_root, old_root
        must(len(proof) == 1, "the proof has another length")
        return proof[0], proof[0]
    must(proof, "the proof is too short")
    left = split(size)
    if old <= left:
        one, two = roots_by_consistency(old, left, proof[:-1], is_whole, old_root)
        return one, node_hash(two, proof[-1])
    one, two = roots_by_consistency(old - left, size - left, proof[:-1], False, old_root)
    return node_hash(proof[-1], one), node_hash(proof[-1], two)


# Ed25519 (RFC 8032 section 5.1), slowly.

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def recover(octets):
    y = int.from_bytes(octets, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    must(y < P, "a point is not reduced")
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    must((x * x - square) % P == 0, "there is no such point")
    must(x or not sign, "there is no such point")
    return (P - x if x & 1 != sign else x), y


def add(one, two):
    (x1, y1, z1, t1), (x2, y2, z2, t2) = one, two
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number, point):
    total = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = add(total, point)
        point, number = add(point, point), number >> 1
    return total


def wide(point):
    x, y = point
    return x, y, 1, x * y % P


def is_signed(key, text, signature):
    if len(signature) != 64:
        return False
    scalar = int.from_bytes(signature[32:], "little")
    if scalar >= ORDER:
        return False
    base = recover((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    try:
        point, own = recover(signature[:32]), recover(key)
    except Wrong:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + key + text).digest(), "little") % ORDER
    one = times(scalar, wide(base))
    two = add(wide(point), times(challenge, wide(own)))
    return (one[0] * two[2] - two[0] * one[2]) % P == 0 and (one[1] * two[2] - two[1] * one[2]) % P == 0


# Signed notes and checkpoints (C2SP).

def strictly(text):
    octets = base64.b64decode(text, validate=True)
    must(base64.b64encode(octets).decode() == text, "this is not canonical base64: " + text)
    return octets


def is_name(text):
    return text != "" and "+" not in text and not any(letter.isspace() for letter in text)


def number(text):
    must(text.isascii() and text.isdigit() and text == str(int(text)) and int(text) < 1 << 64, "this is no number")
    return int(text)


def opened(note, key):
    must(all(letter == "\n" or unicodedata.category(letter) != "Cc" for letter in note), "it holds control characters")
    name, own_id, encoded = key.strip().split("+", 2)
    octets = strictly(encoded)
    own = hashlib.sha256(name.encode() + b"\n" + octets).digest()[:4]
    must(own.hex() == own_id and octets[0] == 1 and len(octets) == 33, "this is no public key")
    text, found, signatures = note.rpartition("\n\n")
    must(found and signatures.endswith("\n"), "this is no signed note")
    signed = False
    for line in signatures[:-1].split("\n"):
        dash, signer, signature = line.split(" ")
        must(dash == "\u2014" and is_name(signer), "this is no signature: " + line)
        signature = strictly(signature)
        must(len(signature) >= 4, "a signature is too short")
        if signer == name and signature[:4] == own:
            must(is_signed(octets[1:], (text + "\n").encode(), signature[4:]), "the signature does not fit")
            signed = True
    must(signed, "it is not signed with this key")
    return text + "\n", name


def checkpoint(note, key):
    text, name = opened(note, key)
    origin, size, root = text[:-1].split("\n")[:3]
    must(origin == name, "the checkpoint is of another history")
    root = strictly(root)
    must(len(root) == 32, "the root is no hash")
    return number(size), root


INCLUSION, CONSISTENCY = "c2sp.org/tlog-proof@v1", "optout/consistency-proof@v1"


def inclusion(text, key):
    """The event's canonical bytes."""
    head, _, note = text.partition("\n\n")
    lines = head.split("\n")
    must(lines[0] == INCLUSION and lines[1].startswith("extra ") and lines[2].startswith("index "),
         "this is no proof")
    body, index = strictly(lines[1][6:]), number(lines[2][6:])
    parts(body)
    size, root = checkpoint(note, key)
    got = root_by_inclusion(leaf_hash(body), index, size, [strictly(line) for line in lines[3:]])
    must(got == root, "the hashes do not lead to the root")
    must(int.from_bytes(body[1:9], "big") == index + 1, "the event has another number")
    return body


def consistency(text, key):
    head, one, one_signed, two, two_signed = text.split("\n\n")
    lines = head.split("\n")
    must(lines[0] == CONSISTENCY, "this is no proof")
    old, old_root = checkpoint(f"{one}\n\n{one_signed}\n", key)
    size, root = checkpoint(f"{two}\n\n{two_signed}", key)
    proof = [strictly(line) for line in lines[1:]]
    if old == 0:
        must(not proof and old_root == hashlib.sha256(b"").digest(), "an empty history needs no proof")
        return old, size
    must(old <= size, "the later history is shorter")
    must(roots_by_consistency(old, size, proof, True, old_root) == (old_root, root),
         "the hashes do not lead to both roots")
    return old, size


LENGTHS = {1: 16, 3: 1, 4: 8, 5: 8, 8: 4, 10: 32, 11: 4, 12: 8, 13: 8}
LAST_TIME = 253402207200000


def parts(body):
    """The tagged parts of canonical bytes, which have to be such."""
    def time(octets):
        must(int.from_bytes(octets, "big") <= LAST_TIME, "a time is out of range")

    must(len(body) >= 20 and body[0] == 1, "the event is of another version")
    must(1 <= body[17] <= len(ACTIONS) and 1 <= body[18] <= len(SOURCES) and body[19] <= 1, "the event says nothing")
    time(body[9:17])
    found, at, last = {}, 20, 0
    while at < len(body):
        tag, length = body[at:at + 2]
        value = body[at + 2:at + 2 + length]
        must(last < tag <= 13 and len(value) == length, "the parts of the event are not in order")
        must(length == LENGTHS.get(tag, length), "a part of the event has another length")
        if tag in (4, 5):
            time(value)
        if tag in (2, 6, 7, 9):
            value.decode()
        must(tag != 3 or 1 <= value[0] <= len(REASONS), "there is no such reason")
        must(tag != 11 or any(value), "no repeats are left out")
        found[tag], last, at = value, tag, at + 2 + length
    return found


def words_of(body, salt):
    """What a receipt says of its event, line by line."""
    def instant(octets):
        since = datetime.timedelta(milliseconds=int.from_bytes(octets, "big", signed=True))
        time = datetime.datetime(1970, 1, 1) + since
        return time.isoformat(timespec="milliseconds") + "Z"

    own = parts(body)
    number, at = int.from_bytes(body[1:9], "big"), instant(body[9:17])
    action, scope = ACTIONS[body[17] - 1], own[2].decode()
    what = "You took back what you had asked about mail of" if 13 in own else {
        "opt_out": "You asked for no more mail of",
        "pause": "You asked for a pause from mail of",
        "opt_in": "You asked for mail again of",
        "preference": "You chose how often you want mail of",
    }.get(action, "This was recorded about mail of")
    facts = [("action", action), ("scope", scope), ("source", SOURCES[body[18] - 1]), ("recorded", at)]
    facts += [("reason", REASONS[own[3][0] - 1])] if 3 in own else []
    facts += [("until", instant(own[5]))] if 5 in own else []
    facts += [("value", own[6].decode())] if 6 in own else []
    facts += [("event", str(number)), ("recipient", own[1].hex()), ("salt", salt),
              ("leaf", base64.b64encode(leaf_hash(body)).decode())]
    lists = "all lists" if scope == "*" else scope
    return [f"{what} {lists}.", *(f"{name:<11}{value}" for name, value in facts)]


def receipt(text, key, address):
    words, _ = opened(text, key)
    body = inclusion(words[words.index("\n" + INCLUSION + "\n") + 1:], key)
    salt = [line[11:] for line in words.split("\n") if line.startswith("salt       ")]
    must(len(salt) == 1 and body[20:22] == b"\x01\x10", "it is about nobody")
    lines = words.split("\n")
    said = [lines[2], *(line for line in lines if len(line) > 11 and line[:11].rstrip() in FACTS and line[10] == " ")]
    must(said == words_of(body, salt[0]), "its words are not what its event says")
    if address is not None:
        local, at, domain = address.strip(" \t\r\n").rpartition("@")
        local, domain = (local, domain) if at else (domain, "")
        local = unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).lower())
        plain = f"{local}{at}{domain.lower().rstrip('.')}".encode()
        identifier = hashlib.sha256(strictly(salt[0]) + plain).digest()[:16]
        must(identifier == body[22:38], "it is somebody else's")
    return body


def leaves(path):
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            event = json.loads(line)
            must(event["event"] == number, f"event {number} is missing")
            leaf = leaf_hash(canonical(event))
            must(leaf.hex() == event["leaf"], f"event {number} has another leaf hash")
            yield leaf


def main(what, path, key=None, address=None):
    if what == "root":
        size, root = root_of(leaves(path))
        return f"{size} {base64.b64encode(root).decode()}"
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    if what == "checkpoint":
        size, root = checkpoint(text, key)
        return f"{size} {base64.b64encode(root).decode()}"
    if what == "proof" and text.startswith(CONSISTENCY):
        old, size = consistency(text, key)
        return f"{old} in {size}"
    if what == "proof":
        return inclusion(text, key).hex()
    must(what == "receipt", "see the top of this file")
    return receipt(text, key, address).hex()


if __name__ == "__main__":
    try:
        print(main(*sys.argv[1:]))
    except (Wrong, ValueError, KeyError, IndexError, UnicodeError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
