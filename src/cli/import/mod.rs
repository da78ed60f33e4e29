//! `optout import`
//!
//! [`super::table`] reads rows, whatever the file's shape; [`formats`] has the table that says what a row
//! of which provider means; here they are recorded, many in one transaction, together with how far the
//! file was read.

mod formats;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::input::{Compression, Input};
use super::output::counted;
use super::progress::Progress;
use super::table::{self, Rejects, Rows};
use super::{Context, Failure, Status, output, user};
use crate::ledger::{
    Act, Command, Import as Begun, ImportMark, Outcome, Reason, Recipient, Source, SqliteStore,
    Store, StoreError, Time, decide,
};
use crate::link::Scope;
use formats::{Asked, Format, GroupScope, Reading, Said, StatusMeaning};

/// Rows in one transaction: enough that syncing costs little, and few enough that a click which waits
/// behind them is answered soon.
const BATCH: usize = 2_000;

/// So many such parts are read while another is recorded.
const READ_AHEAD: usize = 2;

/// As much of the store is kept in memory, in MiB: about what a million rows need.
const CACHE: u16 = 192;

/// For a store that others keep locked.
const PATIENCE: Duration = Duration::from_secs(60);

/// Others get no more time than this at once.
const LONGEST_WAY: Duration = Duration::from_secs(1);

const FORMATS_AND_EXAMPLES: &str = "\
What is read of whom: reason; time; scope. In a provider's file --list is
the scope of every row whose group, tag or audience is not said with --map;
elsewhere, of rows that state none. Other fields are kept as the event's
note, which `optout forget` erases.
  optout export      all as they stand in it
  Postmark           SpamComplaint: complaint; HardBounce: bounce;
                     ManualSuppression: unsubscribe where the recipient
                     did it, else manual; CreatedAt; everything
  SendGrid groups    unsubscribe; created_at; the group's, by --map
  SendGrid bounces   bounce if the status is 5.x; created; everything
  SendGrid spam      complaint where there is a column ip; created;
    reports          everything
  SendGrid, others   email,created needs --reason and --list, since
                     unsubscribes and spam reports look alike
  Mailgun bounces    bounce; created_at; everything
  Mailgun            unsubscribe; created_at; tag * or none:
    unsubscribes     everything, others by --map
  Mailgun            complaint; created_at; everything; needs
    complaints       --from mailgun
  Amazon SES         COMPLAINT, BOUNCE; LastUpdateTime; everything
  listmonk           needs --status and --list
  Mailchimp          unsubscribed: unsubscribe; cleaned: bounce; their
                     times; needs --list (a file from its API --map of
                     the list_id)
  any CSV or NDJSON  reason; since, created_at or the like; until;
                     scope or list. A reason that is none of ours is
                     a bad row, unless --status says what it means, as
                     in --status 'reason=hard bounce:bounce'; --reason
                     is for rows without one. Rename a column reason
                     that is to be ignored
  an address a line  needs --reason and --list

Examples:
  optout import postmark.csv
  optout import groups.json --map 'Weekly news=weekly.news.example.com'
  optout import subscribers.csv --status status=blocklisted:manual \\
      --list example.com";

/// Bring suppressions in
///
/// Whose export the file is, its shape and its compression (gzip, zstd) are seen from its content, and
/// said. Text has to be UTF-8. What stands already is never weakened; rows that cannot be read go to a
/// file with their lines, and the rest goes on. An import that was interrupted goes on where it stopped
/// when it is started again. Makes the store too where there is none.
///
/// Each import has a number: `optout release --import N --note WHY` takes it back.
///
/// A quoted field of CSV has to be closed before a delimiter or a line end. Where it is not, its row
/// is bad, and reading begins again in the next line.
#[derive(Debug, Args)]
#[command(after_help = FORMATS_AND_EXAMPLES)]
pub(super) struct Import {
    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Whose export it is, where that cannot be seen
    #[arg(long, value_name = "FORMAT")]
    from: Option<Format>,

    /// The scope of rows that have none of their own
    #[arg(long, value_name = "SCOPE")]
    list: Option<Scope>,

    /// The reason, where the file states none
    #[arg(long)]
    reason: Option<Reason>,

    /// What a status means, such as status=blocklisted:manual; rows with another are left out
    #[arg(long, value_name = "COLUMN=VALUE:REASON", conflicts_with = "reason")]
    status: Vec<StatusMeaning>,

    /// The scope of a provider's group, tag or audience
    #[arg(long, value_name = "NAME=SCOPE")]
    map: Vec<GroupScope>,

    /// The column that holds the addresses, where it is not called email or the like
    #[arg(long, value_name = "NAME")]
    column: Option<String>,

    /// Dates without an offset are in UTC
    #[arg(long)]
    utc: bool,

    /// Where rows go that cannot be read [default: FILE.bad.csv in the working directory]
    #[arg(long, value_name = "FILE")]
    bad: Option<PathBuf>,

    /// Record nothing, and say what would be
    #[arg(long)]
    dry_run: bool,
}

/// How many rows there were, and what became of them.
#[derive(Debug, Clone, Default, Serialize)]
struct Counts {
    rows: u64,
    /// Suppressions that the rows ask for.
    suppressions: u64,
    /// Rows that are no suppressions, or are past their end.
    left_out: u64,
    bad: u64,
}

#[derive(Serialize)]
struct ImportView<'a> {
    import: Option<u64>,
    #[serde(flatten)]
    counts: &'a Counts,
    changed: u64,
    stood: u64,
    bad_rows: Option<String>,
}

impl Import {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let file = self.file.clone();
        let rows = Rows::begin(Input::open(Some(&file))?)?;
        // A pipe cannot be read twice; what it repeats changes nothing.
        let is_file = rows.text().input().metadata().is_some() && file != Path::new("-");
        let again = Some(file.as_path()).filter(|_| is_file);
        let name = rows.text().input().name().to_owned();
        let Some(names) = rows.names()? else {
            context.output.line(format!("nothing to import: {name} holds no rows"))?;
            return Ok(Status::Done);
        };
        let bad = self.bad.clone().unwrap_or_else(|| default_bad(&file));
        if is_same_file(&bad, &file) {
            return Err(Failure::new("--bad names the file that is imported: name another"));
        }
        let (from, is_dry) = (self.from, self.dry_run);
        let reading = Reading::of(&names, rows.is_list(), from, self.said())
            .map_err(|what| Failure::new(format!("{name}: {what}")))?;
        output::note(&told(&name, &rows, &reading));
        let (rejects, counts) = (Rejects::to(bad), Counts::default());
        let pass =
            Pass { rows, reading, rejects, counts, recorded: 0, can_go_on: is_file, failure: None };
        match is_dry {
            true => pass.try_out(context),
            false => pass.record(context, again),
        }
    }

    fn said(self) -> Said {
        let Self { column, list, reason, status, map, utc, .. } = self;
        Said { column, list, reason, status, map, is_utc: utc }
    }
}

fn default_bad(file: &Path) -> PathBuf {
    let is_file = file != Path::new("-");
    let name = file.file_name().filter(|_| is_file).unwrap_or_else(|| "import".as_ref());
    let mut name = name.to_owned();
    name.push(".bad.csv");
    name.into()
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| path.canonicalize().ok();
    place(one).is_some_and(|one| Some(one) == place(other))
}

/// What the file was found to be.
fn told(name: &str, rows: &Rows, reading: &Reading) -> String {
    let mapping = reading.mapping;
    let whose = match mapping.format {
        Format::Plain => "read by its own words".to_owned(),
        format => format!("{format} {}", mapping.what),
    };
    let compression = match rows.text().input().compression() {
        Compression::Plain => String::new(),
        compression => format!(", {}", compression.name()),
    };
    format!("{name}: {whose} ({}{compression})", rows.shape())
}

/// One pass through a file.
struct Pass {
    rows: Rows,
    reading: Reading,
    rejects: Rejects,
    counts: Counts,
    /// As many octets of text are recorded already.
    recorded: u64,
    /// Whether it can be read again.
    can_go_on: bool,
    /// Why the rest cannot be read.
    failure: Option<Failure>,
}

/// What some rows ask for.
struct Part {
    asked: Vec<Asked>,
    /// How far the file is read with them.
    mark: ImportMark,
    /// Rows so far.
    rows: u64,
    is_last: bool,
}

impl Pass {
    /// The next rows, until they are many, or the first is reached that is not recorded yet, or there are
    /// no more.
    fn next(&mut self, now: Time) -> Part {
        let mut asked = Vec::with_capacity(BATCH);
        let filled = self.fill(now, &mut asked);
        let is_last = !matches!(filled, Ok(true));
        self.failure = filled.err();
        Part { asked, mark: self.rows.text().mark(), rows: self.counts.rows, is_last }
    }

    fn fill(&mut self, now: Time, asked: &mut Vec<Asked>) -> Result<bool, Failure> {
        for _ in 0..BATCH {
            let Some(row) = self.rows.next()? else { return Ok(false) };
            self.add(row, now, asked)?;
            // A part begins exactly behind what is recorded.
            if self.rows.text().bytes() == self.recorded {
                break;
            }
        }
        Ok(true)
    }

    /// Sends part after part, until one is the last or nobody takes them any more.
    fn read_on(mut self, now: Time, parts: &SyncSender<Part>) -> Self {
        loop {
            let part = self.next(now);
            let is_last = part.is_last;
            if parts.send(part).is_err() || is_last {
                return self;
            }
        }
    }

    fn add(&mut self, row: table::Read, now: Time, asked: &mut Vec<Asked>) -> Result<(), Failure> {
        self.counts.rows += 1;
        let read = row.and_then(|row| self.reading.read(&row, now).map_err(|what| row.bad(what)));
        match read {
            Ok(Some(one)) => {
                self.counts.suppressions += one.scopes.len() as u64;
                asked.push(one);
            }
            Ok(None) => self.counts.left_out += 1,
            Err(bad) => {
                self.counts.bad += 1;
                self.rejects.add(&bad)?;
            }
        }
        Ok(())
    }

    /// Says what would be recorded.
    fn try_out(self, context: &mut Context) -> Result<Status, Failure> {
        let store = match context.dir().holds_a_store()? {
            true => Some(context.store()?),
            false => None,
        };
        let (now, mut changed, mut seen) = (context.now(), 0, HashSet::new());
        let pass = self.each_part(now, |part| {
            changed += would_change(store.as_ref(), &part.asked, now, &mut seen)?;
            Ok(())
        })?;
        pass.report(context, None, changed)
    }

    /// Records everything.
    fn record(mut self, context: &mut Context, path: Option<&Path>) -> Result<Status, Failure> {
        let (store, made) = context.store_made_if_missing()?;
        if made {
            output::note(&format!("made a new store in {}", context.config.data.display()));
        }
        let store = store.folding_behind(SqliteStore::MAX_UNFOLDED).with_cache(CACHE)?;
        store.warm(&|| false)?;
        let import = begin(&store, &self.reading.plan(), path)?;
        let mut mark = import.mark;
        self.recorded = mark.bytes;
        let (actor, mut last) = (user::name(), None);
        let pass = self.each_part(context.now(), |Part { asked, mark: after, .. }| {
            // What was recorded before an interruption is read again, and no more.
            if after.bytes > import.mark.bytes {
                let commands = commands(asked, import.number, actor.as_deref());
                let began = Instant::now();
                let outcomes = patiently(|| {
                    store.record_import(import.number, (mark, after), &commands, context.now())
                })?;
                give_way(&outcomes, &mut last, began.elapsed());
                mark = after;
            }
            Ok(())
        })?;
        fold_all(&store)?;
        let imports = store.imports()?;
        let own = imports.iter().find(|own| own.number == import.number);
        let is_whole = pass.failure.is_none();
        let status = pass.report(context, Some(import.number), own.map_or(0, |own| own.changed));
        if is_whole {
            // Not before it was said: who was not told starts the same again, and doubles nothing.
            context.output.flush()?;
            let whole = ImportMark { is_whole, ..mark };
            patiently(|| store.record_import(import.number, (mark, whole), &[], context.now()))?;
        }
        status
    }

    /// Has each part taken while the next is read; ends with the file, or where it cannot be read.
    fn each_part(
        self,
        now: Time,
        mut take: impl FnMut(Part) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let mut progress = Progress::of(self.rows.text().done());
        let (sender, parts) = sync_channel(READ_AHEAD);
        let (pass, taken) = thread::scope(|scope| {
            let reader = scope.spawn(move || self.read_on(now, &sender));
            // The reader ends when nobody takes what it sends.
            let taken = parts.into_iter().try_for_each(|part| {
                progress.tell(part.rows);
                take(part)
            });
            (reader.join(), taken)
        });
        output::end_progress();
        let pass = pass.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        taken.map(|()| pass)
    }

    fn report(
        mut self,
        context: &mut Context,
        import: Option<u64>,
        changed: u64,
    ) -> Result<Status, Failure> {
        let bad = self.rejects.finish()?;
        if let Some(failure) = self.failure {
            return Err(Failure::new(format!(
                "{failure}{}",
                kept(import, self.counts.rows, self.can_go_on)
            )));
        }
        let (counts, path) = (&self.counts, self.rejects.path().display().to_string());
        let stood = counts.suppressions.saturating_sub(changed);
        let view = ImportView {
            import,
            counts,
            changed,
            stood,
            bad_rows: (bad > 0).then(|| path.clone()),
        };
        match context.output.is_json() {
            true => context.output.object(&view)?,
            false => context.output.line(view.told())?,
        }
        match bad {
            0 => Ok(Status::Done),
            _ => Err(Failure::new(format!(
                "{} could not be read, the first in {}; all are in {path} with their lines: correct \
                 and import those",
                counted(bad, "row"),
                self.rejects.first()
            ))),
        }
    }
}

/// What was read before it could not be read any further stays.
fn kept(import: Option<u64>, rows: u64, can_go_on: bool) -> String {
    let Some(number) = import else { return String::new() };
    let next = match can_go_on {
        true => "the same command goes on from there",
        false => "the same from its beginning doubles nothing",
    };
    let rows = counted(rows, "row");
    format!("; what {rows} before it asked for is kept as import {number}, and {next}")
}

impl ImportView<'_> {
    fn told(&self) -> String {
        let Counts { rows, left_out, bad, .. } = self.counts;
        let (what, changed) = match self.import {
            Some(number) => (format!("import {number}"), "recorded"),
            None => ("nothing recorded".to_owned(), "would be recorded"),
        };
        format!(
            "{what}: {}: {} {changed}, {} stood already, {} left out that ask for none, {bad} bad",
            counted(*rows, "row"),
            counted(self.changed, "suppression"),
            self.stood,
            counted(*left_out, "row")
        )
    }
}

/// A new import, or the one that was interrupted in the same file.
fn begin(store: &SqliteStore, plan: &str, path: Option<&Path>) -> Result<Begun, Failure> {
    let unfinished: Vec<_> =
        store.imports()?.into_iter().filter(|own| own.plan == plan && !own.mark.is_whole).collect();
    let marks: Vec<_> = unfinished.iter().map(|own| own.mark).collect();
    let reached = match path {
        Some(path) if !marks.is_empty() => table::furthest(Input::open(Some(path))?, marks),
        _ => None,
    };
    match unfinished.into_iter().find(|own| Some(own.mark) == reached) {
        Some(import) => {
            output::note(&format!("going on with import {}, which was interrupted", import.number));
            Ok(import)
        }
        None => Ok(patiently(|| store.begin_import(plan))?),
    }
}

fn commands(asked: Vec<Asked>, import: u64, actor: Option<&str>) -> Vec<Command> {
    let mut commands = Vec::with_capacity(asked.len());
    for one in asked {
        let Asked { recipient, scopes, reason, since, until, note } = one;
        commands.extend(scopes.into_iter().map(|scope| Command {
            occurred: since,
            actor: actor.map(str::to_owned),
            note: note.clone(),
            ..Command::new(
                recipient.clone(),
                Act::Import { import, scope, reason, until },
                Source::Import,
            )
        }));
    }
    commands
}

/// Does what another process's lock may keep from being done for a while.
fn patiently<T>(work: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let began = Instant::now();
    loop {
        match work() {
            Err(StoreError::Locked) if began.elapsed() < PATIENCE => {}
            done => return done,
        }
    }
}

/// Where somebody else recorded something meanwhile, such as a service that clicks come to, they get as
/// much time as was taken.
fn give_way(outcomes: &[Outcome], last: &mut Option<u64>, taken: Duration) {
    let events = || outcomes.iter().filter_map(|outcome| outcome.event);
    // Repeats are counted and have no events, so of a part of nothing else nothing can be told.
    let (Some(first), Some(end)) = (events().next(), events().next_back()) else { return };
    if last.is_some_and(|last| first > last + 1) {
        thread::sleep(taken.min(LONGEST_WAY));
    }
    *last = Some(end);
}

/// Folds what was recorded into its place. A service that is at it too goes on with it alone.
fn fold_all(store: &SqliteStore) -> Result<(), StoreError> {
    loop {
        match store.fold() {
            Ok(true) => {}
            Ok(false) | Err(StoreError::Locked) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// How many suppressions would be made or extended; `seen` has what was asked for before.
fn would_change(
    store: Option<&SqliteStore>,
    asked: &[Asked],
    now: Time,
    seen: &mut HashSet<u64>,
) -> Result<u64, Failure> {
    let recipients: Vec<Recipient> = asked.iter().map(|one| one.recipient.clone()).collect();
    let standings = match store {
        Some(store) => store.standings(&recipients)?,
        None => vec![Default::default(); asked.len()],
    };
    let mut changed = 0;
    for (one, mut standing) in asked.iter().zip(standings) {
        for scope in &one.scopes {
            let (reason, until) = (one.reason, one.until);
            let act = Act::Import { import: 0, scope: scope.clone(), reason, until };
            let decision = decide(&standing, &act, now, one.since.unwrap_or(now), 0);
            let is_new = seen.insert(hash_of(&(&one.recipient.canonical(), scope, reason, until)));
            changed += u64::from(decision.changed && is_new);
            standing = decision.standing;
        }
    }
    Ok(changed)
}

fn hash_of(asked: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    asked.hash(&mut hasher);
    hasher.finish()
}
