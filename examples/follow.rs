//! Follows the service's history, and keeps a table of who is suppressed for one list current.
//!
//! ```text
//! cargo run --no-default-features --example follow -- http://127.0.0.1:8081 news.example.com suppressed.db
//! ```
//!
//! An API key, where the service has any, is read from the file that `OPTOUT_API_KEY_FILE` names, or
//! from `OPTOUT_API_KEY`; the role `sender` is enough. For further lists run it once each, into the
//! same database if you like. In your own queries, a recipient who is in the view `suppressed` gets
//! no mail:
//!
//! ```sql
//! SELECT address FROM subscriber WHERE NOT EXISTS
//!     (SELECT 1 FROM suppressed WHERE list = 'news.example.com' AND recipient = address)
//! ```
//!
//! How it works. An event is a fact: somebody did something about some scope. What follows from it
//! for a list depends on wider scopes, on other reasons that stand beside it, on exceptions by
//! opt-in, and on which lists are essential. The service decides that in one place, so the table is
//! not derived from events: they say about whom to ask, and `POST /v1/check` what is so. Rows and
//! cursor are committed in one transaction, and asking twice is harmless, so it may be killed at any
//! moment and started again.
//!
//! - What ends by itself (a pause) brings no event: a row with an end is asked about again when it
//!   is past, and suppresses until the answer is there, since something else may stand behind it.
//! - When the list becomes essential or ordinary, everybody in the table is asked about again.
//! - Forgotten recipients have no address in the history, so one who was forgotten before the table
//!   began is not in it; the service knows them, so ask it before sending if you must be sure. Rows
//!   that are here stay, and show the event in `forgotten`: take the address off your own lists,
//!   then erase the row. A key that is bound to scopes is not shown these events.
//! - Addresses are compared without regard to ASCII case. Other spellings that the service takes for
//!   the same (an umlaut, a domain in Unicode) are not: mint links with the spelling that you send to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rusqlite::{Connection, OptionalExtension as _, Transaction, named_params};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// How long the service may hold an answer back until there is news, in seconds.
const WAIT: i64 = 30;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between attempts: doubled each time, up to the second.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// Octets of an answer; a page of events, of which there are a thousand, has about 1 MiB.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

const SCHEMA: &str = "
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
";

const RESTORED: &str = "
Nothing was changed here. What the backup lacks may still be in this table: record it again, such as
  sqlite3 TABLE \"SELECT recipient FROM suppressed WHERE list = 'LIST' AND reason = 'unsubscribe'\" |
      optout suppress - --list LIST --reason unsubscribe
and start this with --begin-again, which reads the history from its beginning, and leaves every row as
it is until an event of that history is about it.";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("follow: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let (options, arguments): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument == "--begin-again");
    let [url, list, path] = &arguments[..] else {
        return Err(Failure::Stop("usage: follow API-URL LIST DATABASE [--begin-again]".into()));
    };
    let service = Service::new(url, api_key()?)?;
    let mut table = Table::open(path, list)?;
    if !options.is_empty() {
        table.begin_again()?;
    }
    eprintln!("follow: keeping {path} current for {list}, until it is stopped");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(|error| Failure::Stop(error.to_string()))?
        .block_on(follow(&service, &mut table))
}

/// From a file or the environment: a command line is seen by everybody on the machine.
fn api_key() -> Result<String, Failure> {
    let text = match std::env::var_os("OPTOUT_API_KEY_FILE") {
        Some(file) => std::fs::read_to_string(&file)
            .map_err(|error| Failure::Stop(format!("{}: {error}", file.display())))?,
        None => std::env::var("OPTOUT_API_KEY").unwrap_or_default(),
    };
    Ok(text.trim().to_owned())
}

enum Failure {
    /// The service cannot be asked now.
    Later(String),
    /// A person has to do something first.
    Stop(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Later(text) | Self::Stop(text)) = self;
        f.write_str(text)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Stop(format!("the table cannot be used: {error}"))
    }
}

async fn follow(service: &Service, table: &mut Table) -> Result<(), Failure> {
    let mut delay = FIRST_DELAY;
    loop {
        match turn(service, table).await {
            Ok(()) => delay = FIRST_DELAY,
            Err(Failure::Later(what)) => {
                eprintln!("follow: {what}; again in {delay:?}");
                tokio::time::sleep(delay).await;
                delay = LONGEST_DELAY.min(delay * 2);
            }
            Err(stop) => return Err(stop),
        }
    }
}

/// Asks again what is due, or else waits for events and asks about whom they name.
async fn turn(service: &Service, table: &mut Table) -> Result<(), Failure> {
    let due = table.due()?;
    if !due.is_empty() {
        let answers = service.check(&table.list, due.iter()).await?;
        return table.take_due(&due, &answers);
    }
    let page = service.events(&table.cursor()?, table.seconds_until_due()?).await?;
    let touched = table.touched_by(&page)?;
    let answers = match touched.is_empty() {
        true => Answers::new(),
        false => service.check(&table.list, touched.keys()).await?,
    };
    table.take_page(&page, &touched, &answers)
}

/// What stands for each recipient who is suppressed; `null` where that cannot be said.
type Answers = HashMap<String, Value>;

/// The API, over plain http: to this machine or within a private network. A connection for each
/// question, so that none is found broken later.
struct Service {
    authority: String,
    path: String,
    key: String,
}

impl Service {
    fn new(url: &str, key: String) -> Result<Self, Failure> {
        let uri = url.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("http"));
        match uri.as_ref().and_then(Uri::authority) {
            Some(authority) => Ok(Self {
                authority: match authority.port() {
                    Some(_) => authority.to_string(),
                    None => format!("{authority}:80"),
                },
                path: uri.as_ref().map_or("", Uri::path).trim_end_matches('/').to_owned(),
                key,
            }),
            None => Err(Failure::Stop(format!(
                "{url} is no address that this example speaks to: give one such as \
                 http://127.0.0.1:8081 (for https, put hyper-rustls between)"
            ))),
        }
    }

    async fn events(&self, cursor: &Cursor, wait: i64) -> Result<Value, Failure> {
        let Cursor { store, next } = cursor;
        let store = store.as_ref().map_or_else(String::new, |store| format!("&store={store}"));
        let path = format!("/v1/events?after={next}&limit=1000&wait={wait}{store}");
        self.ask(Method::GET, &path, String::new(), "events").await
    }

    async fn check(
        &self,
        list: &str,
        recipients: impl Iterator<Item = &String>,
    ) -> Result<Answers, Failure> {
        let recipients: Vec<_> = recipients.collect();
        let question = json!({"list": list, "recipients": recipients}).to_string();
        let answer = self.ask(Method::POST, "/v1/check", question, "suppressed").await?;
        // Errors have no suppression, which leaves null.
        let named = ["suppressed", "errors"].into_iter().flat_map(|part| rows(&answer[part]));
        let each = named.filter_map(|one| {
            Some((one["recipient"].as_str()?.to_owned(), one["suppression"].clone()))
        });
        Ok(each.collect())
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: String,
        expected: &str,
    ) -> Result<Value, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.path))
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json");
        let request = match self.key.as_str() {
            "" => request,
            key => request.header(AUTHORIZATION, format!("Bearer {key}")),
        };
        let request = request
            .body(Full::from(body))
            .map_err(|error| Failure::Stop(format!("this cannot be asked: {error}")))?;
        let no_answer = |why: &dyn fmt::Display| {
            Failure::Later(format!("{} does not answer: {why}", self.authority))
        };
        let (status, content) = tokio::time::timeout(PATIENCE, self.exchange(request))
            .await
            .map_err(|late| no_answer(&late))?
            .map_err(|error| no_answer(&error))?;
        let answer: Value = serde_json::from_slice(&content).unwrap_or_default();
        if status == StatusCode::OK && !answer[expected].is_null() {
            return Ok(answer);
        }
        let detail = answer["detail"].as_str().unwrap_or("not as the API does");
        let said = format!("{} answers {}: {detail}", self.authority, status.as_u16());
        Err(match status {
            StatusCode::CONFLICT => Failure::Stop(said + RESTORED),
            StatusCode::TOO_MANY_REQUESTS => Failure::Later(said),
            status if status.is_server_error() => Failure::Later(said),
            _ => Failure::Stop(said),
        })
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Box<dyn Error + Send + Sync>> {
        let stream = TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender; what goes wrong on it, the request's future says.
        tokio::spawn(connection);
        let reply = sender.send_request(request).await?;
        let status = reply.status();
        let content = Limited::new(reply.into_body(), MAX_ANSWER).collect().await?;
        Ok((status, content.to_bytes()))
    }
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// How far which history was taken in.
#[derive(Default)]
struct Cursor {
    store: Option<String>,
    next: i64,
}

/// The sender's own table.
struct Table {
    db: Connection,
    list: String,
}

impl Table {
    fn open(path: &str, list: &str) -> Result<Self, Failure> {
        let db = Connection::open(path)?;
        db.busy_timeout(PATIENCE)?;
        db.execute_batch(SCHEMA)?;
        Ok(Self { db, list: list.to_owned() })
    }

    fn begin_again(&self) -> Result<(), Failure> {
        self.db.execute("DELETE FROM cursor WHERE list = ?1", [&self.list])?;
        Ok(())
    }

    fn cursor(&self) -> Result<Cursor, Failure> {
        let mut query = self.db.prepare_cached("SELECT store, next FROM cursor WHERE list = ?1")?;
        let row = query
            .query_row([&self.list], |row| Ok(Cursor { store: row.get(0)?, next: row.get(1)? }));
        Ok(row.optional()?.unwrap_or_default())
    }

    /// Recipients whose answers may have changed without an event.
    fn due(&self) -> Result<Vec<String>, Failure> {
        let mut query = self.db.prepare_cached(
            "SELECT recipient FROM answer
             WHERE list = ?1 AND ask_again <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now') LIMIT 1000",
        )?;
        let due = query.query_map([&self.list], |row| row.get(0))?;
        Ok(due.collect::<Result<_, _>>()?)
    }

    fn seconds_until_due(&self) -> Result<i64, Failure> {
        let mut query = self.db.prepare_cached(
            "SELECT (julianday(min(ask_again)) - julianday('now')) * 86400
             FROM answer WHERE list = ?1 AND ask_again IS NOT NULL",
        )?;
        let seconds: Option<f64> = query.query_row([&self.list], |row| row.get(0))?;
        Ok(seconds.map_or(WAIT, |seconds| (seconds.ceil() as i64).clamp(1, WAIT)))
    }

    /// The recipients whom a page's events are about, with their identifiers where those are shown:
    /// in each spelling that is here from before they were forgotten, too.
    fn touched_by(&self, page: &Value) -> Result<BTreeMap<String, Option<String>>, Failure> {
        let mut touched = BTreeMap::new();
        for event in rows(&page["events"]) {
            let scope = event["scope"].as_str().unwrap_or_default();
            let Some(recipient) = event["recipient"].as_str() else { continue };
            if !covers(scope, &self.list) {
                continue;
            }
            let id = event["recipient_id"].as_str();
            let mut spellings = self.spellings(id)?;
            spellings.insert(recipient.to_owned());
            touched.extend(spellings.into_iter().map(|own| (own, id.map(str::to_owned))));
        }
        Ok(touched)
    }

    fn spellings(&self, id: Option<&str>) -> Result<BTreeSet<String>, Failure> {
        let mut query = self
            .db
            .prepare_cached("SELECT recipient FROM answer WHERE list = ?1 AND recipient_id = ?2")?;
        let known = query.query_map((&self.list, id), |row| row.get(0))?;
        Ok(known.collect::<Result<_, _>>()?)
    }

    /// All that a page of events brings, and the cursor, or nothing of it.
    fn take_page(
        &mut self,
        page: &Value,
        touched: &BTreeMap<String, Option<String>>,
        answers: &Answers,
    ) -> Result<(), Failure> {
        let transaction = self.db.transaction()?;
        for (recipient, id) in touched {
            keep(&transaction, &self.list, recipient, id.as_deref(), answers)?;
        }
        for event in rows(&page["events"]) {
            match event["action"].as_str() {
                Some("forget") => transaction.execute(
                    "UPDATE answer SET forgotten = ?1 WHERE list = ?2 AND recipient_id = ?3",
                    (event["event"].as_i64(), &self.list, event["recipient_id"].as_str()),
                )?,
                Some("describe") if event["scope"] == *self.list => transaction.execute(
                    "UPDATE answer SET ask_again = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
                     WHERE list = ?1",
                    [&self.list],
                )?,
                _ => 0,
            };
        }
        transaction.execute(
            "INSERT OR REPLACE INTO cursor (list, store, next) VALUES (?1, ?2, ?3)",
            (&self.list, page["store"].as_str(), page["next"].as_i64()),
        )?;
        Ok(transaction.commit()?)
    }

    fn take_due(&mut self, due: &[String], answers: &Answers) -> Result<(), Failure> {
        let transaction = self.db.transaction()?;
        for recipient in due {
            keep(&transaction, &self.list, recipient, None, answers)?;
        }
        Ok(transaction.commit()?)
    }
}

/// Takes an answer in; where it cannot be said, the recipient is suppressed for the moment.
fn keep(
    transaction: &Transaction<'_>,
    list: &str,
    recipient: &str,
    recipient_id: Option<&str>,
    answers: &Answers,
) -> Result<(), Failure> {
    let stands = match answers.get(recipient) {
        Some(Value::Null) => &json!({"reason": "unknown"}),
        Some(stands) => stands,
        None => &Value::Null,
    };
    let mut insert = transaction.prepare_cached(
        "INSERT INTO answer
             (list, recipient, recipient_id, reason, scope, since, until, event, ask_again)
         VALUES (:list, :recipient, :recipient_id, :reason, :scope, :since, :until, :event,
             CASE WHEN :reason = 'unknown' THEN strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+1 minute')
                  -- The clocks may differ.
                  ELSE max(:until, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+1 second')) END)
         ON CONFLICT (list, recipient) DO UPDATE SET
             recipient_id = coalesce(excluded.recipient_id, recipient_id),
             reason = excluded.reason, scope = excluded.scope, since = excluded.since,
             until = excluded.until, event = excluded.event, ask_again = excluded.ask_again",
    )?;
    insert.execute(named_params! {
        ":list": list,
        ":recipient": recipient,
        ":recipient_id": recipient_id,
        ":reason": stands["reason"].as_str(),
        ":scope": stands["scope"].as_str(),
        ":since": stands["since"].as_str(),
        ":until": stands["until"].as_str(),
        ":event": stands["event"].as_i64(),
    })?;
    Ok(())
}

/// Whether a scope is the list, one of its parents, or everything.
fn covers(scope: &str, list: &str) -> bool {
    let is_parent = || list.strip_suffix(scope).is_some_and(|head| head.ends_with('.'));
    scope == "*" || scope == list || is_parent()
}
