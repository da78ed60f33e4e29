//! optout
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod ledger;
pub mod link;
#[cfg(feature = "server")]
pub mod mail;
#[cfg(feature = "server")]
pub mod serve;
