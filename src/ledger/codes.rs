//! What events say in one octet or one word: each value has a code, which is hashed and kept, and
//! a name, which interfaces use. Neither ever changes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

/// An enum with a stable code and name for each value.
macro_rules! coded {
    ($(#[$meta:meta])* $type:ident, $what:literal: $($(#[$doc:meta])* $variant:ident = $code:literal $name:literal,)+) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $($(#[$doc])* #[doc = concat!("Code ", $code, ", `", $name, "`.")] $variant = $code,)+
        }

        impl $type {
            /// Every value, in the order of the codes.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name that interfaces use.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The code that is kept.
            pub fn code(self) -> u8 {
                self as u8
            }

            /// The value of a code; `None` for a code that there is not.
            pub fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(format!("{} is one of {}", $what, [$($name),+].join(", "))),
                }
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    };
}

coded! {
    /// What an event says happened.
    Action, "an action":
    /// The recipient left a scope.
    OptOut = 1 "opt_out",
    /// The recipient came back to a list.
    OptIn = 2 "opt_in",
    /// The recipient wants nothing for a while.
    Pause = 3 "pause",
    /// The recipient chose how often a list's mail comes.
    Preference = 4 "preference",
    /// The recipient said why.
    Feedback = 5 "feedback",
    /// Mail could not be delivered for good.
    Bounce = 6 "bounce",
    /// The recipient reported spam.
    Complaint = 7 "complaint",
    /// A sender or operator recorded a suppression.
    Suppress = 8 "suppress",
    /// An operator ended a suppression.
    Release = 9 "release",
    /// A suppression came from another system's list.
    Import = 10 "import",
    /// The recipient's address and texts were erased.
    Forget = 11 "forget",
    /// The store was made from a backup.
    Restore = 12 "restore",
    /// A list became essential or ordinary.
    Describe = 13 "describe",
}

coded! {
    /// The way by which an event came.
    Source, "a source":
    /// A mailbox provider's POST (RFC 8058).
    OneClick = 1 "one_click",
    /// The form on the link's page.
    Page = 2 "page",
    /// A mail to the mailto form's address.
    Mailto = 3 "mailto",
    /// The API.
    Api = 4 "api",
    /// The command line.
    Cli = 5 "cli",
    /// An import.
    Import = 6 "import",
}

coded! {
    /// Why a suppression stands; the smaller code is the stronger reason.
    Reason, "a reason":
    /// A spam complaint. Holds until released.
    Complaint = 1 "complaint",
    /// A permanent delivery failure. Holds until released.
    Bounce = 2 "bounce",
    /// A decision of the sender. Holds until released or until its end.
    Manual = 3 "manual",
    /// The recipient's opt-out. Holds until the recipient opts in again.
    Unsubscribe = 4 "unsubscribe",
    /// The recipient's pause. Ends by itself.
    Pause = 5 "pause",
}

impl Reason {
    /// Whether only an operator's release ends it, never the recipient's opt-in.
    pub fn outlasts_opt_in(self) -> bool {
        matches!(self, Self::Complaint | Self::Bounce | Self::Manual)
    }
}

coded! {
    /// How often a recipient wants a list's mail, at most.
    Frequency, "a frequency":
    /// As often as it is sent: nothing is chosen.
    Every = 1 "every",
    /// Once a day.
    Daily = 2 "daily",
    /// Once a week.
    Weekly = 3 "weekly",
    /// Every two weeks.
    Fortnightly = 4 "fortnightly",
    /// Once a month.
    Monthly = 5 "monthly",
    /// Every three months.
    Quarterly = 6 "quarterly",
}

impl Frequency {
    /// How far apart two messages are at least: somewhat less than the name says, so that a
    /// mailing that goes out a little earlier than the last one, or after a short month, is not
    /// held back.
    pub fn interval(self) -> Duration {
        let hours = match self {
            Self::Every => 0,
            Self::Daily => 18,
            Self::Weekly => 6 * 24,
            Self::Fortnightly => 13 * 24,
            Self::Monthly => 27 * 24,
            Self::Quarterly => 88 * 24,
        };
        Duration::from_secs(hours * 60 * 60)
    }
}

coded! {
    /// Why a recipient left, by their own account.
    Why, "a reason for leaving":
    /// There was too much of it.
    TooOften = 1 "too_often",
    /// It did not concern them.
    NotRelevant = 2 "not_relevant",
    /// They did not sign up.
    NeverAsked = 3 "never_asked",
    /// They did not like what it said.
    Content = 4 "content",
    /// Something else.
    Other = 5 "other",
}
