//! Litestream beside the service: what it copies can be served from, and what `forget` needs.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::common::{LIST, Place, text};
use super::{Running, adapt, deployed, program, wait_for};

struct Litestream {
    program: std::path::PathBuf,
    configuration: std::path::PathBuf,
}

impl Litestream {
    /// The deployed configuration, upon a store of a test.
    fn upon(place: &Place, program: std::path::PathBuf) -> Self {
        let database = place.data().join("optout.db");
        let replica = place.path().join("replica");
        let shown = |path: &Path| path.display().to_string();
        let path = "path: /var/lib/optout/optout.db";
        let text = adapt(deployed("litestream.yml"), path, &format!("path: {}", shown(&database)));
        let path = "path: /var/backups/optout/litestream";
        let text = adapt(text, path, &format!("path: {}", shown(&replica)));
        let configuration = place.path().join("litestream.yml");
        fs::write(&configuration, text).expect("written");
        Self { program, configuration }
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args([name, "-config"]).arg(&self.configuration).args(arguments);
        command
    }

    fn done(&self, name: &str, arguments: &[&str]) {
        let output = self.command(name, arguments).output().expect("it runs");
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
    }

    /// Runs it until it is told to end.
    fn replicate(&self, place: &Place) -> Running {
        Running::start(self.command("replicate", &[]), place.path().join("litestream.log"))
    }
}

#[test]
fn what_litestream_copies_can_be_served_from() {
    let Some(program) = program("litestream", "litestream") else { return };
    let place = Place::with_store();
    let keys = place.path().join("keys");
    place.done(&["backup", keys.to_str().expect("UTF-8")]);
    let service = place.serve();
    let litestream = Litestream::upon(&place, program);
    let running = litestream.replicate(&place);
    let recipients: Vec<_> = (0..200).map(|n| format!("r{n}@example.org")).collect();
    for path in place.links(LIST, &recipients) {
        assert_eq!(service.click(&path).status, 200);
    }
    place.verify();

    // The database comes from Litestream, the secret and the keys from a backup.
    let database = place.data().join("optout.db");
    let copy = Place::new();
    copy.done(&["restore", keys.to_str().expect("UTF-8")]);
    let target = copy.data().join("optout.db");
    let (from, to) = (database.to_str().expect("UTF-8"), target.to_str().expect("UTF-8"));
    wait_for("all clicks to be copied", || {
        let _ = fs::remove_file(&target);
        let output = litestream.command("restore", &["-o", to, from]).output().expect("it runs");
        output.status.success() && copy.history().len() == recipients.len()
    });
    copy.verify();
    copy.done(&["backup", "whole"]);
    let new = Place::new();
    new.done(&["restore", copy.path().join("whole").to_str().expect("UTF-8")]);
    new.verify();
    assert_eq!(new.check(LIST, &recipients[199]), 1);

    // While it reads, the log keeps what was erased; afterwards it does not.
    let output = place.run(&["forget", &recipients[0]]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("optout.db-wal"), "{said}");
    stop(running);
    place.done(&["forget", &recipients[0]]);
    litestream.done("reset", &[from]);
    let found = Command::new("grep").args(["-rla", "r0@example"]).arg(place.data()).output();
    assert_eq!(text(&found.expect("grep runs").stdout), "");
    let running = litestream.replicate(&place);
    assert_eq!(service.click(&place.link(LIST, "new@example.org", "")).status, 200);
    wait_for("it to go on", || running.log().contains("replicating to"));
    stop(running);
    service.stop();
    place.verify();
}

fn stop(mut running: Running) {
    running.terminate();
    assert!(running.child.wait().expect("it ends").success(), "{}", running.log());
}
