//! The report for programs: a flat row for each group and period.

use serde::Serialize;

use super::Rate;
use crate::ledger::{Counted, Group, Span, Time};

/// One group in one period.
#[derive(Serialize)]
pub(super) struct Line {
    by: &'static str,
    pub(super) group: Option<String>,
    /// What tells a name from what is called so where there is none.
    kind: &'static str,
    /// How many groups are in the row, where that is known.
    groups: Option<u64>,
    since: Option<Time>,
    until: Option<Time>,
    opt_outs: u64,
    complaints: u64,
    bounces: u64,
    manual: u64,
    pauses: u64,
    undos: u64,
    returns: u64,
    imported: u64,
    said_why: u64,
    sent: Option<u64>,
    opt_outs_per_thousand: Option<f64>,
    opt_outs_per_thousand_low: Option<f64>,
    opt_outs_per_thousand_high: Option<f64>,
    complaints_per_thousand: Option<f64>,
    complaints_per_thousand_low: Option<f64>,
    complaints_per_thousand_high: Option<f64>,
}

impl Line {
    pub(super) fn new(by: &'static str, group: &Group, span: Span, counted: &Counted) -> Self {
        let Counted { acts, sent } = *counted;
        let opt_outs = Rate::of(acts.opt_outs, sent);
        let complaints = Rate::of(acts.complaints, sent);
        let (group, kind, groups) = match group {
            Group::Named(name) => (Some(name.clone()), "name", Some(1)),
            Group::Unnamed => (None, "none", Some(1)),
            Group::Others(count) => (Some("others".to_owned()), "others", *count),
        };
        Self {
            by,
            group,
            kind,
            groups,
            since: span.since,
            until: span.until,
            opt_outs: acts.opt_outs,
            complaints: acts.complaints,
            bounces: acts.bounces,
            manual: acts.manual,
            pauses: acts.pauses,
            undos: acts.undos,
            returns: acts.returns,
            imported: acts.imported,
            said_why: acts.said_why,
            sent: Some(sent).filter(|&sent| sent > 0),
            opt_outs_per_thousand: opt_outs.map(|rate| rate.value),
            opt_outs_per_thousand_low: opt_outs.map(|rate| rate.low),
            opt_outs_per_thousand_high: opt_outs.map(|rate| rate.high),
            complaints_per_thousand: complaints.map(|rate| rate.value),
            complaints_per_thousand_low: complaints.map(|rate| rate.low),
            complaints_per_thousand_high: complaints.map(|rate| rate.high),
        }
    }
}
