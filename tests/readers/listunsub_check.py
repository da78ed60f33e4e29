"""Reads a message on standard input as PyPI's listunsub understands it; prints JSON."""
import email
import email.policy
import json
import sys

import listunsub

message = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.compat32)


def unfolded(name):
    return [value.replace("\r\n", "").replace("\n", "") for value in message.get_all(name, [])]


fields, posts = unfolded("List-Unsubscribe"), unfolded("List-Unsubscribe-Post")
problems = listunsub.audit(fields, posts, dkim_signatures=unfolded("DKIM-Signature"))
parsed = listunsub.parse_header(fields[0]) if fields else None
print(json.dumps({
    "problems": [problem.code for problem in problems],
    "urls": list(parsed.https) if parsed else [],
    "mailtos": [address for uri in parsed.mailto for address in listunsub.parse_mailto(uri).to] if parsed else [],
}))
