//! `optout`: one-click unsubscribe (RFC 8058) and suppression.
//!
//! When somebody leaves a list, the next message is not sent, and anybody may check that this is
//! so. A sender puts signed links on its mail ([`link`]); a recipient's mailbox provider posts to
//! one; the opt-out is durable before the answer; the next check says "suppressed"; and an
//! auditor reads what happened.
//!
//! One history, written first, is the truth. Everything else (who is suppressed, what the page
//! shows, what senders are told) follows from it.
#![cfg_attr(
    feature = "server",
    doc = r#"
# Map

Five rooms, and arrows in one direction; a test holds them:

```text
cli ──► serve, mail ──► ledger ──► link
```

| room | holds | knows nothing of |
|---|---|---|
| [`link`] | the client library: keys, list identifiers and scopes, sealed links, header lines, a check of finished mail | I/O, clocks, async, stores |
| [`ledger`] | recipients, events, the policy, the store's contract, its SQLite implementation, the recorder | HTTP, tokens, the clock |
| [`serve`] | HTTP: listeners with their limits, the public link routes and the page, the API, metrics, webhooks | SQL |
| [`mail`] | mail that comes in: opt-outs sent to the mailto form | HTTP, SQL |
| [`cli`] | one file a command, configuration, exit codes, everything a person reads | SQL |

# The way of a click

`serve::listener` accepts within bounds; `serve::public` routes, opens the token (no I/O) and
makes a [`ledger::Command`]; the [`ledger::Recorder`]'s thread takes all commands that wait and
gives them to [`ledger::Store::record`]. That is one transaction: for each command it finds what
stands for the recipient, asks [`ledger::decide`], and appends the event with its canonical bytes
([`ledger::Event`]) and their leaf hash. The commit syncs the write-ahead log. Only then the tasks
get their outcomes, and the 200 leaves. A click that repeats one from before is answered from
memory, after a look at whether any other process wrote.

The recipient's row, which lies at a random place of a large table, is *folded in* behind: when
there is nothing else to do, in slices of a sorted round. A row says how far it is folded, and
events are linked backwards, so a row and the events above it are together what stands, whoever
asks and however far folding came. An index in memory knows the unfolded events of each recipient,
and a few bits of everybody who is known, so that a first click reads nothing.

When the store takes nothing, the recorder writes the sealed link to the [`ledger::Spool`] instead,
and replays what waits there before anything newer. A store that does not open when the service
starts is opened later ([`ledger::LateStore`]). While the process before still has the spool, what
waits in it is read, so that the next one's checks see it.

Commands of the command line, in processes of their own, call the same [`ledger::Store`]. A
thread of the service looks every 5 ms whether anybody wrote, which costs SQLite a microsecond, and
sooner when the recorder did: it wakes those who wait for events, reads changed keys, and notices a
store that was moved away. Those who are woken by the same event share the read of it; what each may
see and asked for is found out for each alone.

# Telling others

Those who ask read the history from a cursor of their own (`GET /v1/events`). For those who want to be
told, each [`serve::Webhook`] is a task that reads the history from a cursor that the store keeps, and
posts one signed message at a time after Standard Webhooks 1.0. So there is no queue that could
overflow, or differ from the history: what was not taken is what lies behind the cursor. How far the
tasks came the recorder writes between the acts, ten times a second at most; a crash before that sends
some messages again, with the ids that they had. A receiver is not trusted: it is connected to only at
an address that was checked, and its answer counts as far as its status.

What the history is at a moment, signed ([`ledger::audit::Checkpoint`]), everybody with a key of the API may
have, and a task for each [`serve::Destination`] sends it out once a day: only what is elsewhere shows that
nothing was changed here. The store keeps when one left.

# What proves it

The transaction that appends also extends a hash tree over the history ([`ledger::tree`], RFC 6962): of its
nodes every eighth level is kept, and the rest is computed from those when somebody asks. A checkpoint is the
root of a moment, signed with a key of the store's own; whoever has one can be shown that an event is under
it, and that a later history begins with it, by files of a few lines that are checked without the store
([`ledger::audit`]). `verify` trusts nothing that is kept: it reads the history in its order, once as such and
once for each share of the recipients, and compares everything that follows from it. Whoever can write to
the store can also compute all of it anew; that is what checkpoints elsewhere are for.

The recipient gets a receipt from the page: the event, its proof, and the salt that ties it to their address.
What stood at an instant of the past is what the events until then leave, replayed for those who are asked
about ([`ledger::Store::standings_after`]).

# The page

[`serve::Catalogue`] says what senders and lists are called and what is offered, [`serve::Pages`] how the
page looks and reads. A form posts to its own link, so the token is the authority, and bounds what can be
asked for: its list, and the lists of that list's sender. What it asks for becomes acts of the same kind
that the API and the command line record; all acts of a form are recorded together. Which lists are
essential is a fact of the history ([`ledger::Essential`]), so that every answer, about the past too, has it
from there.

# What comes in, what goes out

`cli::import` reads rows of any shape in bounded memory (`cli::table`), understands them by one table of what
providers' files state (`formats`), and records 2,000 at a time by [`ledger::Store::record_import`]. The
same transaction keeps how far the file was read, in octets and their hash: started again, an import goes
on behind the very text that it had read, and one that is not there is not gone on with; it is whole once
that was said. It waits for others' locks, and where others record too it gives them as much time as it
takes. An event of an import carries its number, and `release --import` asks for each recipient what would
stand if those events, and those of imports that were taken back before, had never been
([`ledger::withdrawal`]), within the transaction that records the difference. An export is
a [`ledger::Store::survey`] in short reads: what stood at one event, in the order in which the history
first names each recipient, so that an import of it is exported as the same file.

# What is told of the whole

A report ([`ledger::Tally`]) is one pass over a period of the history. Names come from outside, so no more
than 100,000 are told apart, and the 1,000 of which most happened have a row each; what is left is one row,
so that nothing is lost from the sum. What was sent comes from send logs alone, and a rate without its number
of messages is not shown. `cli::html` is the frame of every page that is written to be handed over: one
template and one style sheet, plots that are drawn as wide as there is room with text that does not shrink
([SVG](https://www.w3.org/TR/SVG2/) with lengths in percent), and one place through which every text passes
that came from outside.

# What lies where

The history is appended to a table that is keyed by the event's number alone. Events about one
recipient are linked backwards, from the newest through the recipient's row, which also holds all
that stands for them, so a click touches the end of two tables, and one recipient's history is a
walk along the chain. What identifies or quotes a person lies in one more table,
keyed by the event that brought it: rows are appended, and overwritten in place to forget, since
a moved row leaves a copy behind. Events hold a keyed identifier and keyed hashes of texts, so
the history stays as it is when a person is forgotten.

The database, the store's secret, the signing keys, the key for checkpoints and the spool are five files
([`ledger::DataDir`]): a copy of the database alone neither signs links nor tells who an identifier is. A
backup is all of them in one file with a checksum; a store that is made from one has another name, which
those who follow the history notice.

# Invariants

1. GET and HEAD change nothing.
2. 200 means committed, or synced to the spool. What can be neither is answered 503.
3. The history is append-only, and what stands is a function of it: `verify` replays it.
4. The same request twice is harmless, and so is a crash between any two instructions.
5. No address and no token stands in a log line, a metric, an event or an error. `Debug` of
   types that hold one shows none.
6. A repeat or a weaker reason never weakens a suppression.
7. Time is an argument below `serve` and `cli`.
8. Everything from outside is bounded: connections, header and body in time and size, the
   recorder's queue, page sizes, the labels of metrics. Full is 503 with a jittered `Retry-After`.
9. Several processes use one store; what one appends, the others act on within 10 ms. "It
   already stands" is answered from inside a transaction, or from memory after a look, begun after
   the click arrived, that nobody else wrote.
10. It fails closed: a store that is missing, foreign, newer, or of another secret or canonical
    form is not opened, since a wrong one makes everybody look subscribed. One that is damaged,
    locked or full is served from as far as it goes, with opt-outs spooled and the API closed
    while its keys cannot be read.
11. Erasing is real: reads are made in slices, so that none but a backup's holds a snapshot for
    long; `forget` truncates the log, then searches the files, and says which still hold the address.
    Addresses that are dropped after a configured time are erased in the same way, without the search.
12. A failure that a person causes names the file, key or option, and what to do.

# Choices that are not obvious

* **An exception ends for good.** An opt-in beneath a wider unsubscribe makes an exception, which
  a later act of the recipient ends, a pause too: when the pause is over, the wider unsubscribe
  covers the list again. The other reading could send mail to somebody who no longer wants it.
* **A refused opt-in is recorded.** It changes nothing, but what was asked is part of the history.
* **A pause or another reason with an end is only ever extended** through API and command line: a
  sender that could shorten one could release it.
* **Erased rows stay, as zeros.** Their length remains known, and their place on the disk is not
  given back; in exchange no copy of them, or of a neighbour, is left in an unused part of a page.
* **What counts as a repeat**: the same action, scope, source and reason within 24 hours, changing
  nothing, with no later end, and with no text or the same one; another text is new, and stored. Repeats are counted in a table beside the history until the next
  event of that recipient and scope carries them; they are no part of what stands.
* **The API's document needs a key as the rest does**, of any role, once there is one; it lies beside the
  code that it describes, `src/serve/api/openapi.json`, for who has none. OPTIONS needs none: it says
  what 405 says to everybody.
* **A body is read as JSON whatever its type claims to be**, so that `curl -d` works. Web pages are kept
  out by their `Origin`, so nothing hangs on the type.
* **A webhook stops** at a 410, or when the schedule of retries is at its end, and goes on where it was
  when somebody says so, in the running service at once. No message is skipped for the next one's sake:
  an opt-in that overtakes an opt-out would be worse than both being late.
* **A webhook's message is named by its event's hash**, so a repeat has the same id wherever it comes
  from. A restored store goes on from the cursor in the backup: what was sent since the backup was made
  is sent again under the ids that it had, and what is in its place now has others.
* **A new webhook begins at the end of the history**, as of the service's start (or of when its store opens), unless it asks for the
  beginning. The cursor belongs to the name: another URL goes on where the last one was.
* **A webhook with scopes gets what a key bound to them would**: no recipient identifiers, no event
  from a wider scope or of none.
* **A checkpoint is for a key of any role**, bound to scopes or not: it names nobody, and how long the history
  is the cursor of every feed says too.
* **A checkpoint is sent out also when nothing was appended since the last.** It shows that nothing is there
  but what was, and that the service still says so; a day without one is a reason to ask. Each attempt sends
  that of its own moment, which binds the most. A directory keeps one file of a size, and never another, so
  that there a quiet day adds none; the metrics tell it from a service that is gone.
* **A bound API key's feed holds the events within its scopes alone.** An opt-out from a wider scope
  is not in it, since that would name recipients of other senders: checking before sending is what
  keeps such mail back, and there scope and reason are shown.
* **A POST's body is read before its link is opened**, also where it does not open: an unknown key,
  whose click is kept in the file `unclaimed` until the key is added or its place is needed, is then
  no different from a wrong tag. A retired key is not a missing one: its clicks are not kept.
* **Taking back restores what stood before**, found by going through the recipient's events: it ends or
  shortens what its own event made, as long as nothing else extended that since, gives a frequency its
  earlier value, and gives back exceptions that the act ended. Its events carry the number of the one that
  they take back: `opt_in` with the reason that it ends, or `preference`. A link takes back only its own last
  act, within an hour, unless somebody decided on the same again; later coming back is the sender's sign-up.
  Links are told apart by a keyed hash in the events of the page. A provider's click has none, so as not to
  cost every event its space: a link of the same list and campaign can take it back, and without a campaign none.
* **An import is no act of the recipient**: an unsubscribe that it brings stands beside what they do here,
  and does not end the exceptions that they made beneath a wider scope, since nobody knows which came later.
  What is past its end is not imported, and a row that repeats another counts as a repeat. What changes
  nothing is an event of its own, once an import, so that taking another import back leaves it standing.
* **A forgotten recipient cannot be released with an import**, since the store knows no name to do it by.
* **A pause of the page ends with a day** in UTC, so that a form that is sent twice asks for the same.
* **A page offers no more than its link's key may sign for**: a tenant's link cannot stop another's lists.
* **"Stop everything" is the sender's scope**, and covers narrower senders within it too.
* **A frequency is enforced only for a named mailing**, since only the sender knows what one message is.
  It has some slack (a day is 18 hours, a month 27 days), so that a mailing that goes out a little earlier
  than the last one is not held back; a mailing that was held back may be sent once its time has come.
  When something was last sent is no event: it is kept as long as it decides anything.
* **The answer to a provider names nobody.** It is one fixed line: providers do not read it, and a
  link may have been forwarded.
* **Counts of repeats follow later.** A repeat is answered without a transaction, and counted in the
  store within moments; a crash may lose some counts, never an event.
* **A long replay gives way.** After a second of it the clicks that wait meanwhile are spooled behind
  the rest, so that they are answered in time.
* **One opt-out that cannot be recorded is set aside** at the end of the spool (damage to that
  recipient's pages, a key that is gone) so that the others can be; it is tried again each minute.
* **Readers stand at the history's time**, the clock or the last event's `at` when the clock is
  behind, so that a clock that was set back shows what is recorded as it will be recorded.
* **A link may bring any text as recipient**, and what is on record under it can be asked for,
  shown and forgotten; nothing new is recorded under what is no address by other ways.
* **A store is restored within its directory**, which may be a mount point or have a parent that is
  somebody else's; its database moves into place last, since without it there is no store.
* **What was taken back counts twice in a report**: as the opt-out or pause that it was, and as an undo, each
  when it happened, so that a report about a period never changes afterwards.
* **A list is scrubbed from memory.** One pass over all recipients ([`ledger::Screen`]) decides upon each, and
  keeps the whole identifiers of those held back, so that an answer is exact; events since are followed
  while the list is read. A list of a thousand rows or two is asked for row by row, as checks are. A row without a plain address is no guess: it is kept out.
* **Sends are judged from memory first.** `optout audit sends` reads the history once ([`ledger::Hindsight`]), and
  keeps when each recipient was first suppressed within each scope. Who was not yet is settled; for the
  others their events say what stood at the very millisecond.
* **A delay counts from when a list was first covered**, without a break until the message, whatever stands
  strongest then: a complaint that follows an unsubscribe does not make the sender look quicker.
* **The key for checkpoints survives a restore**, unlike the store's name: an auditor's older checkpoint then
  shows whether the backup lacked anything, and receipts stay good.
* **A receipt is in English**, and its words are signed with it: it is for whoever the recipient shows it to.
* **Refusals of hyper's own** (a malformed or oversized header) do not carry our header fields.
"#
)]

/// The README's own example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "server")]
pub mod ledger;
pub mod link;
#[cfg(feature = "server")]
pub mod mail;
#[cfg(feature = "server")]
pub mod serve;
