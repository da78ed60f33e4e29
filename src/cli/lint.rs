//! `optout lint`

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::link::token_in;
use super::{Context, Failure, Status};
use crate::ledger::Recipient;
use crate::link::{Keyring, LintReport, lint};

/// No message that mailbox providers take is larger.
const MAX_MESSAGE: u64 = 64 * 1024 * 1024;

/// Check a message as it was sent or as it arrived
///
/// Says whether one-click will work with it: one of each header, https first, the values intact,
/// the link opens and for whom, both headers named in one DKIM signature's h=. Exits 1 when
/// something is wrong.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout lint message.eml")]
pub(super) struct Lint {
    /// The message; standard input when left out
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct FindingView {
    check: String,
    passed: bool,
    detail: String,
}

impl Lint {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        context.store()?;
        let report = lint(&self.read()?);
        let mut findings: Vec<_> = report
            .findings
            .iter()
            .map(|finding| FindingView {
                check: finding.check.to_string(),
                passed: finding.passed,
                detail: finding.detail.to_string(),
            })
            .collect();
        findings.push(check_link(&report, &context.keyring()?));
        if context.output.is_json() {
            findings.iter().try_for_each(|finding| context.output.object(finding))?;
        } else {
            let row = |finding: &FindingView| {
                let verdict = if finding.passed { "ok" } else { "WRONG" };
                vec![verdict.to_owned(), finding.check.clone(), finding.detail.clone()]
            };
            let rows: Vec<_> = findings.iter().map(row).collect();
            context.output.table(&["verdict", "check", "found"], &rows)?;
        }
        match findings.iter().all(|finding| finding.passed) {
            true => Ok(Status::Done),
            false => Ok(Status::No),
        }
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let mut message = Vec::new();
        let read = match &self.file {
            Some(path) => {
                let file = File::open(path);
                file.and_then(|file| file.take(MAX_MESSAGE).read_to_end(&mut message))
            }
            None => io::stdin().lock().take(MAX_MESSAGE).read_to_end(&mut message),
        };
        let name =
            self.file.as_ref().map_or("standard input".into(), |path| path.display().to_string());
        read.map_err(|e| Failure::new(format!("{name} cannot be read: {e}")))?;
        Ok(message)
    }
}

fn check_link(report: &LintReport, keyring: &Keyring) -> FindingView {
    let opened = match &report.link {
        None => Err("there is no https link to open".to_owned()),
        Some(link) => token_in(link)
            .ok_or_else(|| "the https link is not one of this service".to_owned())
            .and_then(|token| {
                keyring.open(&token).map_err(|e| format!("the link does not open: {e}"))
            }),
    };
    let check = "link".to_owned();
    match opened {
        Err(detail) => FindingView { check, passed: false, detail },
        Ok(opened) => {
            let link = opened.link;
            let recipient = Recipient::of_link(link.recipient());
            let detail = format!("it opens: {} leaves {}", recipient.written(), link.list());
            FindingView { check, passed: true, detail }
        }
    }
}
