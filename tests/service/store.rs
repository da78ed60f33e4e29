//! Stores that must not be opened, and what a store that fails while serving gets.

use std::fs;

use crate::common::{Connection, LIST, Place, eventually, text};

/// Every command, the service too, exits 2 with the file and a remedy.
fn refused(place: &Place, what: &str) {
    for arguments in
        [&["check", "--list", LIST, "a@example.org"][..], &["serve"], &["key", "new"], &["verify"]]
    {
        let output = place.run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(
            said.contains(what) && said.contains(&place.data().display().to_string()),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn a_store_that_is_not_ours_newer_or_of_another_secret_is_refused() {
    let place = Place::with_store();
    place.sqlite().pragma_update(None, "user_version", 99).expect("a pragma");
    refused(&place, "newer");

    let place = Place::with_store();
    place.sqlite().pragma_update(None, "application_id", 1).expect("a pragma");
    refused(&place, "not a store of optout");

    let (place, other) = (Place::with_store(), Place::with_store());
    fs::copy(other.data().join("store.secret"), place.data().join("store.secret")).expect("copied");
    refused(&place, "belongs to another store");
    fs::write(place.data().join("store.secret"), "optout_secret_short\n").expect("written");
    refused(&place, "does not hold a store's secret");
    fs::remove_file(place.data().join("store.secret")).expect("removed");
    refused(&place, "is missing");

    let place = Place::with_store();
    place
        .sqlite()
        .execute("UPDATE meta SET value = 2 WHERE name = 'canonical_version'", [])
        .expect("updated");
    refused(&place, "canonical form");

    let place = Place::with_store();
    fs::write(place.data().join("signing-keys.toml"), "[[key]]\nkey = \"optout_key_oops\"\n")
        .expect("written");
    let output = place.run(&["serve"]);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("signing-keys.toml"));
    assert!(!text(&output.stderr).contains("optout_key_oops"), "no secret in an error");
}

#[test]
fn verify_finds_each_kind_of_change() {
    let changes = [
        (
            "UPDATE event SET body = cast(substr(body, 1, 40) || x'00' || substr(body, 42) AS BLOB) WHERE number = 2",
            "event 2",
        ),
        ("UPDATE event SET leaf = zeroblob(32) WHERE number = 3", "event 3"),
        ("DELETE FROM event WHERE number = 2", "event 2"),
        ("UPDATE event SET number = 99 WHERE number = 4", "event 4"),
        ("UPDATE event SET number = 1 << 62 WHERE number = 4", "event 4 is missing"),
        ("UPDATE event SET prior = -1 WHERE number = 4", "event 4: what it is linked to"),
        ("UPDATE recipient SET standing = x''", "does not follow"),
        (
            "INSERT INTO recipient SELECT x'', last, address, standing FROM recipient LIMIT 1",
            "its row cannot be read",
        ),
        (
            "INSERT INTO recipient SELECT x'12', last, address, standing FROM recipient LIMIT 1;
             INSERT INTO recipient SELECT x'13000000000000000000000000000000', 1, NULL, standing
             FROM recipient WHERE last = 4 LIMIT 1",
            "recipient 13000000000000000000000000000000",
        ),
        (
            "UPDATE personal SET address = cast('mallory@example.org' AS BLOB) WHERE event = 1",
            "its address",
        ),
        ("UPDATE personal SET note = cast('forged' AS BLOB) WHERE event = 4", "event 4"),
        ("DELETE FROM recipient WHERE id = (SELECT min(id) FROM recipient)", "lacks event"),
        ("UPDATE event SET prior = NULL WHERE number = 4", "event 4: it is not linked"),
        ("UPDATE event SET prior = 1 WHERE number = 2", "event 2: it is not linked"),
        ("DELETE FROM personal WHERE event = 4", "its text is missing"),
        ("DELETE FROM personal WHERE event = 1", "its address"),
        (
            "INSERT INTO personal VALUES (0, cast('x@example.org' AS BLOB), NULL)",
            "belong to events",
        ),
        ("UPDATE recipient SET address = NULL", "brought the address"),
        ("DELETE FROM scope", "is not among the known ones"),
        ("INSERT INTO event VALUES (-1, NULL, x'', x'')", "before the first"),
        ("INSERT INTO personal VALUES (99, x'61', NULL)", "event 99 is missing"),
        (
            "CREATE TRIGGER t BEFORE INSERT ON recipient BEGIN SELECT raise(ignore); END",
            "trigger t",
        ),
        ("INSERT INTO description VALUES (9000, 'news.example.com', 1, 1)", "said to be essential"),
        ("UPDATE meta SET value = 9000 WHERE name = 'folded'", "said to be folded in"),
        ("INSERT INTO meta VALUES ('retention_cursor', 'x')", "beyond the last event"),
        (
            "CREATE TRIGGER sqliteX AFTER INSERT ON recipient BEGIN SELECT raise(ignore); END",
            "trigger sqliteX",
        ),
        ("INSERT INTO repeats SELECT id, 'x', -4 FROM recipient", "repeats are counted wrongly"),
        ("INSERT INTO webhook (name, cursor) VALUES ('w', 9000)", "a webhook is beyond"),
        ("INSERT INTO import VALUES (1, '', 5, 2, 0, x'', 0, 1, 0)", "an import is said to be"),
        ("DROP TABLE tree", "damaged: no such table: tree"),
        ("ALTER TABLE repeats ADD COLUMN more INTEGER", "the schema is not ours: table repeats"),
        ("INSERT INTO repeats VALUES (zeroblob(16), 'x', 1)", "unknown recipients"),
    ];
    for (change, names) in changes {
        let place = Place::with_store();
        place.done(&[
            "suppress",
            "a@example.org",
            "b@example.org",
            "c@example.org",
            "--list",
            LIST,
        ]);
        place.done(&["suppress", "a@example.org", "--all", "--note", "by phone"]);
        place.verify();
        place.sqlite().execute_batch(change).expect(change);
        let output = place.run(&["verify"]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{change}: {said}{}", text(&output.stderr));
        assert!(said.contains("NOT INTACT") && said.contains(names), "{change}: {said}");
    }
}

#[test]
fn requests_on_one_connection_and_many_at_once_are_all_recorded() {
    let place = Place::with_store();
    let service = place.serve();
    let recipients: Vec<_> = (0..400).map(|n| format!("r{n}@example.org")).collect();
    let paths = place.links(LIST, &recipients);
    std::thread::scope(|scope| {
        for part in paths.chunks(50) {
            let service = &service;
            scope.spawn(move || {
                let mut connection = Connection::open(service.public);
                for path in part {
                    assert_eq!(connection.request("POST", path, &[], b"").status, 200);
                }
            });
        }
        for n in 0..10 {
            place.done(&["suppress", &format!("cli{n}@example.org"), "--list", LIST]);
        }
    });
    let history = place.history();
    assert_eq!(history.len(), 410);
    let times: Vec<_> =
        history.iter().map(|event| event["at"].as_str().expect("a time").to_owned()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "newest first, never backwards");
    service.stop();
    place.verify();
}

/// A store whose database was lost must not come back empty, as if nobody had ever left.
#[test]
fn a_database_that_was_lost_or_emptied_is_not_made_anew() {
    for lose in
        [(|path| fs::remove_file(path)) as fn(std::path::PathBuf) -> std::io::Result<()>, |path| {
            fs::write(path, "")
        }]
    {
        let place = Place::with_store();
        place.done(&["suppress", "a@example.org", "--list", LIST]);
        lose(place.data().join("optout.db")).expect("lost");
        for arguments in
            [&["check", "--list", LIST, "a@example.org"][..], &["serve"], &["key", "new"]]
        {
            let output = place.run(arguments);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        }
    }
}

/// One recipient's damaged row keeps that recipient's clicks in the spool, and nobody else's.
#[test]
fn damage_to_one_recipient_concerns_nobody_else() {
    let place = Place::with_store();
    let service = place.serve();
    let recipients: Vec<_> = (0..300).map(|n| format!("r{n}@example.org")).collect();
    let paths = place.links(LIST, &recipients);
    let opted_out = place.link(LIST, "victim@example.org", "");
    assert_eq!(service.click(&opted_out).status, 200);
    // What stands already may be answered from memory; this link needs the row.
    let victim = place.link("other.example.com", "victim@example.org", "");
    let damage = || place.sqlite().execute("UPDATE recipient SET standing = x'ff'", []);
    eventually("it is folded in and damaged", || damage().expect("written") == 1);
    std::thread::scope(|scope| {
        for part in paths.chunks(75) {
            let service = &service;
            scope.spawn(move || {
                part.iter().for_each(|path| assert_eq!(service.click(path).status, 200))
            });
        }
        (0..50).for_each(|_| assert_eq!(service.click(&victim).status, 200));
    });
    assert_eq!(service.public("GET", "/healthz", &[], b"").body.trim(), "degraded");
    assert_eq!(service.metric("optout_spool_waiting"), 1, "however often it was clicked");
    recipients.iter().for_each(|recipient| assert_eq!(place.check(LIST, recipient), 1));
    let output = place.run(&["verify"]);
    assert!(output.status.code() == Some(1) && text(&output.stdout).contains("cannot be read"));
    // A store that was mended takes what waits at the next start.
    service.stop();
    place.sqlite().execute("DELETE FROM recipient WHERE standing = x'ff'", []).expect("mended");
    place.sqlite().execute("UPDATE meta SET value = 0 WHERE name = 'folded'", []).expect("mended");
    let service = place.serve();
    eventually("what waited is recorded", || {
        place.check("other.example.com", "victim@example.org") == 1
    });
    service.stop();
    place.verify();
}

#[test]
fn verify_names_a_damaged_page_and_exits_1() {
    use std::os::unix::fs::FileExt as _;
    let place = Place::with_store();
    let many: String = (0..3000).map(|n| format!("r{n}@example.org\n")).collect();
    place.run_with_input(&["suppress", "-", "--list", LIST], many.as_bytes());
    place.verify();
    let file =
        fs::OpenOptions::new().write(true).open(place.data().join("optout.db")).expect("open");
    let pages = file.metadata().expect("its size").len() / 4096;
    file.write_all_at(&[0xff; 4096], pages / 2 * 4096).expect("written");
    let output = place.run(&["verify"]);
    let said = text(&output.stdout);
    assert!(
        output.status.code() == Some(1) && said.contains("NOT INTACT"),
        "{said}{}",
        text(&output.stderr)
    );
}

/// SQLite goes on with a file that was removed, and nobody else would see what it writes.
#[test]
fn a_store_that_was_moved_away_takes_no_more_clicks() {
    let place = Place::with_store();
    let service = place.serve();
    let path = place.link(LIST, "a@example.org", "");
    fs::rename(place.data(), place.path().join("elsewhere")).expect("moved");
    eventually("it is noticed", || service.click(&path).status == 503);
    assert_eq!(service.public("GET", "/healthz", &[], b"").status, 503);
    let check = format!("/v1/check?list={LIST}&recipient=a@example.org");
    assert_eq!(
        service.api("GET", &check, &[], "").status,
        503,
        "nor does it say who may be sent to"
    );
    fs::rename(place.path().join("elsewhere"), place.data()).expect("moved back");
    eventually("it works again", || {
        service.click(&path).status == 200 && place.check(LIST, "a@example.org") == 1
    });
}

/// Else every click would look forged until the file is back.
#[test]
fn a_key_file_that_is_gone_leaves_the_keys_as_they_were() {
    let place = Place::with_store();
    let service = place.serve();
    let path = place.data().join("signing-keys.toml");
    let aside = place.path().join("aside.toml");
    let link = place.link(LIST, "a@example.org", "");
    fs::rename(&path, &aside).expect("moved");
    eventually("it is told", || service.log().contains("signing-keys.toml is gone"));
    assert_eq!(service.click(&link).status, 200);
    assert_eq!(service.public("GET", "/healthz", &[], b"").body.trim(), "degraded");
    fs::rename(&aside, &path).expect("moved back");
    eventually("all is well", || service.public("GET", "/healthz", &[], b"").body.trim() == "ok");
}

#[test]
fn a_directory_with_other_things_in_it_is_not_taken() {
    let place = Place::new();
    fs::create_dir(place.data()).expect("made");
    fs::write(place.data().join("letter.txt"), "").expect("written");
    for command in ["serve", "key"] {
        let arguments = if command == "key" {
            vec!["key", "new"]
        } else {
            vec!["serve", "--set", "public.listen=127.0.0.1:0", "--set", "api.listen=127.0.0.1:0"]
        };
        let output = place.run(&arguments);
        assert!(
            output.status.code() == Some(2) && text(&output.stderr).contains("other files"),
            "{}",
            text(&output.stderr)
        );
    }
    assert_eq!(fs::read_dir(place.data()).expect("a directory").count(), 1, "nothing was made");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = Place::new();
    let listen = format!("public.listen={}", taken.local_addr().expect("an address"));
    let output = place.run(&["serve", "--set", &listen]);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("another service"));
    assert!(!place.data().exists(), "a start that cannot succeed leaves no store");
}

/// What root changes beside a service that runs as another user stays that user's.
#[test]
fn files_keep_the_owner_of_the_directory() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let place = Place::with_store();
    if fs::metadata("/proc/self").expect("it is there").uid() != 0 {
        return crate::common::skip("only root can give files to another user");
    }
    for entry in fs::read_dir(place.data()).expect("a directory") {
        chown(entry.expect("an entry").path(), Some(65534), Some(65534)).expect("given");
    }
    chown(place.data(), Some(65534), Some(65534)).expect("given");
    place.done(&["key", "new"]);
    place.done(&["suppress", "a@example.org", "--list", LIST]);
    for entry in fs::read_dir(place.data()).expect("a directory") {
        let entry = entry.expect("an entry");
        assert_eq!(entry.metadata().expect("it is there").uid(), 65534, "{:?}", entry.path());
    }
}

/// Several first starts at once, as with containers that share a volume: one store comes of it.
#[test]
fn first_starts_at_once_make_one_store() {
    for _ in 0..10 {
        let place = Place::new();
        let children: Vec<_> = (0..4)
            .map(|_| {
                place
                    .command(&["key", "new"])
                    .stdout(std::process::Stdio::null())
                    .stderr(std::process::Stdio::null())
                    .spawn()
                    .expect("it runs")
            })
            .collect();
        for mut child in children {
            assert_eq!(child.wait().expect("it ends").code(), Some(0));
        }
        assert_eq!(place.json(&["key", "list"]).len(), 4);
        let left = fs::read_dir(place.data())
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name());
        assert!(left.into_iter().all(|name| !name.to_string_lossy().ends_with(".new")));
    }
}
