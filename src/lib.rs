//! optout
#[cfg(feature = "server")]
pub mod ledger;
pub mod link;
