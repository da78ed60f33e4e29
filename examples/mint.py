#!/usr/bin/env python3
"""Mints the signed unsubscribe fields of one message to one recipient (link token, version 1).

One file on the standard library alone: copy it beside your mailer.

    import mint

    fields = mint.headers(key, "https://leave.example.com", "news.example.com",
                          "alice@example.org", campaign="2026-01")
    message = EmailMessage(policy=SMTP.clone(max_line_length=998))   # neither folds nor encodes them
    for name, value in fields.items():
        message[name] = value

The key is what `optout key show ID` prints; keep it where you keep passwords. The recipient goes
into the link as you write it: the service compares, so do not fold or normalise addresses here.

    OPTOUT_KEY_FILE=key python3 mint.py --base-url https://leave.example.com \\
        --list news.example.com --recipient alice@example.org
"""

import argparse
import base64
import hashlib
import hmac
import ipaddress
import os
import re
import time

ONE_CLICK = "List-Unsubscribe=One-Click"
KEY_PREFIX = "optout_key_"

# Longest mail address in octets (RFC 5321 section 4.5.3.1.3, less the angle brackets).
MAX_ADDRESS = 254
# Longest List-Unsubscribe value in octets; Amazon SES takes no longer one.
MAX_VALUE = 870


def headers(key, base_url, list_id, recipient, campaign="", *, mailto_host=None,
            with_list_id=False, issued=None):
    """The fields of one message, by their names; the values go into it as they are.

    `issued` is in Unix seconds: give one time for a whole mailing, so that a message that is sent
    again has the same link. Without it, it is now. The mailto form, for mail clients that do not
    POST, is left out when its address would have more than 254 octets or the value more than 870.

    Raises ValueError, which says what is wrong and never repeats the key.
    """
    base_url, list_id = _base_url(base_url), _list_id(list_id)
    host = None if mailto_host is None else _mailto_host(mailto_host)
    token = _seal(_secret(key), _plaintext(issued, list_id, campaign, recipient))
    value = f"<{base_url}/u/{_base64url(token)}>"
    if len(value) > MAX_VALUE:
        raise ValueError(
            f"the link takes {len(value)} octets in List-Unsubscribe, which holds {MAX_VALUE}: "
            "shorten the base URL, the list identifier or the campaign")
    if host is not None:
        address = f"unsubscribe+{_base32(token)}@{host}"
        both = f"{value}, <mailto:{address}>"
        if len(address) <= MAX_ADDRESS and len(both) <= MAX_VALUE:
            value = both
    fields = {"List-Unsubscribe": value, "List-Unsubscribe-Post": ONE_CLICK}
    if with_list_id:
        fields["List-Id"] = f"<{list_id}>"
    return fields


def lines(fields):
    """The lines as they go into a message, without their ends: folded after the comma alone."""
    text = "\n".join(f"{name}: {value}" for name, value in fields.items())
    return text.replace(">, <", ">,\n <").split("\n")


def _secret(text):
    """The 32 bytes of a key in text form; white space in it is forgiven."""
    if re.search("[\"'`]", text):
        raise ValueError("the signing key holds quotation marks: remove them")
    text = "".join(text.split())
    if not text.startswith(KEY_PREFIX):
        raise ValueError(f"a signing key begins with {KEY_PREFIX}")
    encoded = text[len(KEY_PREFIX):]
    if len(encoded) != 43:
        raise ValueError(f"a signing key has 43 characters after {KEY_PREFIX}, this one has "
                         f"{len(encoded)}: copy it whole")
    if re.fullmatch("[A-Za-z0-9_-]+", encoded):
        secret = base64.urlsafe_b64decode(encoded + "=")
        if _base64url(secret) == encoded:
            return secret
    raise ValueError(f"a signing key holds only letters, digits, - and _ after {KEY_PREFIX}, and "
                     "its last character is one that 32 bytes can end in: copy it again")


def _plaintext(issued, list_id, campaign, recipient):
    issued = int(time.time()) if issued is None else issued
    if not 0 <= issued < 2**32:
        raise ValueError("issued is a time in Unix seconds, from 0 to 4294967295")
    campaign, recipient = _octets("campaign", campaign), _octets("recipient", recipient)
    if len(campaign) > 255:
        raise ValueError(f"a campaign has at most 255 octets, this one has {len(campaign)}: "
                         "shorten it")
    if not recipient:
        raise ValueError("the recipient is empty")
    if len(recipient) > 320:
        raise ValueError(f"a recipient has at most 320 octets, this one has {len(recipient)}")
    counted = [bytes([len(part)]) + part for part in (list_id.encode(), campaign)]
    return issued.to_bytes(4, "big") + b"".join(counted) + recipient


def _octets(what, text):
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the {what} is no Unicode text") from None


def _seal(secret, plaintext):
    prk = _hmac(b"optout/1", secret)
    header = b"\x01" + _expand(prk, b"key id", 4)
    siv = _hmac(_expand(prk, b"mac", 32), header + plaintext)[:16]
    stream = _expand(_expand(prk, b"seal", 32), b"link" + siv, len(plaintext))
    return header + siv + bytes(a ^ b for a, b in zip(plaintext, stream))


def _hmac(key, data):
    return hmac.digest(key, data, hashlib.sha256)


def _expand(prk, info, length):
    """HKDF-Expand (RFC 5869 section 2.3)."""
    out = block = b""
    while len(out) < length:
        block = _hmac(prk, block + info + bytes([len(out) // 32 + 1]))
        out += block
    return out[:length]


def _base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _base32(data):
    return base64.b32encode(data).rstrip(b"=").decode().lower()


def _list_id(text):
    """A list identifier: lower-case labels joined by dots (RFC 2919)."""
    if not text:
        raise ValueError("a list identifier is empty")
    if len(_octets("list identifier", text)) > 255:
        raise ValueError("a list identifier has more than 255 characters")
    for label in text.split("."):
        strange = re.search("[^a-z0-9-]", label)
        if not label:
            raise ValueError("a list identifier has an empty part: remove the extra dot")
        if strange:
            raise ValueError(f"a list identifier cannot hold '{strange[0]}': use lower-case "
                             "letters, digits, hyphens and dots, such as weekly.news.example.com")
        if len(label) > 63:
            raise ValueError("a part of a list identifier has more than 63 characters")
        if label.startswith("-") or label.endswith("-"):
            raise ValueError("a part of a list identifier begins or ends with a hyphen")
    return text


def _base_url(text):
    """`https://HOST[:PORT][/PATH]`, without a slash at its end."""
    scheme, mark, rest = text.strip().partition("://")
    if not mark or scheme.lower() != "https":
        raise ValueError("a base URL begins with https:// (mailbox providers accept no other "
                         "one-click link)")
    # No comma or angle bracket, which would end the URI inside the field.
    strange = re.search(r"[^A-Za-z0-9._~/:\[\]%-]", rest)
    if strange:
        raise ValueError(f"a base URL cannot hold '{strange[0]}': give scheme, host and path only, "
                         "such as https://leave.example.com")
    rest = rest.rstrip("/")
    parts = re.fullmatch(r"(?:\[([^\]%]*)\]|([^:]*))(?::([0-9]+))?", rest.split("/")[0])
    host_fits = parts and (_is_ipv6(parts[1]) if parts[1] else _is_host_name(parts[2] or ""))
    if not host_fits or int(parts[3] or 0) > 65535:
        raise ValueError("a base URL needs a host name in ASCII after https://, such as "
                         "https://leave.example.com")
    return f"https://{rest}"


def _mailto_host(text):
    if not _is_host_name(text):
        raise ValueError("a mailto host is a host name in ASCII, such as leave.example.com")
    return text.lower()


def _is_host_name(text):
    """Letter-digit-hyphen labels (RFC 1123 section 2.1)."""
    label = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    return len(text) <= 253 and re.fullmatch(rf"{label}(?:\.{label})*", text) is not None


def _is_ipv6(text):
    try:
        ipaddress.IPv6Address(text)
        return True
    except ValueError:
        return False


def _key_at_hand():
    """From the environment or a file: a command line is seen by everybody on the machine."""
    if os.environ.get("OPTOUT_KEY_FILE"):
        with open(os.environ["OPTOUT_KEY_FILE"], encoding="utf-8") as file:
            return file.read()
    if "OPTOUT_KEY" in os.environ:
        return os.environ["OPTOUT_KEY"]
    raise ValueError("no signing key: set OPTOUT_KEY_FILE or OPTOUT_KEY to what "
                     "`optout key show ID` prints")


def main():
    parser = argparse.ArgumentParser(
        description="Prints the unsubscribe fields of a message. The signing key comes from the "
                    "file that OPTOUT_KEY_FILE names, or from OPTOUT_KEY.")
    parser.add_argument("--base-url", required=True, help="what links begin with")
    parser.add_argument("--list", required=True, help="the list that the message is sent for")
    parser.add_argument("--recipient", required=True, help="whom it goes to")
    parser.add_argument("--campaign", default="", help="your name for what is sent, for reports")
    parser.add_argument("--mailto-host", help="the host of the mailto form")
    parser.add_argument("--list-id", action="store_true", help="also print List-Id")
    parser.add_argument("--issued", type=int, help="Unix seconds; now, if not given")
    given = parser.parse_args()
    try:
        fields = headers(_key_at_hand(), given.base_url, given.list, given.recipient,
                         given.campaign, mailto_host=given.mailto_host,
                         with_list_id=given.list_id, issued=given.issued)
    except (ValueError, OSError) as error:
        parser.exit(2, f"mint.py: {error}\n")
    print("\n".join(lines(fields)))


if __name__ == "__main__":
    main()
