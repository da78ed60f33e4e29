//! The answer to a letter about one recipient: all that is held, and what proves it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{ShowView, StandingView};
use crate::cli::Failure;
use crate::cli::html::{Column, Document, Made, Table};
use crate::cli::output::or_dash;
use crate::ledger::audit::{AuditKey, InclusionProof, SignedCheckpoint};
use crate::ledger::{EventView, Recipient, Store};

/// What proves a page's words offline.
pub(super) struct Evidence {
    key: String,
    /// In base64.
    salt: String,
    checkpoint: String,
    /// Of each event, by its number.
    proofs: Vec<(u64, String)>,
}

impl Evidence {
    pub(super) fn gather(
        store: &dyn Store,
        key: &AuditKey,
        recipient: &Recipient,
        view: &ShowView,
    ) -> Result<Self, Failure> {
        let at = SignedCheckpoint::make(store, key.signer(), view.upto)?;
        let mut proofs = Vec::with_capacity(view.events.len());
        for event in &view.events {
            let proof = InclusionProof::make(store, &at, event.event)?;
            proofs.extend(proof.map(|proof| (event.event, proof.text())));
        }
        Ok(Self {
            key: key.public().to_string(),
            salt: STANDARD.encode(store.salt(recipient).octets()),
            checkpoint: at.note,
            proofs,
        })
    }
}

pub(super) fn page(view: &ShowView, evidence: &Evidence, made: Made) -> Document {
    let mut page = Document::new("What is held on one recipient", made);
    page.facts(facts(view));
    if !view.known {
        page.paragraph("Nothing is held on this recipient: no event is about them.");
        return page;
    }
    page.heading(match view.at {
        Some(at) => format!("What stood at {at}, and why"),
        None => "What stands, and why".to_owned(),
    });
    match view.suppressions.is_empty() {
        true => page.paragraph("Nothing: mail may be sent to this recipient."),
        false => page.table(standing(view)),
    }
    for list in &view.exceptions {
        page.paragraph(format!("The recipient came back to {list}, beneath a wider opt-out."));
    }
    for own in &view.frequencies {
        page.paragraph(format!(
            "The recipient wants {} at most {}, since {}.",
            own.list, own.frequency, own.since
        ));
    }
    page.heading("What happened, and who acted");
    page.paragraph(
        "Every event about this recipient, the newest first. Recorded is when it came in here, by the clock of \
         the service; occurred is when it happened by the account of whoever reported it, where that differs.",
    );
    page.table(events(&view.events));
    if view.repeats > 0 {
        page.paragraph(format!("{} repeats since the last event changed nothing.", view.repeats));
    }
    add_evidence(&mut page, evidence);
    page
}

fn facts(view: &ShowView) -> Vec<(&'static str, String)> {
    let address = view.address.clone().unwrap_or_else(|| match view.known {
        true => "forgotten: it was erased, and what stands is kept".to_owned(),
        false => "none".to_owned(),
    });
    vec![
        ("asked for", view.recipient.clone()),
        ("address", address),
        ("identifier", or_dash(view.recipient_id.as_ref())),
    ]
}

fn standing(view: &ShowView) -> Table {
    let columns = StandingView::HEAD.into_iter().map(Column::text).collect();
    let mut table = Table::new("What keeps mail from being sent", columns);
    view.suppressions.iter().for_each(|own| table.row(own.row()));
    table
}

fn events(events: &[EventView]) -> Table {
    let columns = ["event", "recorded", "what", "scope", "how and by whom", "more"];
    let columns = columns.into_iter().map(Column::text).collect();
    let mut table = Table::new("Events", columns);
    for event in events {
        let what = match event.changed {
            true => event.action.to_string(),
            false => format!("{} (changed nothing)", event.action),
        };
        let by = event.actor.as_ref().map(|actor| format!(", {actor}")).unwrap_or_default();
        table.row(vec![
            event.event.to_string(),
            event.at.to_string(),
            what,
            or_dash(event.scope.as_ref()),
            format!("{}{by}", event.source),
            more(event),
        ]);
    }
    table
}

/// What else an event says.
fn more(event: &EventView) -> String {
    let parts = [
        ("reason", event.reason.map(|reason| reason.to_string())),
        ("occurred", event.occurred.map(|at| at.to_string())),
        ("until", event.until.map(|until| until.to_string())),
        ("chosen", event.value.clone()),
        ("campaign", event.campaign.clone()),
        ("link key", event.key.clone()),
        ("takes back event", event.undoes.map(|number| number.to_string())),
        ("repeats before", Some(event.repeats).filter(|n| *n > 0).map(|n| n.to_string())),
        ("text", event.note.clone()),
    ];
    let parts = parts.into_iter().filter_map(|(name, value)| Some(format!("{name}: {}", value?)));
    parts.collect::<Vec<_>>().join("; ")
}

fn add_evidence(page: &mut Document, evidence: &Evidence) {
    page.heading_on_new_page("What proves it");
    page.paragraph(
        "Events name the recipient by an identifier: the first 16 octets of SHA-256(salt, then the address in \
         its canonical form, which is lower case). Whoever is given the salt can compute it, for this recipient \
         and no other. Each event's proof below leads from the event to the root that the checkpoint signs. \
         Save one to a file of its own and check it anywhere: optout audit verify-proof FILE --key KEY, with \
         the key that the service published, which should be the one below.",
    );
    page.facts([("key", evidence.key.as_str()), ("salt", &evidence.salt)]);
    page.heading("The checkpoint");
    page.verbatim(&evidence.checkpoint);
    for (event, proof) in &evidence.proofs {
        page.heading(format!("The proof of event {event}"));
        page.verbatim(proof);
    }
}
