//! `optout export`

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;

use super::input::Compression;
use super::output::counted;
use super::output_file::OutputFile;
use super::{Context, Failure, Status, output};
use crate::ledger::{Essential, Reason, Standing, Store, Suppression, Surveyed, Time};
use crate::link::Scope;

const PROVIDERS_AND_EXAMPLES: &str = "\
What --to writes. With --reason bounce or complaint, sendgrid and mailgun
get the columns of their lists of these:
  postmark   EmailAddress,SuppressionReason,Origin,CreatedAt
  sendgrid   email,created
  mailgun    address,tags,created_at
  ses        address,BOUNCE or COMPLAINT; the former for every reason
             that is no complaint

Examples:
  optout export --csv suppressions.csv.gz
  optout export --to postmark --list news.example.com \\
      --without-forgotten > feed.csv";

/// Write out what stands
///
/// One suppression a row: recipient, scope, reason, since, until; as NDJSON, or as CSV. What `optout
/// import` makes of it in a new store is exported as the same file. It is the state of one moment,
/// whatever is written meanwhile. Which lists somebody came back to beneath a wider scope, and how often
/// they want one, is not in it: `optout backup` moves a whole store.
///
/// With --to, one row a recipient in the shape that a provider takes, for feeding it: those who are
/// suppressed for the --list, as `optout check` answers; without --list, those who are for everything.
/// What ends by itself is left out of these, since a provider does not end it.
///
/// Recipients who were forgotten stay suppressed here, and cannot be named to anybody else: they are
/// counted, and this exits 2 when the rest is written, unless --without-forgotten says that the reader
/// may miss them.
///
/// Addresses are exact, also where a spreadsheet would take one for a formula: do not open them in one.
#[derive(Debug, Args)]
#[command(after_help = PROVIDERS_AND_EXAMPLES)]
pub(super) struct Export {
    /// What stands within this scope, or covers it
    #[arg(long, value_name = "SCOPE")]
    list: Option<Scope>,

    /// What stands for this reason
    #[arg(long)]
    reason: Option<Reason>,

    /// Write CSV with a header
    #[arg(long, conflicts_with_all = ["json", "to"])]
    csv: bool,

    /// Write what this provider takes
    #[arg(long, value_name = "PROVIDER", conflicts_with = "json")]
    to: Option<Provider>,

    /// Leave forgotten recipients out, and say how many
    #[arg(long)]
    without_forgotten: bool,

    /// The file, compressed as its name says (.gz, .zst) [default: standard output]
    #[arg(value_name = "OUT")]
    file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Provider {
    Postmark,
    Sendgrid,
    Mailgun,
    Ses,
}

/// Columns in the order in which `optout import` knows them.
const COLUMNS: [&str; 5] = ["recipient", "scope", "reason", "since", "until"];

#[derive(Serialize)]
struct ExportView<'a> {
    recipient: &'a str,
    scope: &'a str,
    reason: Reason,
    since: Time,
    until: Option<Time>,
}

/// What was not written as it stands.
#[derive(Debug, Default)]
struct Missing {
    forgotten: u64,
    /// Recipients who left something narrower than was asked for.
    narrower: u64,
    /// Recipients whose suppression ends by itself.
    ending: u64,
    /// Addresses that spreadsheets take for formulas.
    formulas: u64,
}

impl Export {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        // Before the command's name, --json is not seen to conflict.
        if context.output.is_json() && (self.csv || self.to.is_some()) {
            return Err(Failure::new("--json cannot be used with --csv or --to: leave one out"));
        }
        let store = context.store()?;
        if let Some(Scope::List(list)) = &self.list {
            context.warn_if_unknown(&store, list)?;
        }
        let upto = store.look()?.last_event;
        let view = View {
            at: store.moment(context.now())?,
            essential: store.essential()?,
            scope: self.list.clone(),
            reason: self.reason,
        };
        let compression = self.file.as_deref().map_or(Compression::Plain, Compression::named);
        // It is full of addresses.
        let file = OutputFile::begin(self.file.as_deref(), compression, 0o600)?;
        let mut writer =
            Writer { file, view, to: self.to, csv: self.csv, missing: Missing::default() };
        writer.head()?;
        let mut after = 0;
        while after < upto {
            let survey = store.survey(after, upto)?;
            survey.recipients.iter().try_for_each(|one| writer.add(one))?;
            after = survey.upto;
            output::progress(&format!("{} % of the history read", 100 * after / upto));
        }
        output::end_progress();
        writer.file.finish()?;
        writer.missing.tell(self.to.is_some() && self.list.is_none());
        match counted(writer.missing.forgotten, "forgotten recipient") {
            _ if writer.missing.forgotten == 0 => Ok(Status::Done),
            left_out if self.without_forgotten => {
                output::warn(&format!("{left_out} left out"));
                Ok(Status::Done)
            }
            left_out => Err(self.incomplete(&left_out)),
        }
    }

    /// What was written may be used all the same, by who knows what it lacks.
    fn incomplete(&self, left_out: &str) -> Failure {
        let file = self.file.as_deref().filter(|path| *path != Path::new("-"));
        let file = file.map_or("standard output".to_owned(), |path| path.display().to_string());
        Failure::new(format!(
            "{file} was written, but without {left_out}, whom nobody can name: they stay suppressed here, \
             but whoever is fed with it would write to them; say --without-forgotten if that is all right"
        ))
    }
}

impl Missing {
    fn tell(&self, wants_everything: bool) {
        if self.narrower > 0 && wants_everything {
            output::warn(&format!(
                "{} left out, since they left something narrower than everything: say with --list what \
                 the provider sends",
                counted(self.narrower, "recipient")
            ));
        }
        if self.ending > 0 {
            output::warn(&format!(
                "{} left out, since their suppression ends by itself",
                counted(self.ending, "recipient")
            ));
        }
        output::warn_of_formulas(self.formulas, "address");
    }
}

/// What is asked for, at one moment.
struct View {
    at: Time,
    essential: Essential,
    scope: Option<Scope>,
    reason: Option<Reason>,
}

impl View {
    /// Everything that is asked for of what stands.
    fn all<'s>(&self, standing: &'s Standing) -> Vec<&'s Suppression> {
        let touches = |own: &Scope| {
            self.scope.as_ref().is_none_or(|scope| own.includes(scope) || scope.includes(own))
        };
        standing.active(self.at).filter(|own| touches(&own.scope) && self.wants(own)).collect()
    }

    /// Why nothing is sent to the scope, and without an end: the strongest reason, of the narrowest scope.
    fn covering<'s>(&self, standing: &'s Standing) -> Vec<&'s Suppression> {
        match &self.scope {
            Some(Scope::List(list)) => standing
                .applying(list, self.at, &self.essential)
                .filter(|own| self.wants(own))
                .collect(),
            _ => {
                let everything =
                    |own: &&Suppression| own.scope == Scope::Everything && self.wants(own);
                standing.active(self.at).filter(everything).collect()
            }
        }
    }

    fn wants(&self, own: &Suppression) -> bool {
        self.reason.is_none_or(|reason| own.reason == reason)
    }
}

struct Writer {
    file: OutputFile,
    view: View,
    to: Option<Provider>,
    csv: bool,
    missing: Missing,
}

impl Writer {
    fn head(&mut self) -> Result<(), Failure> {
        match self.to {
            Some(to) => self.row(to.columns(self.view.reason)),
            None if self.csv => self.row(&COLUMNS),
            None => Ok(()),
        }
    }

    /// Writes what is asked for of one recipient.
    fn add(&mut self, one: &Surveyed) -> Result<(), Failure> {
        let rows = match self.to {
            None => self.view.all(&one.standing),
            Some(_) => self.strongest(&one.standing).into_iter().collect(),
        };
        match &one.address {
            _ if rows.is_empty() => Ok(()),
            None => {
                self.missing.forgotten += 1;
                Ok(())
            }
            Some(address) => rows.into_iter().try_for_each(|own| self.one(address, own)),
        }
    }

    /// What a provider is told; what it is not told is counted.
    fn strongest<'s>(&mut self, standing: &'s Standing) -> Option<&'s Suppression> {
        let covering = self.view.covering(standing);
        let lasting = covering.iter().filter(|own| own.until.is_none());
        let strongest = lasting.min_by_key(|own| (own.reason, Reverse(own.scope.depth()))).copied();
        if strongest.is_none() {
            let others = standing.active(self.view.at).any(|own| self.view.wants(own));
            self.missing.ending += u64::from(!covering.is_empty());
            self.missing.narrower += u64::from(covering.is_empty() && others);
        }
        strongest
    }

    fn one(&mut self, address: &str, own: &Suppression) -> Result<(), Failure> {
        let (since, reason) = (own.since, own.reason);
        let is_table = self.csv || self.to.is_some();
        self.missing.formulas += u64::from(is_table && output::is_formula(address));
        if let Some(to) = self.to {
            return self.row(&to.row(address, own, self.view.reason));
        }
        let (recipient, scope, until) = (address, own.scope.as_str(), own.until);
        if self.csv {
            let until = until.map_or_else(String::new, |until| until.to_string());
            return self.row(&[recipient, scope, reason.name(), &since.to_string(), &until]);
        }
        let mut line = serde_json::to_vec(&ExportView { recipient, scope, reason, since, until })?;
        line.push(b'\n');
        self.file.write(&line)
    }

    fn row(&mut self, fields: &[impl AsRef<[u8]>]) -> Result<(), Failure> {
        // Amazon SES knows no header.
        if fields.is_empty() {
            return Ok(());
        }
        let mut writer = csv::WriterBuilder::new().buffer_capacity(256).from_writer(Vec::new());
        writer.write_record(fields)?;
        let line = writer.into_inner().map_err(|e| Failure::new(e.to_string()))?;
        self.file.write(&line)
    }
}

impl Provider {
    /// The header; none for what has none.
    fn columns(self, reason: Option<Reason>) -> &'static [&'static str] {
        match (self, reason) {
            (Self::Postmark, _) => &["EmailAddress", "SuppressionReason", "Origin", "CreatedAt"],
            (Self::Sendgrid, Some(Reason::Bounce)) => &["email", "reason", "status", "created"],
            (Self::Sendgrid, Some(Reason::Complaint)) => &["email", "created", "ip"],
            (Self::Sendgrid, _) => &["email", "created"],
            (Self::Mailgun, Some(Reason::Bounce)) => &["address", "code", "error", "created_at"],
            (Self::Mailgun, Some(Reason::Complaint)) => &["address", "created_at"],
            (Self::Mailgun, _) => &["address", "tags", "created_at"],
            (Self::Ses, _) => &[],
        }
    }

    fn row(self, address: &str, own: &Suppression, reason: Option<Reason>) -> Vec<String> {
        let text = |text: &str| text.to_owned();
        let address = text(address);
        let seconds = || (own.since.as_millis() / 1000).to_string();
        match (self, reason) {
            (Self::Postmark, _) => {
                let (reason, origin) = postmark(own.reason);
                vec![address, text(reason), text(origin), own.since.to_string()]
            }
            (Self::Sendgrid, Some(Reason::Bounce)) => vec![address, text(""), text(""), seconds()],
            (Self::Sendgrid, Some(Reason::Complaint)) => vec![address, seconds(), text("")],
            (Self::Sendgrid, _) => vec![address, seconds()],
            (Self::Mailgun, Some(Reason::Bounce)) => {
                vec![address, text("550"), text(""), in_rfc_2822(own.since)]
            }
            (Self::Mailgun, Some(Reason::Complaint)) => vec![address, in_rfc_2822(own.since)],
            (Self::Mailgun, _) => vec![address, text("*"), in_rfc_2822(own.since)],
            (Self::Ses, _) => {
                let reason = if own.reason == Reason::Complaint { "COMPLAINT" } else { "BOUNCE" };
                vec![address, text(reason)]
            }
        }
    }
}

/// Postmark's words for a reason and for whose it was.
fn postmark(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::Complaint => ("SpamComplaint", "Recipient"),
        Reason::Bounce => ("HardBounce", "Recipient"),
        Reason::Manual => ("ManualSuppression", "Customer"),
        Reason::Unsubscribe | Reason::Pause => ("ManualSuppression", "Recipient"),
    }
}

fn in_rfc_2822(time: Time) -> String {
    let time = Timestamp::from_millisecond(time.as_millis()).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}
