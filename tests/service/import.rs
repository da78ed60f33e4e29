//! `import`, `export` and `release --import`, with files as providers write them (`tests/import/`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::common::{Place, is_long, text};

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name);
    path.to_str().expect("UTF-8").to_owned()
}

/// What stands, as the export's rows without their header.
fn exported(place: &Place) -> Vec<String> {
    place.done(&["export", "--csv"]).lines().skip(1).map(str::to_owned).collect()
}

/// Imports a file that is written for it; its exit status and what it said.
fn import(place: &Place, name: &str, content: impl AsRef<[u8]>, options: &[&str]) -> (i32, String) {
    let path = place.path().join(name);
    fs::write(&path, content).expect("written");
    let path = path.to_str().expect("UTF-8");
    let output = place.run(&[&["import", path], options].concat());
    let said = text(&output.stdout) + &text(&output.stderr);
    (output.status.code().expect("it ends by itself"), said)
}

fn gzip(content: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip runs");
    let (mut stdin, content) = (child.stdin.take().expect("piped"), content.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&content).expect("gzip reads"));
    let output = child.wait_with_output().expect("gzip ends");
    writer.join().expect("written");
    output.stdout
}

/// A file, the options it needs, and the rows of the export that come of it.
type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

const LEFT: &str = "left@example.org,*,unsubscribe,2025-03-04T10:06:07.000Z,";
const GONE: &str = "gone@example.org,*,bounce,2025-03-06T09:20:30.000Z,";
const ANGRY: &str = "angry@example.org,*,complaint,2025-03-07T11:12:13.000Z,";

#[test]
fn each_providers_reasons_dates_and_scopes_are_understood() {
    const NEWS: &str = "news.example.com";
    let bounced = &["gone@example.org,*,bounce,2025-03-04T10:06:07.000Z,"][..];
    let complained = &["angry@example.org,*,complaint,2025-03-04T10:06:07.000Z,"][..];
    let groups = &["--map", "Weekly news=weekly.example.com", "--map", "18=offers.example.com"][..];
    let grouped = &[
        "left@example.org,weekly.example.com,unsubscribe,2025-03-04T10:06:07.000Z,",
        "both@example.org,offers.example.com,unsubscribe,2025-03-04T10:06:08.000Z,",
    ][..];
    let manual = &["--list", NEWS, "--reason", "manual"][..];
    let said = &[
        "left@example.org,news.example.com,manual,2025-03-04T10:06:07.000Z,",
        "gone@example.org,news.example.com,manual,2025-03-05T10:06:07.000Z,",
    ][..];
    let mailgun_complaint = &["angry@example.org,*,complaint,2025-01-08T09:00:00.000Z,"][..];
    let mailgun_bounce = &["gone@example.org,*,bounce,2024-05-06T18:11:58.000Z,"][..];
    let left_news = "left@example.org,news.example.com,unsubscribe,2024-05-06T07:08:09.000Z,";
    let gone_news = "gone@example.org,news.example.com,bounce,2024-06-07T08:09:10.000Z,";
    let cases: &[Case] = &[
        (
            "postmark.csv",
            &[],
            &[LEFT, "blocked@example.org,*,manual,2025-03-05T00:00:00.000Z,", GONE, ANGRY],
        ),
        ("postmark.json", &[], &[LEFT, GONE, ANGRY]),
        ("sendgrid-bounces.csv", &[], bounced),
        ("sendgrid-bounces.json", &[], bounced),
        ("sendgrid-spam-reports.csv", &[], complained),
        ("sendgrid-spam-reports.json", &[], complained),
        ("sendgrid-groups.csv", groups, grouped),
        ("sendgrid-groups.json", groups, grouped),
        ("sendgrid-global.csv", manual, said),
        ("sendgrid-global.json", manual, said),
        ("mailgun-bounces.csv", &[], mailgun_bounce),
        ("mailgun-bounces.json", &[], mailgun_bounce),
        ("mailgun-complaints.csv", &["--from", "mailgun"], mailgun_complaint),
        ("mailgun-complaints.json", &["--from", "mailgun"], mailgun_complaint),
        (
            "mailgun-unsubscribes.csv",
            &["--map", "offers=offers.example.com"],
            &[
                "left@example.org,*,unsubscribe,2025-01-07T19:25:45.000Z,",
                "both@example.org,offers.example.com,unsubscribe,2025-01-07T19:25:46.000Z,",
            ],
        ),
        (
            "mailgun-unsubscribes.json",
            &["--map", "offers=offers.example.com", "--list", NEWS],
            &[
                "left@example.org,news.example.com,unsubscribe,2025-01-07T19:25:45.000Z,",
                "both@example.org,news.example.com,unsubscribe,2025-01-07T19:25:46.000Z,",
                "both@example.org,offers.example.com,unsubscribe,2025-01-07T19:25:46.000Z,",
            ],
        ),
        (
            "ses.json",
            &[],
            &[
                "gone@example.org,*,bounce,2025-02-03T04:05:06.789Z,",
                "angry@example.org,*,complaint,2025-02-04T04:05:06.789Z,",
            ],
        ),
        ("mailchimp-unsubscribed.csv", &["--list", NEWS], &[left_news]),
        ("mailchimp-cleaned.csv", &["--list", NEWS], &[gone_news]),
        (
            "mailchimp-members.json",
            &["--map", "57afe96172=news.example.com"],
            &[left_news, gone_news],
        ),
        ("mailchimp-report.json", &["--list", NEWS], &[left_news]),
        (
            "plain.csv",
            &["--utc"],
            &[
                "alice@example.org,news.example.com,unsubscribe,2024-01-02T02:04:05.000Z,",
                "bob@example.org,news.example.com,pause,2024-01-02T00:00:00.000Z,2999-01-01T00:00:00.000Z",
                "carol@example.org,*,manual,",
            ],
        ),
        (
            "plain.ndjson",
            &[],
            &[
                "alice@example.org,news.example.com,unsubscribe,2024-01-02T02:04:05.000Z,",
                "carol@example.org,*,manual,",
            ],
        ),
        (
            "plain.txt",
            manual,
            &[
                "alice@example.org,news.example.com,manual,",
                "bob@example.org,news.example.com,manual,",
            ],
        ),
        (
            "listmonk.csv",
            &["--status", "status=blocklisted:manual", "--list", "example.com"],
            &["blocked@example.org,example.com,manual,"],
        ),
        ("ses.csv", &[], &["gone@example.org,*,bounce,", "angry@example.org,*,complaint,"]),
        ("ses.ndjson", &[], &["gone@example.org,*,bounce,", "angry@example.org,*,complaint,"]),
    ];
    for (name, options, expected) in cases {
        let place = Place::new();
        let output = place.run(&[&["import", &sample(name)], *options].concat());
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{name}: {said}");
        assert!(said.contains("made a new store"), "{name}: {said}");
        let rows = exported(&place);
        assert_eq!(rows.len(), expected.len(), "{name}: {rows:?}");
        for (row, expected) in rows.iter().zip(*expected) {
            // Without a date in the file it is when it was recorded.
            assert!(row.starts_with(expected), "{name}: {row}, not {expected}");
        }
        place.verify();
    }
    let used: Vec<_> = cases.iter().map(|(name, ..)| *name).collect();
    let there = fs::read_dir(sample("")).expect("a directory");
    for entry in there {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        let is_used = used.contains(&&*name) || name == "mailchimp-subscribed.csv";
        assert!(is_used, "no case has {name}");
    }
}

#[test]
fn a_file_that_states_too_little_is_refused_with_what_to_say() {
    let place = Place::new();
    for (name, options, said) in [
        (
            "plain.txt",
            &[][..],
            "neither reason nor scope: say it with --reason REASON and --list SCOPE",
        ),
        ("plain.txt", &["--reason", "manual"], "say it with --list SCOPE"),
        ("sendgrid-global.csv", &[], "say it with --reason REASON and --list SCOPE"),
        (
            "mailgun-complaints.csv",
            &[],
            "or with --from mailgun where these are Mailgun's complaints",
        ),
        ("listmonk.csv", &["--list", "example.com", "--reason", "manual"], "which lists were left"),
        ("listmonk.csv", &["--status", "status=blocklisted:manual"], "say it with --list SCOPE"),
        ("listmonk.csv", &["--status", "state=blocklisted:manual"], "no column \"state\""),
        ("mailchimp-unsubscribed.csv", &[], "say it with --list SCOPE"),
        ("mailchimp-subscribed.csv", &["--list", "example.com"], "subscribed contacts"),
        ("postmark.csv", &["--reason", "manual"], "it states its reasons"),
        ("postmark.csv", &["--from", "mailgun"], "not the fields of an export of Mailgun"),
        ("plain.csv", &["--column", "mail"], "no column \"mail\""),
    ] {
        let output = place.run(&[&["import", &sample(name)], options].concat());
        let all = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name} {options:?}: {all}");
        assert!(all.contains(said), "{name} {options:?}: {all}");
    }
    assert!(!place.data().exists(), "nothing was recorded");
}

#[test]
fn compression_is_seen_and_said() {
    let content = fs::read(sample("postmark.csv")).expect("read");
    let zstd = zstd::encode_all(&content[..], 0).expect("compressed");
    for (name, content) in [("gzip", gzip(&content)), ("zstd", zstd)] {
        let place = Place::new();
        let (status, said) = import(&place, "file", &content, &[]);
        assert_eq!(status, 0, "{said}");
        assert!(said.contains(&format!("Postmark suppressions (CSV, {name})")), "{said}");
        assert_eq!(exported(&place).len(), 4);
        let output = place.run_with_input(&["import", "-"], &content);
        assert!(text(&output.stdout).contains("0 suppressions recorded, 4 stood already"));
    }
}

#[test]
fn bad_rows_go_to_a_file_with_their_lines_and_the_rest_goes_on() {
    let place = Place::new();
    let mut content = b"\xef\xbb\xbfemail,reason,scope,since,name\r\n\
        one@example.org,manual,*,,\"a\r\nb\"\r\n\
        two@example.org,manual,*\r\n\
        @example.org,manual,*,,\r\n\
        Three <three@example.org>,manual,*,,\r\n\
        four@example.org,sulking,*,,\r\n\
        five@example.org,manual,a..b,,\r\n\
        six@example.org,manual,*,yesterday,\r\n\
        seven@example.org,manual,*,,J\xf6rg\r\n\
        nobody,manual,*,,\r\n\
        eight@example.org,pause,*,,\r\n"
        .to_vec();
    content.extend(b"ten@example.org,manual,*,,last");
    let (status, said) = import(&place, "rows.csv", &content, &[]);
    assert_eq!(status, 2, "{said}");
    assert!(
        said.contains("9 rows could not be read, the first in line 4: it has 3 fields"),
        "{said}"
    );
    assert!(said.contains("11 rows: 2 suppressions recorded"), "{said}");
    let rows = exported(&place);
    assert!(rows[0].starts_with("one@") && rows[1].starts_with("ten@"), "{rows:?}");
    let bad = fs::read_to_string(place.path().join("rows.csv.bad.csv")).expect("the file");
    for expected in [
        "4,\"it has 3 fields, and the header has 5\",",
        "5,the address lacks",
        "6,",
        "7,\"a reason is one of",
        "8,its scope: ",
        "9,\"the date is neither",
        "10,\"it is not UTF-8 at octet",
        "11,it holds no address",
        "12,\"a pause needs its end",
    ] {
        assert!(bad.lines().any(|line| line.starts_with(expected)), "{expected}: {bad}");
    }
    place.verify();
}

#[test]
fn a_file_without_rows_is_no_fault() {
    let place = Place::new();
    for content in ["", "\n\n", "email,reason,scope\n", "{\"Suppressions\":[]}", "[]"] {
        let (status, said) = import(&place, "empty", content, &[]);
        assert_eq!(status, 0, "{content:?}: {said}");
        assert!(said.contains("holds no rows"), "{content:?}: {said}");
    }
    let (status, said) = import(&place, "first.json", "[\n{\"email\":}]", &[]);
    assert!(
        status == 2 && said.contains("line 2, in the first row: it is no JSON object"),
        "{said}"
    );
    let own = place.path().join("first.json");
    let (status, said) =
        import(&place, "first.json", "a@example.org\n", &["--bad", own.to_str().expect("UTF-8")]);
    assert!(status == 2 && said.contains("--bad names the file that is imported"), "{said}");
}

#[test]
fn text_in_another_encoding_is_refused() {
    let place = Place::new();
    let wide: Vec<u8> =
        "email,reason\na@example.org,manual\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for content in [wide.clone(), [&[0xff, 0xfe][..], &wide].concat()] {
        let (status, said) = import(&place, "wide.csv", content, &["--list", "example.com"]);
        assert_eq!(status, 2);
        assert!(said.contains("UTF-16") && said.contains("iconv"), "{said}");
    }
}

#[test]
fn a_line_of_100_megabytes_is_one_bad_row_in_bounded_memory() {
    let place = Place::new();
    let long = "x".repeat(100 << 20);
    let content = format!("one@example.org\n{long}@example.org\nthree@example.org\n");
    let options = ["--list", "example.com", "--reason", "manual"];
    let (status, said) = import(&place, "list.txt", &content, &options);
    assert_eq!(status, 2, "{said}");
    assert_eq!(exported(&place).len(), 2);
    let bad = fs::read_to_string(place.path().join("list.txt.bad.csv")).expect("the file");
    assert!(bad.contains("2,the row has more than 1 MiB,xxx") && bad.len() < 10_000);
    let content = format!("email,reason,scope\na@example.org,{long},*\nb@example.org,manual,*\n");
    let (status, said) = import(&place, "rows.csv", &content, &[]);
    assert_eq!(status, 2, "{said}");
    assert_eq!(exported(&place).len(), 3);
    let content = format!("{{\"Suppressions\":[{{\"EmailAddress\":\"{long}\"}}]}}");
    let (status, said) = import(&place, "page.json", &content, &[]);
    assert_eq!(status, 2);
    assert!(
        said.contains("line 1: this is no JSON with rows, one value has more than 1 MiB"),
        "{said}"
    );
}

fn rows(count: usize) -> String {
    let mut content = "EmailAddress,SuppressionReason,Origin,CreatedAt\n".to_owned();
    for n in 0..count {
        content.push_str(&format!("r{n}@example.org,HardBounce,Recipient,2025-03-04T05:06:07Z\n"));
    }
    content
}

#[test]
fn what_ends_early_is_kept_so_far_and_goes_on_once_it_is_whole() {
    let place = Place::new();
    let content = rows(20_000);
    let whole = gzip(content.as_bytes());
    let (status, said) = import(&place, "rows.gz", &whole[..whole.len() / 2], &[]);
    assert_eq!(status, 2);
    assert!(said.contains("gzip data ends early, after") && said.contains("in line"), "{said}");
    assert!(said.contains("kept as import 1"), "{said}");
    let kept = exported(&place).len();
    assert!(kept > 1000, "{kept}");
    let (status, said) = import(&place, "rows.gz", &whole, &[]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("going on with import 1"), "{said}");
    assert!(said.contains("20000 suppressions recorded, 0 stood already"), "{said}");
    assert_eq!(place.history().len(), 20_000, "no row was recorded twice");

    let open = "email,reason,scope\na@example.org,manual,*\nb@example.org,\"manual,*\nc@example.org,manual,*\n";
    let (status, said) = import(&place, "open.csv", open, &[]);
    assert_eq!(status, 2, "{said}");
    assert_eq!(place.check("any.example.com", "a@example.org"), 1, "the row before is kept");
    assert_eq!(place.check("any.example.com", "c@example.org"), 1, "and that behind is read");
    let (status, said) = import(
        &place,
        "page.json",
        "{\"Suppressions\":[{\"EmailAddress\":\"d@example.org\",\
        \"SuppressionReason\":\"HardBounce\"},\n{\"EmailAddress\":",
        &[],
    );
    assert_eq!(status, 2);
    assert!(said.contains("line 2: this is no JSON with rows, it ends early"), "{said}");
    assert_eq!(place.check("any.example.com", "d@example.org"), 1, "the row before is kept");
    place.verify();
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noticed() {
    let place = Place::new();
    let path = place.path().join("growing.csv");
    fs::write(&path, rows(20_000)).expect("written");
    let mut child = place
        .command(&["import", path.to_str().expect("UTF-8")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // Once the store is there, the file is open.
    crate::common::eventually("the store is made", || place.data().join("optout.db").exists());
    let changed = fs::read_to_string(&path).expect("read").replace("r19999@", "s19999@");
    fs::write(&path, changed).expect("written");
    let output = {
        let status = child.wait().expect("it ends");
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().expect("piped"), &mut said)
            .expect("read");
        (status.code(), said)
    };
    assert_eq!(output.0, Some(2), "{}", output.1);
    assert!(output.1.contains("was changed while it was read, up to line"), "{}", output.1);
    let again = place.run(&["import", path.to_str().expect("UTF-8")]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    place.verify();
}

/// Deterministic, so that a failure can be looked into; each run differs in where it is stopped.
fn delays(seed: u64) -> impl Iterator<Item = Duration> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(20 + (state >> 33) % 1500)
    })
}

#[test]
fn an_import_that_is_killed_at_random_goes_on_and_doubles_nothing() {
    let place = Place::new();
    let path = place.path().join("rows.csv");
    let content = rows(12_000).replace("r77@example.org,HardBounce", "r77@example.org,NoReason");
    fs::write(&path, content).expect("written");
    let file = path.to_str().expect("UTF-8");
    let enough = if is_long() { 200 } else { 20 };
    let (mut kills, mut done) = (0, None);
    for delay in delays(std::process::id().into()) {
        let said = place.path().join("said");
        let mut child = place
            .command(&["import", file])
            .stdout(fs::File::create(&said).expect("made"))
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        std::thread::sleep(delay);
        // In the end it is let finish, however slow the machine is.
        if kills < enough && child.try_wait().expect("it can be waited for").is_none() {
            kills += 1;
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
            // Who was told that all is done does not start it again.
            let is_done = fs::read_to_string(&said).expect("read").contains("11999 suppressions");
            done = is_done.then_some(2);
        } else {
            done = child.wait().expect("it ends").code();
        }
        if done.is_some() {
            break;
        }
    }
    assert_eq!(done, Some(2), "one row is bad");
    assert!(kills > 0, "it was never interrupted");
    let bad = fs::read_to_string(place.path().join("rows.csv.bad.csv")).expect("the file");
    assert_eq!(bad.lines().count(), 2, "the bad row is told once: {bad}");
    let history = place.history();
    assert_eq!(history.len(), 11_999, "after {kills} kills");
    let import = &history[0]["value"];
    assert!(history.iter().all(|event| event["value"] == *import && event["changed"] == true));
    for n in [0, 1_999, 2_000, 11_999] {
        let shown = &place.json(&["show", &format!("r{n}@example.org")])[0];
        assert_eq!(shown["repeats"], 0, "r{n} was asked for twice");
    }
    place.verify();
}

#[test]
fn a_dry_run_says_what_would_be_and_records_nothing() {
    let place = Place::new();
    let file = sample("postmark.csv");
    let said = place.json(&["import", &file, "--dry-run"]);
    assert_eq!((&said[0]["import"], &said[0]["changed"]), (&Value::Null, &4.into()));
    assert!(!place.data().exists());
    place.done(&["key", "new"]);
    place.done(&["suppress", "gone@example.org", "--all", "--reason", "bounce"]);
    let said = place.json(&["import", &file, "--dry-run"]);
    assert_eq!((&said[0]["changed"], &said[0]["stood"]), (&3.into(), &1.into()));
    assert_eq!(place.history().len(), 1);
}

#[test]
fn an_import_never_weakens_what_stands() {
    let place = Place::with_store();
    place.done(&["suppress", "a@example.org", "--list", "example.com", "--reason", "manual"]);
    place.done(&[
        "suppress",
        "b@example.org",
        "--list",
        "example.com",
        "--until",
        "2999-06-01T00:00:00Z",
    ]);
    place.done(&[
        "suppress",
        "c@example.org",
        "--list",
        "example.com",
        "--until",
        "2999-01-01T00:00:00Z",
    ]);
    let before = exported(&place);
    let content = "email,reason,scope,until\n\
        a@example.org,manual,example.com,2999-01-01T00:00:00Z\n\
        b@example.org,manual,example.com,2999-01-01T00:00:00Z\n\
        c@example.org,manual,example.com,2999-06-01T00:00:00Z\n\
        d@example.org,manual,example.com,2001-01-01T00:00:00Z\n\
        a@example.org,pause,example.com,2999-01-01T00:00:00Z\n";
    let (status, said) = import(&place, "rows.csv", content, &[]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("2 suppressions recorded, 2 stood already, 1 row left out"), "{said}");
    let after = exported(&place);
    assert_eq!((&before[0], &before[1]), (&after[0], &after[2]), "what stood longer stays");
    assert!(after[1].starts_with("a@example.org,example.com,pause,"));
    assert!(after[3].ends_with("2999-06-01T00:00:00.000Z"), "{}", after[3]);
    place.verify();
}

#[test]
fn taking_an_import_back_undoes_exactly_what_it_changed() {
    let place = Place::with_store();
    let list = "news.example.com";
    place.done(&["suppress", "stood@example.org", "--list", list]);
    place.done(&[
        "suppress",
        "longer@example.org",
        "--list",
        list,
        "--until",
        "2999-01-01T00:00:00Z",
    ]);
    let before = place.done(&["export"]);
    let leave_again = ["suppress", "again@example.org", "--list", list, "--reason", "unsubscribe"];
    place.done(&leave_again);
    place.done(&["opt-in", "again@example.org", "--list", list, "--evidence", "form"]);
    let content = format!(
        "email,reason,scope,until\nagain@example.org,unsubscribe,{list},\n\
         new@example.org,unsubscribe,{list},\nstood@example.org,manual,{list},\n\
         longer@example.org,manual,{list},2999-06-01T00:00:00Z\nclicked@example.org,unsubscribe,{list},\n\
         extended@example.org,manual,{list},2999-06-01T00:00:00Z\nforgotten@example.org,bounce,{list},\n\
         twice@example.org,bounce,{list},\n"
    );
    let (status, said) = import(&place, "rows.csv", &content, &[]);
    assert!(status == 0 && said.contains("import 1: 8 rows: 7 suppressions recorded"), "{said}");
    // Each of these asked for the same since, though it stood already.
    let link = place.link(list, "clicked@example.org", "");
    let service = place.serve();
    assert_eq!(service.click(&link).status, 200);
    service.stop();
    place.done(&["suppress", "extended@example.org", "--list", list]);
    place.done(&leave_again);
    let (_, said) = import(
        &place,
        "other.csv",
        format!("email,reason,scope\ntwice@example.org,bounce,{list}\n"),
        &[],
    );
    assert!(said.contains("import 2: 1 row: 0 suppressions recorded, 1 stood already"), "{said}");
    place.done(&["forget", "forgotten@example.org"]);

    let release = ["release", "--import", "1", "--note", "the wrong list"];
    let output = place.run(&release);
    assert_eq!(output.status.code(), Some(2), "one of them cannot be named");
    assert!(
        text(&output.stdout).contains("2 suppressions ended or shortened"),
        "{}",
        text(&output.stdout)
    );
    assert!(text(&output.stderr).contains("1 suppression that it made cannot be taken back"));
    for (recipient, status) in [
        ("new", 0),
        ("stood", 1),
        ("longer", 1),
        ("clicked", 1),
        ("extended", 1),
        ("forgotten", 1),
        ("twice", 1),
        ("again", 1),
    ] {
        assert_eq!(place.check(list, &format!("{recipient}@example.org")), status, "{recipient}");
    }
    let after = place.done(&["export", "--without-forgotten"]);
    assert!(after.starts_with(&before), "what stood before stands as it did: {after}");
    let released = &place.json(&["history", "new@example.org", "--action", "release"])[0];
    assert_eq!(released["note"], "the wrong list");
    assert!(released["undoes"].is_u64());
    // Once more changes nothing, and the import does not come back.
    let output = place.run(&release);
    assert!(text(&output.stdout).contains("0 suppressions ended"));
    // Nothing but the first import's row has the other asked for, and that asks for nothing any more.
    let said = place.done(&["release", "--import", "2", "--note", "wrong too"]);
    assert!(said.contains("1 suppressions ended"), "{said}");
    assert_eq!(place.check(list, "twice@example.org"), 0);
    place.verify();
    let unknown = place.run(&["release", "--import", "9", "--note", "x"]);
    assert!(text(&unknown.stderr).contains("there is no import 9"));
}

#[test]
fn the_row_is_kept_where_forgetting_reaches_it() {
    let place = Place::new();
    place.done(&["import", &sample("mailchimp-unsubscribed.csv"), "--list", "news.example.com"]);
    let event = &place.history()[0];
    assert_eq!((&event["action"], &event["source"]), (&"import".into(), &"import".into()));
    assert_eq!(event["occurred"], "2024-05-06T07:08:09.000Z");
    let note: Value = serde_json::from_str(event["note"].as_str().expect("a note")).expect("JSON");
    assert_eq!((&note["First Name"], &note["UNSUB_REASON"]), (&"Lea".into(), &"NORMAL".into()));
    place.done(&["forget", "left@example.org"]);
    assert_eq!(place.history()[1]["note"], Value::Null);
    assert_eq!(place.check("news.example.com", "left@example.org"), 1);
    let long = "y".repeat(5000);
    let content = format!("email,reason,scope,long,short\na@example.org,manual,*,{long},kept\n");
    let (status, said) = import(&place, "rows.csv", content, &[]);
    assert_eq!(status, 0, "{said}");
    let note = place.history()[0]["note"].as_str().expect("a note").to_owned();
    assert!(note.contains("\"short\":\"kept\"") && note.contains("too long"), "{note}");
    place.verify();
}

/// A store in which much stands.
fn varied() -> Place {
    let place = Place::with_store();
    for arguments in [
        &["a@example.org", "--list", "news.example.com", "--reason", "unsubscribe"][..],
        &["a@example.org", "--all", "--reason", "complaint"],
        &["Bob@Example.ORG", "--list", "example.com", "--reason", "bounce"],
        &["=c@example.org", "--all", "--reason", "manual"],
        &["\"d,e\"@example.org", "--list", "example.com", "--until", "2999-01-01T00:00:00Z"],
        &[
            "jörg@bücher.example",
            "--list",
            "news.example.com",
            "--reason",
            "pause",
            "--until",
            "2999-01-01T00:00:00Z",
        ],
        &["b@example.org", "--all", "--reason", "unsubscribe"],
    ] {
        place.done(&[&["suppress"], arguments].concat());
    }
    place
}

#[test]
fn an_export_is_imported_as_exactly_what_it_was() {
    let place = varied();
    for options in [&["--csv"][..], &[]] {
        let first = place.done(&[&["export"], options].concat());
        assert!(first.contains("=c@example.org") && first.contains("Bob@Example.ORG"), "{first}");
        let copy = Place::new();
        let (status, said) = import(&copy, "export", &first, &[]);
        assert_eq!(status, 0, "{said}");
        assert_eq!(copy.done(&[&["export"], options].concat()), first);
        copy.verify();
    }
    let file = place.path().join("all.csv.gz");
    place.done(&["export", "--csv", file.to_str().expect("UTF-8")]);
    let copy = Place::new();
    copy.done(&["import", file.to_str().expect("UTF-8")]);
    assert_eq!(copy.done(&["export"]), place.done(&["export"]));
    let output = place.run(&["export", "--csv"]);
    assert!(
        text(&output.stderr)
            .contains("1 row written whose address a spreadsheet takes for a formula")
    );
    let news =
        place.done(&["export", "--csv", "--list", "news.example.com", "--reason", "unsubscribe"]);
    assert_eq!(news.lines().count(), 3, "the list's own and the wider: {news}");
    assert_eq!(
        place.done(&["export", "--list", "other.example"]).lines().count(),
        3,
        "for everything"
    );
}

#[test]
fn files_in_each_providers_shape_come_back_as_they_were() {
    for (name, reasons, options) in [
        ("postmark.csv", "", &["--to", "postmark"][..]),
        ("mailgun-unsubscribes.csv", "", &["--to", "mailgun"]),
        ("mailgun-bounces.csv", "", &["--to", "mailgun", "--reason", "bounce"]),
        ("mailgun-complaints.csv", "mailgun", &["--to", "mailgun", "--reason", "complaint"]),
        ("sendgrid-bounces.csv", "", &["--to", "sendgrid", "--reason", "bounce"]),
        ("sendgrid-spam-reports.csv", "", &["--to", "sendgrid", "--reason", "complaint"]),
        ("ses.csv", "", &["--to", "ses"]),
    ] {
        let place = Place::new();
        let named = if reasons.is_empty() { vec![] } else { vec!["--from", reasons] };
        let everything = ["--map", "offers=*"];
        place.done(&[&["import", &sample(name)], &named[..], &everything].concat());
        let shape = place.done(&[&["export"], options].concat());
        let copy = Place::new();
        let (status, said) = import(&copy, "shape.csv", &shape, &named);
        assert_eq!(status, 0, "{name}: {said}");
        assert_eq!(copy.done(&[&["export"], options].concat()), shape, "{name}");
        if name != "ses.csv" {
            assert_eq!(exported(&copy), exported(&place), "{name}");
        }
    }
}

#[test]
fn a_provider_is_fed_with_who_is_suppressed_for_what_it_sends() {
    let place = varied();
    place.done(&["opt-in", "b@example.org", "--list", "news.example.com", "--evidence", "form"]);
    let output = place.run(&["export", "--to", "postmark"]);
    assert_eq!(text(&output.stdout).lines().count(), 4, "{}", text(&output.stdout));
    assert!(
        text(&output.stderr).contains("3 recipients left out, since they left something narrower")
    );
    let fed = place.run(&["export", "--to", "postmark", "--list", "news.example.com"]);
    let rows = text(&fed.stdout);
    assert!(
        rows.contains("a@example.org,SpamComplaint,")
            && rows.contains("Bob@Example.ORG,HardBounce,")
    );
    assert!(!rows.contains("\nb@example.org"), "who came back is not suppressed for it: {rows}");
    assert!(
        text(&fed.stderr).contains("2 recipients left out, since their suppression ends by itself")
    );
    assert_eq!(
        place.done(&["export", "--to", "ses", "--list", "news.example.com"]).lines().count(),
        3
    );
}

#[test]
fn forgotten_recipients_are_counted_and_missed() {
    let place = varied();
    place.done(&["forget", "a@example.org"]);
    let output = place.run(&["export"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr)
            .contains("standard output was written, but without 1 forgotten recipient")
    );
    assert!(!text(&output.stdout).contains("\"a@example.org"));
    let output = place.run(&["export", "--without-forgotten"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("warning: 1 forgotten recipient left out"));
    let output = place.run(&["export", "--reason", "bounce"]);
    assert_eq!(output.status.code(), Some(0), "none of them is asked for");
}

#[test]
fn an_import_takes_effect_in_the_running_service_and_clicks_go_on() {
    let place = Place::with_store();
    let service = place.serve();
    let links =
        place.links("news.example.com", &["x@example.org".to_owned(), "r5@example.org".to_owned()]);
    let path: PathBuf = place.path().join("rows.csv");
    fs::write(&path, rows(30_000)).expect("written");
    let others: Vec<_> = (0..200).map(|n| format!("c{n}@example.org")).collect();
    let clicks = place.links("news.example.com", &others);
    let mut child = place
        .command(&["import", path.to_str().expect("UTF-8")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    assert_eq!(service.click(&links[0]).status, 200);
    for link in &clicks {
        assert_eq!(service.click(link).status, 200);
    }
    assert!(child.wait().expect("it ends").success());
    assert_eq!(service.click(&links[1]).status, 200);
    let asked =
        service.api("GET", "/v1/check?list=news.example.com&recipient=r4999@example.org", &[], "");
    assert!(asked.body.contains("\"reason\":\"bounce\""), "{}", asked.body);
    service.stop();
    assert_eq!(place.done(&["export"]).lines().count(), 30_202);
    place.verify();
}

#[test]
fn files_that_are_imported_at_once_all_come_in() {
    let place = Place::with_store();
    let imports: Vec<_> = (0..3)
        .map(|n| {
            let path = place.path().join(format!("{n}.csv"));
            let content = rows(3_000).replace("\nr", &format!("\nr{n}."));
            fs::write(&path, content).expect("written");
            let mut command = place.command(&["import", path.to_str().expect("UTF-8")]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs")
        })
        .collect();
    for mut import in imports {
        assert!(import.wait().expect("it ends").success());
    }
    assert_eq!(exported(&place).len(), 9_000);
    place.verify();
}

#[test]
fn a_row_of_very_many_fields_keeps_as_many_as_there_is_room_for() {
    let place = Place::new();
    let many: String = (0..20_000).map(|n| format!(r#","k{n}":1"#)).collect();
    let long = "x".repeat(5_000);
    let content = format!(
        "{{\"email\":\"a@example.org\",\"reason\":\"bounce\",\"name\":\"Ann\"{many}}}\n\
         {{\"email\":\"b@example.org\",\"reason\":\"bounce\",\"name\":\"Bob\",\"text\":\"{long}\"}}\n"
    );
    let (status, said) = import(&place, "wide.ndjson", content, &["--list", "example.com"]);
    assert_eq!(status, 0, "{said}");
    let history = place.history();
    let wide = history[1]["note"].as_str().expect("a note");
    assert!((4_000..=4_096).contains(&wide.len()) && wide.contains("\"k1\":1"), "{wide}");
    assert!(wide.contains("fields too long to be kept"), "{wide}");
    assert_eq!(history[0]["note"], r#"{"fields too long to be kept":1,"name":"Bob"}"#);
}

#[test]
fn bad_rows_replace_no_file_but_their_own() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let bad = place.path().join("rows.csv.bad.csv");
    let content = "email,reason\na@example.org,bounce\nnobody,bounce\n";
    fs::write(&bad, "mine").expect("written");
    let (status, said) = import(&place, "rows.csv", content, &["--list", "example.com"]);
    assert!(status == 2 && said.contains("--bad FILE"), "{said}");
    assert_eq!(fs::read_to_string(&bad).expect("it is there"), "mine");
    fs::write(&bad, "line,problem,row\n7,old,old\n").expect("written");
    let (_, said) = import(&place, "rows.csv", content, &["--list", "example.com"]);
    assert!(said.contains("1 row could not be read, the first in line "), "{said}");
    let told = fs::read_to_string(&bad).expect("it is there");
    assert!(!told.contains("7,") && told.contains("3,"), "{told}");
    let mode = fs::metadata(&bad).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(exported(&place).len(), 1);
}

/// Lines and problems of the rows that were bad in the file of this name.
fn bad_rows(place: &Place, name: &str) -> Vec<(u64, String)> {
    let path = place.path().join(format!("{name}.bad.csv"));
    let Ok(mut reader) = csv::Reader::from_path(path) else { return Vec::new() };
    let row = |row: Result<csv::StringRecord, _>| {
        let row = row.expect("CSV");
        (row[0].parse().expect("a line"), row[1].to_owned())
    };
    reader.records().map(row).collect()
}

/// The local parts of all who are suppressed.
fn suppressed(place: &Place) -> Vec<String> {
    let local = |row: String| row.split('@').next().unwrap_or_default().to_owned();
    exported(place).into_iter().map(local).collect()
}

#[test]
fn a_stray_quote_costs_its_own_row_and_no_other() {
    const BESIDE: &str = "its closing quote is followed by something else";
    const NEVER: &str = "is never closed";
    const HOLDS: &str = "holds what reads like another row";
    // Rows, who is suppressed, and the bad rows' lines and problems.
    type Stray = (&'static str, &'static str, &'static [(u64, &'static str)]);
    let cases: &[Stray] = &[
        ("a,bounce,\"oops\nb,bounce,fine\nc,bounce,\"q\"\nd,bounce,z\n", "bcd", &[(2, BESIDE)]),
        ("a,bounce,\"oops\nb,bounce,fine\n", "b", &[(2, NEVER)]),
        ("a,bounce,x\nb,\"bounce,y\nc,bounce,z", "ac", &[(3, NEVER)]),
        ("a,bounce,\"oops\nb,bounce,fine\nc,bounce,w\"\nd,bounce,z\n", "bcd", &[(2, HOLDS)]),
        ("a,bounce,\"oops\nb,bounce,\"\nc,bounce,z\n", "c", &[(2, HOLDS), (3, NEVER)]),
        ("\"a,bounce,x\nb,\"bounce\",z\nc,bounce,z\n", "bc", &[(2, BESIDE)]),
        (
            "a,\"bounce,x\nb,bounce\"\nc,bounce,z\n",
            "c",
            &[(2, "ends in a later line, so that it has 2 fields"), (3, "it has 2")],
        ),
        ("a,bounce,\"x\" \nb,bounce,z\n", "b", &[(2, BESIDE)]),
        ("a,bounce,\"x\"y\"\n\nb,bounce,\"\n", "", &[(2, BESIDE), (4, NEVER)]),
        // Nothing is wrong with these.
        ("a,bounce,\"one\ntwo, \"\"three\"\",\nfour\"\r\nb,bounce,\"\"\r\n", "ab", &[]),
        ("a,bounce,12\" screen\nb,bounce,\"x\ny\"\r\r\nc,bounce,12\" screen", "abc", &[]),
        ("\"a\",\"bounce\",\"\n\n\"\nb,bounce,\"the end\"", "ab", &[]),
        ("a,bounce,\"write to me, soon, at c@example.org\nor not\"\n", "a", &[]),
    ];
    for (rows, expected, bad) in cases {
        let place = Place::new();
        let mut content = String::from("email,reason,note\n");
        // Whoever is one letter at the beginning of a line has an address.
        for line in rows.split_inclusive('\n') {
            let at = line.find([',', '"', '\n']).filter(|&at| at == 1);
            let at = at.or_else(|| line.starts_with("\"a").then_some(2));
            let at = at.filter(|_| line.contains("bounce"));
            let (start, end) = line.split_at(at.unwrap_or(0));
            content.push_str(start);
            content.push_str(if at.is_some() { "@example.org" } else { "" });
            content.push_str(end);
        }
        let (status, said) = import(&place, "rows.csv", &content, &["--list", "example.com"]);
        assert_eq!(status, if bad.is_empty() { 0 } else { 2 }, "{content}{said}");
        assert_eq!(suppressed(&place).concat(), *expected, "{content}");
        let found = bad_rows(&place, "rows.csv");
        assert_eq!(found.len(), bad.len(), "{content}: {found:?}");
        for ((line, problem), (expected, what)) in found.iter().zip(*bad) {
            assert!(line == expected && problem.contains(what), "{content}: {line}: {problem}");
        }
        place.verify();
    }
}

#[test]
fn stray_quotes_far_apart_lose_their_own_rows_alone_and_an_interruption_changes_nothing() {
    // With the most rows, the strays are further apart than the longest row is long.
    for (first, second, count, lost) in [
        (",\"oops", ",\"oops", 15_000, 2),
        (",\"oops", ",fine\"", 3_000, 1),
        (",\"oops", ",x", 3_000, 1),
        (",12\" screen", ",12\" screen", 3_000, 0),
    ] {
        let place = Place::new();
        let mut content = "EmailAddress,SuppressionReason,Origin,CreatedAt,Note\n".to_owned();
        for n in 0..count {
            let note = match n {
                1_000 => first,
                n if n == count - 500 => second,
                _ => ",a note that makes the file longer",
            };
            let at = "2025-03-04T05:06:07Z";
            content.push_str(&format!("r{n}@example.org,HardBounce,Recipient,{at}{note}\n"));
        }
        let whole = gzip(content.as_bytes());
        let (status, _) = import(&place, "rows.gz", &whole[..whole.len() * 9 / 10], &[]);
        assert_eq!(status, 2);
        let (status, said) = import(&place, "rows.gz", &whole, &[]);
        assert!(said.contains("going on with import 1"), "{said}");
        assert_eq!((status, exported(&place).len()), (if lost > 0 { 2 } else { 0 }, count - lost));
        assert_eq!(place.history().len(), count - lost, "no row was recorded twice");
        let lines: Vec<_> = bad_rows(&place, "rows.gz").into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [1_002, count as u64 - 498][..lost], "{said}");
    }
}

#[test]
fn json_without_rows_where_they_are_looked_for_is_refused_or_read() {
    const ROW: &str = "{\"email\":\"a@example.org\",\"reason\":\"bounce\",\"scope\":\"*\"}";
    const PRETTY: &str =
        "{\n \"email\": \"a@example.org\",\n \"reason\": \"bounce\",\n \"scope\": \"*\"\n}\n";
    let other = ROW.replace("a@", "b@");
    for (content, expected) in [
        (format!("{{\"suppressions\":[{ROW},{other}]}}"), "ab"),
        (
            format!(
                "{{\"_links\":[{{\"href\":\"x\"}}],\"ITEMS\":[{ROW}]}}\n{{\"items\":[{other}]}}"
            ),
            "ab",
        ),
        (format!("{{\"items\":null}}{{\"items\":[{ROW}]}}"), "a"),
        (PRETTY.to_owned(), "a"),
        (format!("{PRETTY}{}", PRETTY.replace("a@", "b@")), "ab"),
        (format!("{ROW}\r{other}\r"), "ab"),
    ] {
        let place = Place::new();
        let (status, said) = import(&place, "page.json", &content, &[]);
        assert_eq!(
            (status, suppressed(&place).concat()),
            (0, expected.to_owned()),
            "{content}: {said}"
        );
    }
    for (content, said) in [
        (format!("{{\"total\":1,\"blocked\":[{ROW}]}}"), "line 1: this object is no row"),
        (format!("{{\"total\":1,\"blocked\":[{ROW}]}}"), "(it has: total, blocked)"),
        (format!("{{\n\"blocked\":[\n{ROW}]}}"), "(it has: blocked)"),
        (
            format!("{{\"items\":[{ROW}]}}\n{{\"blocked\":[{other}]}}"),
            "line 2: this object is no row",
        ),
        ("{\"error\":\"not found\"}".to_owned(), "(it has: error)"),
    ] {
        let place = Place::new();
        let (status, all) = import(&place, "page.json", &content, &[]);
        assert!(status == 2 && all.contains(said), "{content}: {all}");
    }
}

#[test]
fn a_broken_first_row_is_a_bad_row() {
    const ROW: &str = "{\"email\":\"a@example.org\",\"reason\":\"bounce\",\"scope\":\"*\"}";
    for (content, lines) in [
        (format!("{{\"email\":}}\n{ROW}\n"), &[1][..]),
        (format!("\n{{\"email\":\"b@example.org\n{{\"email\"\n{ROW}"), &[2, 3]),
        (format!("[{{\"email\":}},\n7,\n{ROW}]"), &[1, 2]),
        (format!("{{\"items\":[\n{{\"email\":}},{ROW}]}}"), &[2]),
    ] {
        let place = Place::new();
        let (status, said) = import(&place, "rows", &content, &[]);
        assert_eq!((status, suppressed(&place).concat()), (2, "a".to_owned()), "{content}: {said}");
        let found: Vec<_> = bad_rows(&place, "rows").into_iter().map(|(line, _)| line).collect();
        assert_eq!(found, lines, "{content}");
    }
}

#[test]
fn what_a_row_states_is_taken_as_it_is_stated_or_it_is_bad() {
    // Header, row, options, and either what is exported or what is wrong with the row.
    type Row<'a> = (&'a str, &'a str, &'a [&'a str], Result<&'a str, &'a str>);
    let cases: &[Row] = &[
        // A day is a day, and not seconds since 1970.
        ("email,since", "a@x.org,20240131", &["--utc"], Ok("a@x.org,x.com,manual,2024-01-31T00")),
        ("email,since", "a@x.org,20240131", &[], Err("lacks its offset")),
        ("email,since", "a@x.org,20241331", &["--utc"], Err("neither seconds since 1970 (9 or 10")),
        ("email,until", "a@x.org,20991231", &["--utc"], Ok("a@x.org,x.com,manual,2")),
        ("email,until", "a@x.org,9999-12-31T23:59:59Z", &[], Err("out of range")),
        // What only looks like a blank is a part of the address.
        ("email,since", "\u{a0}a@x.org,", &[], Err("since '\\u{a0}' stands before its @")),
        ("email,since", "a@x.org\u{a0},", &[], Err("is no domain name")),
        ("email,since", " a@x.org\t,", &[], Ok("a@x.org,x.com,manual,")),
        ("email,since", "mailto:a@x.org,", &[], Err("since ':' stands before its @")),
        // A stated reason is never replaced.
        ("email,reason", "a@x.org,Bounce", &[], Ok("a@x.org,x.com,bounce,")),
        (
            "email,reason",
            "a@x.org,mailbox full",
            &[],
            Err("--status reason=\"mailbox full\":REASON"),
        ),
        ("email,reason", "a@x.org,", &[], Ok("a@x.org,x.com,manual,")),
        ("email,reason,scope", "a@x.org,,", &["no --reason"], Err("it states no reason")),
        // Groups.
        (
            "email,group_id,group_name",
            "a@x.org,,",
            &["no --reason", "no --list"],
            Err("names no group"),
        ),
        ("email,group_id", "a@x.org,*", &["no --reason", "no --list"], Err("what \"*\" is")),
        ("address,tags", "a@x.org,", &["no --reason", "no --list"], Ok("a@x.org,*,unsubscribe")),
        (
            "address,tags",
            "a@x.org,\"[\"\"news\"\", \"\"promo\"\"]\"",
            &["no --reason", "no --list", "--map", "news=n.com", "--map", "promo=p.com"],
            Ok("a@x.org,n.com,unsubscribe"),
        ),
        (
            "address,tags",
            "a@x.org,\"[\"\"news\"\", \"\"promo\"\"]\"",
            &["no --reason", "no --list", "--map", "news=n.com"],
            Err("what \"promo\" is"),
        ),
    ];
    for (header, row, options, expected) in cases {
        let place = Place::new();
        let unless = |off: &str, option: [&'static str; 2]| {
            option.into_iter().filter(|_| !options.contains(&off)).collect::<Vec<_>>()
        };
        let all = [
            options.iter().copied().filter(|option| !option.starts_with("no ")).collect(),
            unless("no --reason", ["--reason", "manual"]),
            unless("no --list", ["--list", "x.com"]),
        ];
        let (status, said) =
            import(&place, "rows.csv", format!("{header}\n{row}\n"), &all.concat());
        match expected {
            Ok(start) => {
                assert_eq!(status, 0, "{header} {row}: {said}");
                let first = &exported(&place)[0];
                assert!(first.starts_with(start), "{header} {row}: {first}");
            }
            Err(what) => {
                let bad = bad_rows(&place, "rows.csv");
                assert!(status == 2 && bad.len() == 1, "{header} {row}: {said}");
                assert!(bad[0].1.contains(what), "{header} {row}: {bad:?}");
            }
        }
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_with_what_to_do() {
    let wide = format!("email,{}\n", "x,".repeat(5000));
    let said = &["--reason", "manual", "--list", "x.com"][..];
    for (content, options, what) in [
        ("email,Email,since\na@x.org,b@x.org,\n", said, "column \"email\" is there more than once"),
        ("email,reason,reason\na@x.org,bounce,manual\n", said, "column \"reason\" is there more"),
        ("email,until,UNTIL\na@x.org,,\n", said, "column \"until\" is there more than once"),
        (
            "address,tags\na@x.org,news\n",
            &["--map", "news=a.com", "--map", "news=b.com"],
            "--map names \"news\" twice",
        ),
        ("email,since\ra@x.org,\rb@x.org,\r", said, "CR alone, as on old Macs"),
        ("a@x.org\rb@x.org\r", said, "CR alone, as on old Macs"),
        (&*wide, said, "more than 4096 columns"),
    ] {
        let place = Place::new();
        let (status, all) = import(&place, "rows.csv", content, options);
        assert!(status == 2 && all.contains(what), "{all}");
        assert!(!place.data().exists(), "{all}");
    }
    // What is not used may be there twice, and another column may be named.
    for (content, options) in [
        ("email,note,note\na@x.org,1,2\n", said),
        (
            "email,email,mail\n,,a@x.org\n",
            &["--column", "mail", "--reason", "manual", "--list", "x.com"],
        ),
        ("\temail\tnote\n1\ta@x.org\t\n\tb@x.org\t2\n", said),
        ("address,tags\na@x.org,news\n", &["--map", "news=a.com", "--map", "news=a.com"]),
    ] {
        let place = Place::new();
        let (status, all) = import(&place, "rows.csv", content, options);
        assert_eq!(status, 0, "{content}: {all}");
        assert_eq!(exported(&place)[0].split(',').next(), Some("a@x.org"));
    }
}

#[test]
fn garbage_behind_gzip_is_said_to_be_that() {
    let place = Place::new();
    let two = [gzip(rows(1).as_bytes()), gzip(b"s@example.org,HardBounce,,\n")].concat();
    let (status, said) = import(&place, "two.gz", &two, &[]);
    assert_eq!((status, exported(&place).len()), (0, 2), "{said}");
    let place = Place::new();
    let (status, said) =
        import(&place, "rows.gz", [&gzip(rows(9).as_bytes())[..], b"garbage"].concat(), &[]);
    assert!(status == 2 && said.contains("something else follows its end"), "{said}");
    assert_eq!(exported(&place).len(), 9, "what precedes it is kept");
}

#[test]
fn whoever_a_link_can_name_is_exported_and_imported_exactly() {
    let place = Place::with_store();
    let id = place.json(&["key", "list"])[0]["key"].as_str().expect("an id").to_owned();
    let key: optout::link::SigningKey = place.done(&["key", "show", &id]).parse().expect("a key");
    let list: optout::link::ListId = "news.example.com".parse().expect("a list");
    let odd = [
        "a:b@x.org",
        "(c)a@x.org",
        "not an address",
        "+491701234567",
        "@start@x.org",
        "qu\"ote@x.org",
        "\"",
        "comma, and; semicolon",
        " blanks around no address@ ",
        "\u{a0}a@x.org",
        "\tx",
        "   ",
        "\r\n",
        "two\nlines@x.org\n",
        "control\u{1}\u{7f}\0characters",
        "carriage\rreturn@x.org\r",
        "n@x.org,*,bounce,,\no@x.org,*,bounce,,\n",
        "{\"email\":\"o@x.org\"}",
        "J\u{f6}RG@B\u{fc}cher.example",
    ];
    let service = place.serve();
    for recipient in odd {
        let link = optout::link::Link::new(1, list.clone(), "", recipient).expect("a link");
        let path = format!("/u/{}", link.seal(&key));
        assert_eq!(service.click(&path).status, 200, "{recipient:?}");
    }
    service.stop();
    for options in [&["--csv"][..], &[]] {
        let first = place.done(&[&["export"], options].concat());
        let copy = Place::new();
        let (status, said) = import(&copy, "export", &first, &[]);
        assert_eq!(status, 0, "{said}");
        assert_eq!(copy.done(&[&["export"], options].concat()), first);
        assert_eq!(copy.json(&["history"]).len(), place.json(&["history"]).len());
        copy.verify();
    }
}

#[test]
fn json_and_a_table_are_not_exported_at_once() {
    let place = varied();
    for arguments in [
        &["--json", "export", "--csv"][..],
        &["export", "--json", "--csv"],
        &["--json", "export", "--to", "ses"],
        &["export", "--to", "ses", "--json"],
    ] {
        let output = place.run(arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}");
        assert!(text(&output.stderr).contains("cannot be used with"), "{arguments:?}");
    }
}
