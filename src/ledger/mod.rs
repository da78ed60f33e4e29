//! What is remembered and decided: recipients, the history of events, the policy, and the store
//! that keeps them.
//!
//! One history, written first, is the truth. [`decide`] says what an act comes to, purely;
//! [`Store`] is the contract of what keeps it, and [`SqliteStore`] keeps it in SQLite;
//! [`Recorder`] gathers the acts of many tasks into few transactions.
//!
//! This room knows nothing of HTTP, of tokens, or of the clock.

mod api_key;
pub mod audit;
mod backup;
mod codes;
mod data_dir;
mod error;
mod essential;
mod event;
mod import;
mod key_file;
mod late_store;
mod policy;
mod recipient;
mod recorder;
mod spool;
mod sqlite;
mod staging;
mod standing;
mod stats;
mod store;
mod tally;
mod time;
pub mod tree;
mod unclaimed;
mod view;
mod waiting;
mod webhook;

pub use api_key::{ApiKey, Role};
pub use backup::{BackupError, Contents, Restored};
pub use codes::{Action, Frequency, Reason, Source, Why};
pub use data_dir::DataDir;
pub use error::StoreError;
pub use essential::Essential;
pub use event::{Event, LinkMark, leaf_hash};
pub use import::{Import, ImportMark, Withdrawal};
pub use key_file::{KeyFile, KeyFileError, StoredKey};
pub use late_store::LateStore;
pub use policy::{Act, Decision, decide, withdrawal};
pub use recipient::{Canonical, Recipient, RecipientError, RecipientId, Salt, StoreSecret};
pub use recorder::{Kept, Recorder, RecorderCounts, SpoolSettings, Surroundings};
pub use spool::{Spool, SpoolMark, Spooled};
pub use sqlite::{Hindsight, PastAnswer, PastQuestion, Screen, SqliteStore};
pub use standing::{Preference, Standing, Suppression};
pub use stats::{Cell, Counts, Span, count};
pub use store::{
    Command, Dropped, Entry, ForgetRequest, Forgotten, Holding, Look, Note, Outcome, Page, Store,
    Survey, Surveyed, Verification,
};
pub use tally::{Acts, By, Counted, Group, Tally, TallyRow, interval, rows};
pub use time::{Time, TimeError};
pub use unclaimed::{Unclaimed, UnclaimedClick, UnclaimedClicks};
pub use view::{EventView, SuppressionView};
pub use waiting::Waiting;
pub use webhook::{WebhookMark, WebhookStart};

/// Octets in lower-case hexadecimal digits.
pub(crate) fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Serializes what has a text form as that text.
pub(crate) fn as_text<T: std::fmt::Display, S: serde::Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
