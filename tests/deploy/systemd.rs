//! The units: what systemd itself says of them, a restart on sockets that stay open, and whether
//! their filter lets through all that the service calls. No test needs a running systemd.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use crate::common::{Connection, LIST, Place};
use crate::{
    Clicks, HeldSockets, adapt, assert_opted_out, deployed, done, open_to_all, program, recipients,
    wait_for,
};

/// systemd-analyze(1) gives 0 for everything forbidden and 100 for nothing.
const EXPOSURE: &str = "10";
const EXPOSURE_WITH_WEBHOOKS: &str = "20";

/// Clicks go on over several restarts: each is answered, none is refused.
#[test]
fn a_restart_on_held_sockets_refuses_no_click() {
    let place = Place::with_store();
    let recipients = recipients(40);
    let links = place.links(LIST, &recipients);
    let sockets = HeldSockets::bind();
    let address = sockets.address();
    let mut service = sockets.serve(&place);
    let clicks = Clicks::start(&links, move |path| {
        let mut connection = Connection::open(address);
        let body = b"List-Unsubscribe=One-Click";
        connection.send_request("POST", path, &["Connection: close"], body);
        connection.reply("POST").map_or("none".to_owned(), |reply| reply.status.to_string())
    });
    for restart in 1..=3 {
        clicks.go_on(40);
        service = sockets.restart(&place, service);
        wait_for("the next process", || service.log().matches("listening").count() > restart);
    }
    clicks.all_answered();
    let mut api = Connection::open(sockets.api_address());
    assert_eq!(api.request("GET", "/metrics", &[], b"").status, 200, "the second is the API's");
    assert_opted_out(&place, &recipients);
}

/// Type=notify: systemd waits for READY=1, and is told of the end (sd_notify(3)).
#[test]
fn the_service_tells_systemd_when_it_is_ready_and_when_it_stops() {
    let place = Place::with_store();
    let path = place.path().join("notify");
    let notify = UnixDatagram::bind(&path).expect("a socket");
    notify.set_read_timeout(Some(crate::common::HANG)).expect("a socket option");
    let sockets = HeldSockets::bind();
    let mut command = place.command(&["serve"]);
    command.env("NOTIFY_SOCKET", &path);
    let mut service = sockets.activate(&command, place.path().join("service.log"));
    let next = || {
        let mut message = [0; 256];
        let n = notify.recv(&mut message).expect("a message in time");
        crate::common::text(&message[..n])
    };
    assert_eq!(next().trim(), "READY=1");
    let health = Connection::open(sockets.address()).request("GET", "/healthz", &[], b"");
    assert_eq!(health.status, 200);
    service.terminate();
    assert_eq!(next().trim(), "STOPPING=1");
    wait_for("the service to end", || service.ended().is_some());
}

/// The units as they are, with the path of the binary alone changed, in a directory.
fn units(dir: &Path) {
    let service =
        adapt(deployed("optout.service"), "/usr/bin/optout", env!("CARGO_BIN_EXE_optout"));
    fs::write(dir.join("optout.service"), service).expect("own directory");
    fs::write(dir.join("optout.socket"), deployed("optout.socket")).expect("own directory");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let test = "systemd_finds_nothing_wrong_with_the_units";
    let Some(analyze) = program(test, "systemd-analyze") else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    units(dir.path());
    let units = ["optout.service", "optout.socket"].map(|unit| dir.path().join(unit));
    let mut verify = Command::new(&analyze);
    let verify = verify.args(["verify", "--man=no"]).args(&units);
    let output = verify.output().expect("it runs");
    let said = crate::common::text(&output.stderr);
    // It also reads the machine's own units, and what is wrong with those is not ours.
    let ours: Vec<_> = said.lines().filter(|line| line.contains("optout")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
    let security = |threshold| {
        let mut security = Command::new(&analyze);
        done(security.args(["security", "--offline=yes", "--threshold", threshold]).arg(&units[0]));
    };
    security(EXPOSURE);
    let sockets: Vec<_> = deployed("optout.socket")
        .lines()
        .filter_map(|line| line.strip_prefix("ListenStream=").map(str::to_owned))
        .collect();
    assert_eq!(sockets, ["127.0.0.1:8080", "127.0.0.1:8081"], "the public listener comes first");
    // What webhooks need is added to that, and no more.
    let mut with_webhooks = fs::read_to_string(&units[0]).expect("the unit");
    with_webhooks.push_str(&deployed("optout.service.d/webhooks.conf"));
    fs::write(&units[0], with_webhooks).expect("own directory");
    security(EXPOSURE_WITH_WEBHOOKS);
}

/// The filter is seccomp's, which kills or refuses; so what the service calls, from its start over
/// a click, a webhook and a question to its end, is recorded and looked up in the sets that the unit names.
#[test]
fn the_units_filter_lets_through_what_the_service_calls() {
    let test = "the_units_filter_lets_through_what_the_service_calls";
    let Some(analyze) = program(test, "systemd-analyze") else { return };
    let (Some(strace), Some(setpriv)) = (program(test, "strace"), program(test, "setpriv")) else {
        return;
    };
    let webhook = "[[webhook]]\nname = \"shop\"\nurl = \"http://localhost:9/\"\n\
                   secret_files = [\"data/secret\"]\n\
                   allow_private = [\"127.0.0.0/8\", \"::1/128\"]\n";
    let place = Place::with_store().configured(webhook);
    open_to_all(place.path());
    let secret = place.data().join("secret");
    fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("own directory");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("own file");
    let binary = place.path().join("optout");
    fs::copy(env!("CARGO_BIN_EXE_optout"), &binary).expect("a copy");
    let link = place.link(LIST, "alice@example.org", "c");
    let is_root = done(Command::new("id").arg("-u")).trim() == "0";
    if is_root {
        done(Command::new("chown").args(["-R", "65534:65534"]).arg(place.data()));
    }
    let trace = place.path().join("trace");
    fs::write(&trace, "").expect("own directory");
    let mut command = Command::new(&strace);
    command.args(["-f", "-qq", "-o"]).arg(&trace);
    if is_root {
        // Root calls more than the unit's user does.
        command.arg(&setpriv).args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    let served = place.command(&["serve"]);
    command.arg(&binary).args(served.get_args()).current_dir(place.path());
    command.args(["--set", "public.listen=127.0.0.1:0", "--set", "api.listen=127.0.0.1:0"]);
    let service = crate::common::Service::start(command);
    assert_eq!(service.click(&link).status, 200);
    assert_eq!(service.public("GET", &link, &["Accept: text/html"], b"").status, 200);
    wait_for("nobody to take the message", || service.log().contains("not delivered"));
    let check = format!("/v1/check?list={LIST}&recipient=alice@example.org");
    assert_eq!(service.api("GET", &check, &[], "").json()["suppressed"], true);
    place.done(&["suppress", "bob@example.org", "--list", LIST, "--note", "asked"]);
    // strace passes the signal on to nobody, so its child is told.
    let children = format!("/proc/{0}/task/{0}/children", service.pid());
    let child = fs::read_to_string(children).expect("strace's child");
    done(Command::new("kill").args(["-TERM", child.trim()]));
    assert_eq!(service.wait().code(), Some(0));

    let allowed = filter(&analyze);
    let trace = fs::read_to_string(&trace).expect("a trace");
    // What strace and setpriv do before the service itself begins is not the service's.
    let began = trace.find(&format!("execve(\"{}\"", binary.display())).expect("its start");
    let called: BTreeSet<_> = trace[began..]
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1)?.split_once('('))
        .map(|(name, _)| name)
        .filter(|name| {
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        })
        .collect();
    assert!(["fsync", "accept4", "connect"].iter().all(|call| called.contains(call)), "{called:?}");
    let refused: Vec<_> = called.iter().filter(|name| !allowed.contains(**name)).collect();
    assert!(refused.is_empty(), "the unit forbids {refused:?}");
}

/// The system calls that the unit's SystemCallFilter= lines leave.
fn filter(analyze: &Path) -> BTreeSet<String> {
    let unit = deployed("optout.service");
    let mut allowed = BTreeSet::new();
    for value in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (removes, sets) = match value.strip_prefix('~') {
            Some(sets) => (true, sets),
            None => (false, value),
        };
        for call in sets.split_whitespace().flat_map(|set| members(analyze, set)) {
            match removes {
                true => allowed.remove(&call),
                false => allowed.insert(call),
            };
        }
    }
    assert!(allowed.len() > 100, "{allowed:?}");
    allowed
}

/// The calls of a set, with those of the sets in it.
fn members(analyze: &Path, set: &str) -> Vec<String> {
    if !set.starts_with('@') {
        return vec![set.to_owned()];
    }
    let listed = done(Command::new(analyze).args(["syscall-filter", set]));
    let names = listed.lines().skip(1).map(str::trim).filter(|name| !name.is_empty());
    names.filter(|name| !name.starts_with('#')).flat_map(|name| members(analyze, name)).collect()
}

/// The sample configuration, whose keys all stand as comments.
#[test]
fn the_sample_configuration_starts() {
    let place = Place::new();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/optout.toml");
    let service = place.serve_with(&["--config", sample.to_str().expect("UTF-8")]);
    assert_eq!(service.public("GET", "/healthz", &[], b"").status, 200);
    service.stop();
}
