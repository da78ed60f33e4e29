//! What the files of each provider state, in one table ([`MAPPINGS`]), and how a row of them becomes
//! what is recorded.
//!
//! | file | known by the fields | reason | since | scope, where `--list` names none |
//! |---|---|---|---|---|
//! | `optout export` | `recipient scope reason since until` | `reason` | `since` | `scope` |
//! | Postmark | `EmailAddress SuppressionReason` | `SpamComplaint`: complaint; `HardBounce`: bounce; `ManualSuppression`: unsubscribe, or manual when its `Origin` is not `Recipient` | `CreatedAt` | everything |
//! | SendGrid groups | `email group_id` | unsubscribe | `created_at` | of the group, by `--map` |
//! | SendGrid bounces | `email reason status` | bounce for a status of 5; others are no suppressions | `created` | everything |
//! | SendGrid spam reports | `email created ip` | complaint | `created` | everything |
//! | SendGrid, others | `email created` | none: needs `--reason` | `created` | none: needs `--list` |
//! | Mailgun bounces | `address error` | bounce | `created_at` | everything |
//! | Mailgun unsubscribes | `address tags` | unsubscribe | `created_at` | `*` or no tag: everything; of other tags, by `--map` |
//! | Mailgun complaints | `address created_at`, and `--from mailgun` | complaint | `created_at` | everything |
//! | Amazon SES | `EmailAddress Reason`, or two columns without header | `COMPLAINT`, `BOUNCE` | `LastUpdateTime` | everything |
//! | listmonk | `uuid email status` | none: needs `--status` | none | none: needs `--list` |
//! | Mailchimp unsubscribed | `Email Address UNSUB_TIME` | unsubscribe | `UNSUB_TIME`, in UTC | none: needs `--list` |
//! | Mailchimp cleaned | `Email Address CLEAN_TIME` | bounce | `CLEAN_TIME`, in UTC | none: needs `--list` |
//! | Mailchimp API | `email_address status` | `unsubscribed`: unsubscribe; `cleaned`: bounce; others are no suppressions | `last_changed` | of `list_id`, by `--map` |
//! | Mailchimp reports | `email_address campaign_id` | unsubscribe | `timestamp` | of `list_id`, by `--map` |
//! | any other CSV or NDJSON | a column with addresses | `reason` (one of ours), where it is empty `--reason`; or `--status` | `since`, `occurred`, `created_at` and the like | `scope` or `list` |
//! | one address a line | | `--reason` | none | `--list` |
//!
//! `--list` stands for the scope of every row of a provider whose own is not `--map`ped, and elsewhere of
//! those that state none.

use std::fmt;

use clap::ValueEnum;
use serde_json::Value;

use crate::cli::recipients::one_address;
use crate::cli::table::{Row, parse_time};
use crate::ledger::{Note, Reason, Recipient, Time};
use crate::link::Scope;

/// Whose export a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// What `optout export` writes
    Optout,
    Postmark,
    Sendgrid,
    Mailgun,
    Ses,
    Listmonk,
    Mailchimp,
    /// Any CSV or NDJSON, or one address a line
    Plain,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Optout => "optout",
            Self::Postmark => "Postmark",
            Self::Sendgrid => "SendGrid",
            Self::Mailgun => "Mailgun",
            Self::Ses => "Amazon SES",
            Self::Listmonk => "listmonk",
            Self::Mailchimp => "Mailchimp",
            Self::Plain => "no provider",
        })
    }
}

/// What a kind of file states, and where.
#[derive(Debug)]
pub(super) struct Mapping {
    pub format: Format,
    /// What the file holds.
    pub what: &'static str,
    /// Its fields, by which it is known.
    fields: &'static [&'static str],
    /// Whether these are too common to tell whose they are.
    only_when_named: bool,
    address: &'static [&'static str],
    since: &'static [&'static str],
    /// Whether times without an offset are UTC.
    is_utc: bool,
    reason: Stated<Reason>,
    scope: Stated<Scope>,
}

/// Where a row states something.
#[derive(Debug)]
enum Stated<T: 'static> {
    /// Nowhere: it has to be said.
    Nowhere,
    /// Every row of such a file has the same.
    Always(T),
    /// In one of these fields, by our own names.
    Plainly(&'static [&'static str]),
    /// In these fields, by the provider's names.
    In(&'static [&'static str]),
}

const ADDRESSES: &[&str] = &[
    "email",
    "email address",
    "emailaddress",
    "email_address",
    "e-mail",
    "mail",
    "address",
    "recipient",
];

const TIMES: &[&str] = &[
    "since",
    "occurred",
    "occurred_at",
    "unsubscribed_at",
    "created",
    "created_at",
    "timestamp",
    "date",
];

const PLAIN: Mapping = Mapping {
    format: Format::Plain,
    what: "suppressions",
    fields: &[],
    only_when_named: false,
    address: ADDRESSES,
    since: TIMES,
    is_utc: false,
    reason: Stated::Plainly(&["reason"]),
    scope: Stated::Plainly(&["scope", "list"]),
};

/// In the order in which they are tried.
const MAPPINGS: &[Mapping] = &[
    Mapping {
        format: Format::Optout,
        fields: &["recipient", "scope", "reason", "since", "until"],
        address: &["recipient"],
        since: &["since"],
        ..PLAIN
    },
    Mapping {
        format: Format::Postmark,
        fields: &["EmailAddress", "SuppressionReason"],
        since: &["CreatedAt"],
        reason: Stated::In(&["SuppressionReason", "Origin"]),
        scope: Stated::Always(Scope::Everything),
        ..PLAIN
    },
    Mapping {
        format: Format::Sendgrid,
        what: "group unsubscribes",
        fields: &["email", "group_id"],
        since: &["created_at", "created"],
        reason: Stated::Always(Reason::Unsubscribe),
        scope: Stated::In(&["group_name", "group_id"]),
        ..PLAIN
    },
    Mapping {
        format: Format::Sendgrid,
        what: "bounces",
        fields: &["email", "reason", "status", "created"],
        since: &["created"],
        reason: Stated::In(&["status"]),
        scope: Stated::Always(Scope::Everything),
        ..PLAIN
    },
    Mapping {
        format: Format::Sendgrid,
        what: "spam reports",
        fields: &["email", "created", "ip"],
        since: &["created"],
        reason: Stated::Always(Reason::Complaint),
        scope: Stated::Always(Scope::Everything),
        ..PLAIN
    },
    Mapping {
        format: Format::Sendgrid,
        what: "addresses",
        fields: &["email", "created"],
        since: &["created"],
        reason: Stated::Nowhere,
        scope: Stated::Nowhere,
        ..PLAIN
    },
    Mapping {
        format: Format::Mailgun,
        what: "bounces",
        fields: &["address", "error"],
        since: &["created_at"],
        reason: Stated::Always(Reason::Bounce),
        scope: Stated::Always(Scope::Everything),
        ..PLAIN
    },
    Mapping {
        format: Format::Mailgun,
        what: "unsubscribes",
        fields: &["address", "tags"],
        since: &["created_at"],
        reason: Stated::Always(Reason::Unsubscribe),
        scope: Stated::In(&["tags"]),
        ..PLAIN
    },
    Mapping {
        format: Format::Mailgun,
        what: "complaints",
        fields: &["address", "created_at"],
        only_when_named: true,
        since: &["created_at"],
        reason: Stated::Always(Reason::Complaint),
        scope: Stated::Always(Scope::Everything),
        ..PLAIN
    },
    Mapping {
        format: Format::Ses,
        fields: &["EmailAddress", "Reason"],
        since: &["LastUpdateTime"],
        reason: Stated::In(&["Reason"]),
        scope: Stated::Always(Scope::Everything),
        ..PLAIN
    },
    Mapping {
        format: Format::Listmonk,
        what: "subscribers",
        fields: &["uuid", "email", "status"],
        since: &[],
        reason: Stated::Nowhere,
        scope: Stated::Nowhere,
        ..PLAIN
    },
    Mapping {
        format: Format::Mailchimp,
        what: "unsubscribed contacts",
        fields: &["Email Address", "UNSUB_TIME"],
        since: &["UNSUB_TIME"],
        is_utc: true,
        reason: Stated::Always(Reason::Unsubscribe),
        scope: Stated::Nowhere,
        ..PLAIN
    },
    Mapping {
        format: Format::Mailchimp,
        what: "cleaned contacts",
        fields: &["Email Address", "CLEAN_TIME"],
        since: &["CLEAN_TIME"],
        is_utc: true,
        reason: Stated::Always(Reason::Bounce),
        scope: Stated::Nowhere,
        ..PLAIN
    },
    Mapping {
        format: Format::Mailchimp,
        what: "subscribed contacts",
        fields: &["Email Address", "LEID"],
        since: &[],
        reason: Stated::Nowhere,
        scope: Stated::Nowhere,
        ..PLAIN
    },
    Mapping {
        format: Format::Mailchimp,
        what: "contacts",
        fields: &["email_address", "status"],
        since: &["last_changed"],
        reason: Stated::In(&["status"]),
        scope: Stated::In(&["list_id"]),
        ..PLAIN
    },
    Mapping {
        format: Format::Mailchimp,
        what: "unsubscribes of a campaign",
        fields: &["email_address", "campaign_id"],
        since: &["timestamp"],
        reason: Stated::Always(Reason::Unsubscribe),
        scope: Stated::In(&["list_id"]),
        ..PLAIN
    },
    PLAIN,
];

/// What is said beside the file.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub column: Option<String>,
    pub list: Option<Scope>,
    pub reason: Option<Reason>,
    pub status: Vec<StatusMeaning>,
    pub map: Vec<GroupScope>,
    pub is_utc: bool,
}

/// That a status means a reason: `COLUMN=VALUE:REASON`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StatusMeaning {
    column: String,
    value: String,
    reason: Reason,
}

impl std::str::FromStr for StatusMeaning {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write COLUMN=VALUE:REASON, such as status=blocklisted:manual";
        let (column, meaning) = text.split_once('=').ok_or(form)?;
        let (value, reason) = meaning.rsplit_once(':').ok_or(form)?;
        Ok(Self { column: column.to_owned(), value: value.to_owned(), reason: reason.parse()? })
    }
}

/// What else a file may be that nobody named: one of those that are told from others by --from alone.
fn or_named(from: Option<Format>, has: impl Fn(&&str) -> bool) -> String {
    let fits = |mapping: &&Mapping| mapping.only_when_named && mapping.fields.iter().all(&has);
    let mapping = MAPPINGS.iter().find(fits).filter(|_| from.is_none());
    let named = mapping.and_then(|mapping| Some((mapping.format.to_possible_value()?, mapping)));
    named.map_or(String::new(), |(name, mapping)| {
        let Mapping { format, what, .. } = mapping;
        format!(", or with --from {} where these are {format}'s {what}", name.get_name())
    })
}

/// That a provider's group, tag or audience is a scope: `NAME=SCOPE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupScope {
    name: String,
    scope: Scope,
}

impl std::str::FromStr for GroupScope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, scope) = text
            .rsplit_once('=')
            .ok_or("write NAME=SCOPE, such as 'Weekly news=weekly.news.example.com'")?;
        Ok(Self {
            name: name.to_owned(),
            scope: scope.parse().map_err(|e| format!("{scope}: {e}"))?,
        })
    }
}

/// How the rows of one file are understood.
#[derive(Debug)]
pub(super) struct Reading {
    pub mapping: &'static Mapping,
    address: String,
    said: Said,
}

/// What a row asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub recipient: Recipient,
    pub scopes: Vec<Scope>,
    pub reason: Reason,
    pub since: Option<Time>,
    pub until: Option<Time>,
    pub note: Option<Note>,
}

impl Reading {
    /// Of a file with these fields.
    ///
    /// # Errors
    ///
    /// When nobody knows where it states what it has to, in words that say what to do.
    pub(super) fn of(
        names: &[impl AsRef<str>],
        is_list: bool,
        from: Option<Format>,
        said: Said,
    ) -> Result<Self, String> {
        let has =
            |wanted: &&str| names.iter().any(|name| name.as_ref().eq_ignore_ascii_case(wanted));
        let fits = |mapping: &&Mapping| {
            from.map_or(!mapping.only_when_named, |from| mapping.format == from)
                && mapping.fields.iter().all(has)
        };
        let mapping = MAPPINGS.iter().find(fits).ok_or_else(|| {
            format!(
                "it has not the fields of an export of {}: leave --from out to have it looked at",
                from.unwrap_or(Format::Plain)
            )
        })?;
        let address = match &said.column {
            Some(column) if has(&&**column) => column.clone(),
            Some(column) => return Err(format!("there is no column {column:?}")),
            None => mapping
                .address
                .iter()
                .find(|name| has(name))
                .ok_or("which column holds the addresses? Name it with --column NAME")?
                .to_string(),
        };
        let reading = Self { mapping, address, said };
        reading.check(is_list, has).map_err(|what| what + &or_named(from, has))?;
        reading.refuse_ambiguity(names)?;
        Ok(reading)
    }

    /// Nothing that decides is there twice: nobody knows which of them was meant.
    fn refuse_ambiguity(&self, names: &[impl AsRef<str>]) -> Result<(), String> {
        let Self { mapping, said, address } = self;
        let is_there_twice = |used: &&str| {
            let same = |name: &&_| AsRef::<str>::as_ref(*name).eq_ignore_ascii_case(used);
            names.iter().filter(same).count() > 1
        };
        let stated = [mapping.reason.fields(), mapping.scope.fields(), mapping.since, &["until"]];
        let statuses = said.status.iter().map(|meaning| &*meaning.column);
        let mut used = stated.concat().into_iter().chain(statuses).chain([&**address]);
        if let Some(name) = used.find(is_there_twice) {
            return Err(format!("the column {name:?} is there more than once: rename all but one"));
        }
        let twice = said.map.iter().find(|own| self.mapped(&own.name) != Some(&own.scope));
        twice.map_or(Ok(()), |own| {
            Err(format!("--map names {:?} twice, with different scopes: leave one out", own.name))
        })
    }

    fn mapped(&self, name: &str) -> Option<&Scope> {
        self.said.map.iter().find(|own| own.name == name).map(|own| &own.scope)
    }

    /// Everything that a row needs is stated or said, and nothing is said that is stated.
    fn check(&self, is_list: bool, has: impl Fn(&&str) -> bool) -> Result<(), String> {
        let Self { mapping, said, .. } = self;
        for meaning in &said.status {
            if !has(&&*meaning.column) {
                return Err(format!("there is no column {:?}", meaning.column));
            }
        }
        let is_said = said.reason.is_some() || !said.status.is_empty();
        let (states_reason, states_scope) =
            (mapping.reason.is_stated(&has), mapping.scope.is_stated(&has));
        match mapping.format {
            _ if states_reason && is_said && mapping.format != Format::Plain => {
                return Err("it states its reasons: leave --reason and --status out".to_owned());
            }
            Format::Listmonk if said.status.is_empty() => {
                return Err("a listmonk subscriber export does not say which lists were left, and only its \
                            statuses say that mail is unwanted: say what they mean, as with --status \
                            status=blocklisted:manual, and name the scope with --list"
                    .to_owned());
            }
            Format::Mailchimp if mapping.what == "subscribed contacts" && !is_said => {
                return Err(
                    "these are Mailchimp's subscribed contacts, whom nothing keeps from being \
                            written to: import those that are unsubscribed or cleaned"
                        .to_owned(),
                );
            }
            _ => {}
        }
        let what = match is_list {
            true => "one address a line states neither reason nor scope",
            false => "it does not state everything",
        };
        let missing: Vec<_> = [
            (!states_reason && !is_said).then_some("--reason REASON"),
            (!states_scope && said.list.is_none()).then_some("--list SCOPE"),
        ]
        .into_iter()
        .flatten()
        .collect();
        match missing[..] {
            [] => Ok(()),
            _ => Err(format!("{what}: say it with {}", missing.join(" and "))),
        }
    }

    /// Everything by which the same file would be read otherwise.
    pub(super) fn plan(&self) -> String {
        format!("{} {}; {}; {:?}", self.mapping.format, self.mapping.what, self.address, self.said)
    }

    /// What a row asks for; `None` when it is no suppression.
    ///
    /// # Errors
    ///
    /// What is wrong with the row.
    pub(super) fn read(&self, row: &Row, now: Time) -> Result<Option<Asked>, String> {
        let Some(reason) = self.reason(row)? else { return Ok(None) };
        let recipient = self.recipient(row)?;
        let scopes = self.scopes(row)?;
        let since = self.first_of(row, self.mapping.since);
        let since = parse_time(&row.text(since), self.mapping.is_utc || self.said.is_utc)?;
        let until = match self.mapping.format {
            Format::Optout | Format::Plain => parse_time(&row.text("until"), self.said.is_utc)?,
            _ => None,
        };
        match (reason, until) {
            // It is over, or there never was one.
            (_, Some(until)) if until <= now => return Ok(None),
            (Reason::Unsubscribe, Some(_)) => return Err("an unsubscribe has no end".to_owned()),
            (Reason::Pause, None) => {
                return Err("a pause needs its end, in the column until".to_owned());
            }
            _ => {}
        }
        let note = self.note(row, since.is_some());
        Ok(Some(Asked { recipient, scopes, reason, since, until, note }))
    }

    /// Our own export names whoever was written to, address or not, exactly.
    fn recipient(&self, row: &Row) -> Result<Recipient, String> {
        match (self.mapping.format, row.get(&self.address)) {
            (Format::Optout, Some(Value::String(text))) if !text.is_empty() => {
                Ok(Recipient::of_link(text))
            }
            _ => one_address(&row.text(&self.address)),
        }
    }

    fn first_of(&self, row: &Row, names: &[&'static str]) -> &'static str {
        names.iter().find(|name| row.get(name).is_some()).copied().unwrap_or("")
    }

    fn reason(&self, row: &Row) -> Result<Option<Reason>, String> {
        if !self.said.status.is_empty() {
            let means = |meaning: &&StatusMeaning| row.text(&meaning.column) == meaning.value;
            return Ok(self.said.status.iter().find(means).map(|meaning| meaning.reason));
        }
        match &self.mapping.reason {
            Stated::Always(reason) => Ok(Some(*reason)),
            Stated::Nowhere => Ok(self.said.reason),
            Stated::Plainly(names) => {
                let name = self.first_of(row, names);
                match (&*row.text(name), self.said.reason) {
                    ("", Some(reason)) => Ok(Some(reason)),
                    ("", None) => Err("it states no reason: say it with --reason".to_owned()),
                    (text, _) => text.to_ascii_lowercase().parse().map(Some).map_err(|what: String| {
                        format!("{what}; say what it means with --status {name}={text:?}:REASON, or give the \
                                 column another name to have it ignored")
                    }),
                }
            }
            Stated::In(_) => providers_reason(self.mapping.format, row),
        }
    }

    fn scopes(&self, row: &Row) -> Result<Vec<Scope>, String> {
        let otherwise =
            |own: Option<Scope>| self.said.list.clone().or(own).map(|scope| vec![scope]);
        let unsaid = || "it states no scope: say it with --list SCOPE".to_owned();
        match &self.mapping.scope {
            Stated::Nowhere => otherwise(None).ok_or_else(unsaid),
            Stated::Always(scope) => otherwise(Some(scope.clone())).ok_or_else(unsaid),
            Stated::Plainly(names) => match &*row.text(self.first_of(row, names)) {
                "" => otherwise(None).ok_or_else(unsaid),
                text => Ok(vec![text.parse().map_err(|e| format!("its scope: {e}"))?]),
            },
            Stated::In(names) => self.groups(row, names),
        }
    }

    /// The scopes of groups, of which a row may have several.
    fn groups(&self, row: &Row, names: &[&'static str]) -> Result<Vec<Scope>, String> {
        match names.iter().find_map(|name| several(row.get(name)?)).as_deref() {
            Some([]) => return Ok(vec![self.group("")?]),
            Some(several) => {
                let group = |name: &Value| self.group(name.as_str().unwrap_or_default());
                return several.iter().map(group).collect();
            }
            None => {}
        }
        let texts = || names.iter().map(|name| row.text(name)).filter(|text| !text.is_empty());
        let text = texts().find(|text| self.mapped(text).is_some()).or_else(|| texts().next());
        self.group(&text.unwrap_or_default()).map(|scope| vec![scope])
    }

    fn group(&self, name: &str) -> Result<Scope, String> {
        let (name, is_everything) = match (self.mapping.format, name) {
            (Format::Mailgun, "" | "*") => ("*", true),
            (_, name) => (name, false),
        };
        let scope = self.mapped(name).or(self.said.list.as_ref()).cloned();
        scope.or(is_everything.then_some(Scope::Everything)).ok_or_else(|| match name {
            "" => "it names no group or audience: say its scope with --list SCOPE".to_owned(),
            _ => format!(
                "nobody said what {name:?} is: say it with --map {name:?}=SCOPE, or --list SCOPE for all"
            ),
        })
    }

    /// What the row states beyond what was understood, where forgetting reaches it.
    fn note(&self, row: &Row, has_since: bool) -> Option<Note> {
        let is_used = |name: &str| {
            let is = |used: &&str| used.eq_ignore_ascii_case(name);
            let is_ours = matches!(self.mapping.format, Format::Optout | Format::Plain);
            is(&&*self.address)
                || (has_since && is(&self.first_of(row, self.mapping.since)))
                || (is_ours && ["until", "scope", "list"].iter().any(is))
                || (is_ours && is(&"reason") && row.text(name).parse::<Reason>().is_ok())
        };
        let is_empty = |value: &Value| value.is_null() || value.as_str().is_some_and(str::is_empty);
        let mut fields: serde_json::Map<String, Value> = row
            .fields
            .iter()
            .filter(|(name, value)| !is_used(name) && !is_empty(value))
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect();
        drop_longest(&mut fields);
        if fields.is_empty() {
            return None;
        }
        // JSON escapes control characters in ASCII; the others have no place in a note.
        let text = serde_json::to_string(&fields).ok()?;
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        Note::parse(&text).ok().flatten()
    }
}

/// Leaves as many fields as a note has room for, and says how many it has not.
fn drop_longest(fields: &mut serde_json::Map<String, Value>) {
    const LEFT_OUT: &str = "fields too long to be kept";
    // Quotes, colon, comma and escapes of the name; the value brings its own.
    let length = |(name, value): (&String, &Value)| {
        let name_length = Value::from(&**name).to_string().len();
        (name_length + value.to_string().len() + 2, name.clone())
    };
    let mut lengths: Vec<_> = fields.iter().map(length).collect();
    let mut total: usize = 2 + lengths.iter().map(|(length, _)| length).sum::<usize>();
    if total <= Note::MAX_LEN {
        return;
    }
    lengths.sort_unstable();
    total += LEFT_OUT.len() + 16;
    let mut left_out = 0;
    while let Some((length, name)) = lengths.pop_if(|_| total > Note::MAX_LEN) {
        fields.remove(&name);
        (total, left_out) = (total - length, left_out + 1);
    }
    fields.insert(LEFT_OUT.to_owned(), left_out.into());
}

impl<T> Stated<T> {
    fn fields(&self) -> &'static [&'static str] {
        match self {
            Self::Nowhere | Self::Always(_) => &[],
            Self::Plainly(names) | Self::In(names) => names,
        }
    }

    fn is_stated(&self, has: impl Fn(&&str) -> bool) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Always(_) | Self::In(_) => true,
            Self::Plainly(names) => names.iter().any(has),
        }
    }
}

/// What a provider's own word for the reason means; `None` when it is no suppression.
fn providers_reason(format: Format, row: &Row) -> Result<Option<Reason>, String> {
    let (field, word) = match format {
        Format::Postmark => ("SuppressionReason", row.text("SuppressionReason")),
        Format::Ses => ("Reason", row.text("Reason")),
        _ => ("status", row.text("status")),
    };
    let reason = match (format, &*word) {
        (Format::Postmark, "SpamComplaint") => Reason::Complaint,
        (Format::Postmark, "HardBounce") => Reason::Bounce,
        (Format::Postmark, "ManualSuppression") => match &*row.text("Origin") {
            "Recipient" => Reason::Unsubscribe,
            _ => Reason::Manual,
        },
        (Format::Ses, "COMPLAINT") => Reason::Complaint,
        (Format::Ses, "BOUNCE") => Reason::Bounce,
        // RFC 3463 section 3.1: 5 is permanent. Without a status there is only the list's name to go by.
        (Format::Sendgrid, status) if status.is_empty() || status.starts_with('5') => {
            Reason::Bounce
        }
        (Format::Sendgrid, status) if status.starts_with('4') => return Ok(None),
        (Format::Mailchimp, "unsubscribed") => Reason::Unsubscribe,
        (Format::Mailchimp, "cleaned") => Reason::Bounce,
        (Format::Mailchimp, _) => return Ok(None),
        _ => return Err(format!("{field} {word:?} is none that {format} has")),
    };
    Ok(Some(reason))
}

/// What is an array, also where it was written into a field of CSV.
fn several(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(several) => Some(several.clone()),
        Value::String(text) => serde_json::from_str(text).ok(),
        _ => None,
    }
}
