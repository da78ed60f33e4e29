#!/usr/bin/env python3
"""Follows the service's history, and keeps a table of who is suppressed for one list current.

    python3 follow.py http://127.0.0.1:8081 news.example.com suppressed.db

On the standard library alone. An API key, where the service has any, is read from the file that
OPTOUT_API_KEY_FILE names, or from OPTOUT_API_KEY; the role `sender` is enough. For further lists run
it once each, into the same database if you like. In your own queries, a recipient who is in the view
`suppressed` gets no mail:

    SELECT address FROM subscriber WHERE NOT EXISTS
        (SELECT 1 FROM suppressed WHERE list = 'news.example.com' AND recipient = address)

How it works. An event is a fact: somebody did something about some scope. What follows from it for a
list depends on wider scopes, on other reasons that stand beside it, on exceptions by opt-in, and on
which lists are essential. The service decides that in one place, so the table is not derived from
events: they say about whom to ask, and `POST /v1/check` what is so. Rows and cursor are committed in
one transaction, and asking twice is harmless, so it may be killed at any moment and started again.

- What ends by itself (a pause) brings no event: a row with an end is asked about again when it is
  past, and suppresses until the answer is there, since something else may stand behind it.
- When the list becomes essential or ordinary, everybody in the table is asked about again.
- Forgotten recipients have no address in the history, so one who was forgotten before the table
  began is not in it; the service knows them, so ask it before sending if you must be sure. Rows
  that are here stay, and show the event in `forgotten`: take the address off your own lists, then
  erase the row. A key that is bound to scopes is not shown these events.
- Addresses are compared without regard to ASCII case. Other spellings that the service takes for
  the same (an umlaut, a domain in Unicode) are not: mint links with the spelling that you send to.
"""

import http.client
import json
import os
import sqlite3
import sys
import time
from math import ceil
from urllib.parse import urlencode, urlsplit

# Seconds that the service may hold an answer back until there is news, and that one may take.
WAIT, PATIENCE = 30, 60
# Seconds between attempts: doubled each time, up to the second.
FIRST_DELAY, LONGEST_DELAY = 0.1, 10
# Events a page, and recipients a question.
PAGE = 1000
# Octets of an answer; a page of events has about 1 MiB.
MAX_ANSWER = 16 * 1024 * 1024

SCHEMA = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS cursor (
        list TEXT PRIMARY KEY,
        store TEXT NOT NULL,         -- which history it is
        next INTEGER NOT NULL        -- the last event that was taken in
    );
    CREATE TABLE IF NOT EXISTS answer (
        list TEXT NOT NULL,
        recipient TEXT NOT NULL COLLATE NOCASE,
        recipient_id TEXT,           -- what the history calls the recipient
        reason TEXT,                 -- none: mail may be sent
        scope TEXT,
        since TEXT,
        until TEXT,
        event INTEGER,
        ask_again TEXT,              -- when, if the answer changes without an event
        forgotten INTEGER,           -- the event by which the service erased the recipient
        PRIMARY KEY (list, recipient)
    );
    CREATE INDEX IF NOT EXISTS answer_due ON answer (list, ask_again) WHERE ask_again IS NOT NULL;
    CREATE INDEX IF NOT EXISTS answer_id ON answer (list, recipient_id);
    CREATE VIEW IF NOT EXISTS suppressed AS
        SELECT list, recipient, reason, scope, since, until, event
        FROM answer WHERE reason IS NOT NULL;
"""

# As the service writes times, so that they compare as texts.
NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"


class Later(Exception):
    """The service cannot be asked now."""


class Stop(Exception):
    """A person has to do something first."""


class Service:
    """The API; a connection for each question, so that none is found broken later."""

    def __init__(self, url, key):
        self.url = urlsplit(url)
        if self.url.scheme not in ("http", "https") or not self.url.hostname:
            raise Stop(f"{url} is no address of an API: give one such as http://127.0.0.1:8081")
        self.headers = {"Content-Type": "application/json"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"

    def events(self, cursor, wait):
        query = {"limit": PAGE, "wait": wait, **cursor}
        return self._ask("GET", f"/v1/events?{urlencode(query)}", None, "events")

    def check(self, list_id, recipients):
        """What stands for each recipient who is suppressed; None where that cannot be said."""
        question = json.dumps({"list": list_id, "recipients": recipients})
        answer = self._ask("POST", "/v1/check", question, "suppressed")
        found = {one["recipient"]: one["suppression"] for one in answer["suppressed"]}
        return found | {error["recipient"]: None for error in answer["errors"]}

    def _ask(self, method, path, body, expected):
        kind = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        connection = kind[self.url.scheme](self.url.hostname, self.url.port, timeout=PATIENCE)
        try:
            connection.request(method, self.url.path.rstrip("/") + path, body, self.headers)
            reply = connection.getresponse()
            status, content = reply.status, reply.read(MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise Later(f"{self.url.netloc} does not answer: {error!r}") from None
        finally:
            connection.close()
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        answer = answer if isinstance(answer, dict) else {}
        if status == 200 and expected in answer:
            return answer
        said = f"{self.url.netloc} answers {status}: {answer.get('detail', 'not as the API does')}"
        if status == 429 or status >= 500:
            raise Later(said)
        raise Stop(said + RESTORED if status == 409 else said)


RESTORED = """
Nothing was changed here. What the backup lacks may still be in this table: record it again, such as
  sqlite3 TABLE "SELECT recipient FROM suppressed WHERE list = 'LIST' AND reason = 'unsubscribe'" |
      optout suppress - --list LIST --reason unsubscribe
and start this with --begin-again, which reads the history from its beginning, and leaves every row as
it is until an event of that history is about it."""


class Table:
    """The sender's own table."""

    def __init__(self, path, list_id):
        self.list = list_id
        self.db = sqlite3.connect(path, timeout=PATIENCE)
        self.db.executescript(SCHEMA)

    def begin_again(self):
        with self.db:
            self.db.execute("DELETE FROM cursor WHERE list = ?", [self.list])

    def cursor(self):
        query = "SELECT store, next FROM cursor WHERE list = ?"
        row = self.db.execute(query, [self.list]).fetchone()
        return {"store": row[0], "after": row[1]} if row else {"after": 0}

    def due(self):
        """Recipients whose answers may have changed without an event."""
        query = f"SELECT recipient FROM answer WHERE list = ? AND ask_again <= {NOW} LIMIT {PAGE}"
        return [recipient for recipient, in self.db.execute(query, [self.list])]

    def seconds_until_due(self):
        query = """SELECT (julianday(min(ask_again)) - julianday('now')) * 86400
                   FROM answer WHERE list = ? AND ask_again IS NOT NULL"""
        seconds, = self.db.execute(query, [self.list]).fetchone()
        return WAIT if seconds is None else min(max(ceil(seconds), 1), WAIT)

    def spellings(self, event):
        """Of the recipient of an event: this one, and those of before it was forgotten."""
        query = "SELECT recipient FROM answer WHERE list = ? AND recipient_id = ?"
        known = self.db.execute(query, [self.list, event["recipient_id"]])
        return {event["recipient"], *(recipient for recipient, in known)}

    def keep(self, recipient, recipient_id, answers):
        """Takes an answer in; where there is none, the recipient is suppressed for the moment."""
        stands = answers.get(recipient, {})
        if stands is None:
            stands = {"reason": "unknown"}
        self.db.execute(
            f"""INSERT INTO answer
                    (list, recipient, recipient_id, reason, scope, since, until, event, ask_again)
                VALUES (:list, :recipient, :recipient_id, :reason, :scope, :since, :until, :event,
                    CASE WHEN :reason = 'unknown' THEN strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+1 minute')
                         -- The clocks may differ.
                         ELSE max(:until, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+1 second')) END)
                ON CONFLICT (list, recipient) DO UPDATE SET
                    recipient_id = coalesce(excluded.recipient_id, recipient_id),
                    reason = excluded.reason, scope = excluded.scope, since = excluded.since,
                    until = excluded.until, event = excluded.event, ask_again = excluded.ask_again""",
            {"list": self.list, "recipient": recipient, "recipient_id": recipient_id,
             **{name: stands.get(name) for name in ("reason", "scope", "since", "until", "event")}})

    def take_page(self, page, touched, answers):
        """All that a page of events brings, and the cursor, or nothing of it."""
        with self.db:
            for recipient, recipient_id in touched.items():
                self.keep(recipient, recipient_id, answers)
            for event in page["events"]:
                if event["action"] == "forget":
                    self.db.execute(
                        "UPDATE answer SET forgotten = ? WHERE list = ? AND recipient_id = ?",
                        [event["event"], self.list, event["recipient_id"]])
                if event["action"] == "describe" and event["scope"] == self.list:
                    self.db.execute(f"UPDATE answer SET ask_again = {NOW} WHERE list = ?",
                                    [self.list])
            self.db.execute("INSERT OR REPLACE INTO cursor (list, store, next) VALUES (?, ?, ?)",
                            [self.list, page["store"], page["next"]])

    def take_due(self, due, answers):
        with self.db:
            for recipient in due:
                self.keep(recipient, None, answers)


def covers(scope, list_id):
    """Whether a scope is the list, one of its parents, or everything."""
    return scope is not None and (scope in ("*", list_id) or list_id.endswith(f".{scope}"))


def turn(service, table):
    """Asks again what is due, or else waits for events and asks about whom they name."""
    due = table.due()
    if due:
        table.take_due(due, service.check(table.list, due))
        return
    page = service.events(table.cursor(), table.seconds_until_due())
    touched = {}
    for event in page["events"]:
        if event["recipient"] is not None and covers(event["scope"], table.list):
            touched |= dict.fromkeys(table.spellings(event), event["recipient_id"])
    answers = service.check(table.list, list(touched)) if touched else {}
    table.take_page(page, touched, answers)


def follow(service, table):
    delay = FIRST_DELAY
    while True:
        try:
            turn(service, table)
            delay = FIRST_DELAY
        except Later as error:
            print(f"follow.py: {error}; again in {delay:.1f} s", file=sys.stderr)
            time.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)


def api_key():
    """From a file or the environment: a command line is seen by everybody on the machine."""
    if os.environ.get("OPTOUT_API_KEY_FILE"):
        with open(os.environ["OPTOUT_API_KEY_FILE"], encoding="utf-8") as file:
            return file.read().strip()
    return os.environ.get("OPTOUT_API_KEY", "").strip()


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--begin-again"]
    if len(arguments) != 3:
        sys.exit("usage: follow.py API-URL LIST DATABASE [--begin-again]")
    try:
        service, table = Service(arguments[0], api_key()), Table(arguments[2], arguments[1])
        if "--begin-again" in sys.argv:
            table.begin_again()
        print(f"follow.py: keeping {arguments[2]} current for {arguments[1]}, until it is stopped",
              file=sys.stderr)
        follow(service, table)
    except (Stop, OSError, sqlite3.Error) as error:
        sys.exit(f"follow.py: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
