//! `optout audit sends`: every message to somebody who was suppressed then is found, and no other.

use std::fs;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use optout::ledger::Time;
use serde_json::{Value, json};

use crate::common::{Place, eventually, objects, read_well_in_a_browser, text};

const WEEKLY: &str = "weekly.news.example.com";
const DAILY: &str = "daily.news.example.com";
const RECEIPTS: &str = "receipts.news.example.com";
const NEWS: &str = "news.example.com";

/// What came of an audit with `--json`.
struct Audited {
    status: i32,
    violations: Vec<Value>,
    summary: Value,
    said: String,
}

impl Audited {
    fn lines(&self) -> Vec<u64> {
        self.violations.iter().map(|own| own["line"].as_u64().expect("a line")).collect()
    }
}

fn audit(place: &Place, arguments: &[&str]) -> Audited {
    let output = place.run(&[&["audit", "sends"], arguments, &["--json"]].concat());
    let mut violations = objects(&text(&output.stdout));
    let summary = violations.pop().map_or(Value::Null, |mut last| last["summary"].take());
    let status = output.status.code().expect("it ends by itself");
    Audited { status, violations, summary, said: text(&output.stderr) }
}

fn audit_file(place: &Place, name: &str, content: impl AsRef<[u8]>, options: &[&str]) -> Audited {
    fs::write(place.path().join(name), content).expect("written");
    audit(place, &[&[name], options].concat())
}

/// It ends with 2, finds nothing, and says each of these.
fn refuses(place: &Place, name: &str, content: impl AsRef<[u8]>, options: &[&str], said: &[&str]) {
    let audited = audit_file(place, name, content, options);
    assert_eq!(audited.status, 2, "{}", audited.said);
    assert_eq!(audited.summary, Value::Null);
    for part in said {
        assert!(audited.said.contains(part), "{part:?} is not in {}", audited.said);
    }
}

fn millis(time: &Value) -> i64 {
    time.as_str().and_then(|text| text.parse::<Time>().ok()).expect("a time").as_millis()
}

/// When the newest event was recorded.
fn last_at(place: &Place) -> i64 {
    millis(&place.json(&["history", "--limit", "1"])[0]["at"])
}

/// Runs a command that records one event; when it was recorded.
fn records(place: &Place, arguments: &[&str]) -> i64 {
    place.done(arguments);
    last_at(place)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("in range")
}

fn shown(millis: i64) -> String {
    Time::from_millis(millis).expect("in range").to_string()
}

/// Messages, each with since when it is one too many; 0 for what might be sent.
#[derive(Default)]
struct Log(Vec<(String, &'static str, i64, i64)>);

impl Log {
    fn add(&mut self, recipient: &str, list: &'static str, at: i64, since: i64) {
        self.0.push((recipient.to_owned(), list, at, since));
    }

    fn fine(&mut self, recipient: &str, list: &'static str, at: i64) {
        self.add(recipient, list, at, 0);
    }

    fn too_many(&mut self, recipient: &str, list: &'static str, at: i64, since: i64) {
        self.add(recipient, list, at, since);
    }

    fn csv(&self) -> String {
        let rows =
            self.0.iter().map(|(recipient, list, at, _)| format!("{at},{recipient},{list}\n"));
        format!("sent_at,email,list\n{}", rows.collect::<String>())
    }

    fn ndjson(&self) -> String {
        let rows = self.0.iter();
        let rows =
            rows.map(|(to, list, at, _)| json!({"to": to, "list_id": list, "ts": shown(*at)}));
        rows.map(|row| format!("{row}\n")).collect()
    }

    /// Exactly those come out, with their times; the first row is in that line.
    fn check(&self, audited: &Audited, first_line: u64) {
        let expected: Vec<_> = (first_line..)
            .zip(&self.0)
            .filter(|(_, (.., since))| *since > 0)
            .map(|(line, (recipient, list, at, since))| {
                json!([
                    line,
                    recipient,
                    list,
                    shown(*at),
                    shown(*since),
                    (at - since) as f64 / 1000.0
                ])
            })
            .collect();
        let names = ["line", "recipient", "list", "sent_at", "suppressed_since", "after_seconds"];
        let found: Vec<_> = audited
            .violations
            .iter()
            .map(|own| json!(names.map(|name| own[name].clone())))
            .collect();
        for (expected, found) in expected.iter().zip(&found) {
            assert_eq!(expected, found);
        }
        assert_eq!(expected.len(), found.len(), "{found:?}");
        assert_eq!(audited.status, i32::from(!expected.is_empty()), "{}", audited.said);
        assert_eq!(audited.summary["violations"], expected.len());
        assert_eq!(audited.summary["messages"], self.0.len());
    }

    /// As CSV and as NDJSON, in this order and in the opposite one.
    fn holds(mut self, place: &Place) {
        for _ in 0..2 {
            self.check(&audit_file(place, "sent.csv", self.csv(), &[]), 2);
            self.check(&audit_file(place, "sent.ndjson", self.ndjson(), &[]), 1);
            self.0.reverse();
        }
    }
}

#[test]
fn what_stood_at_the_very_millisecond_counts() {
    let place = Place::with_store();
    let mut log = Log::default();
    // Out, back, and out again.
    let out = records(
        &place,
        &["suppress", "bob@example.org", "--list", WEEKLY, "--reason", "unsubscribe"],
    );
    let back =
        records(&place, &["opt-in", "bob@example.org", "--list", WEEKLY, "--evidence", "form"]);
    let again = records(
        &place,
        &["suppress", "bob@example.org", "--list", WEEKLY, "--reason", "unsubscribe"],
    );
    log.fine("bob@example.org", WEEKLY, out - 1);
    log.too_many("bob@example.org", WEEKLY, out, out);
    log.too_many("Bob@EXAMPLE.org", WEEKLY, back - 1, out);
    log.fine("bob@example.org", WEEKLY, back);
    log.fine("bob@example.org", WEEKLY, again - 1);
    log.too_many("bob@example.org", WEEKLY, again, again);
    log.too_many("bob@example.org", WEEKLY, again + 1_000_000, again);
    log.fine("bob@example.org", DAILY, again);
    log.fine("rob@example.org", WEEKLY, again);
    // A pause that is over.
    let until = now() + 3_600_000;
    let pause = |who: &str, until: i64| {
        let until = shown(until);
        let pause = ["suppress", who, "--list", WEEKLY, "--reason", "pause", "--until", &until];
        records(&place, &pause)
    };
    let paused = pause("dave@example.org", until);
    log.too_many("dave@example.org", WEEKLY, paused, paused);
    log.too_many("dave@example.org", WEEKLY, until - 1, paused);
    log.fine("dave@example.org", WEEKLY, until);
    // A pause that is extended is one pause.
    let paused = pause("erin@example.org", until);
    pause("erin@example.org", until + 500);
    log.too_many("erin@example.org", WEEKLY, until + 499, paused);
    log.fine("erin@example.org", WEEKLY, until + 500);
    // Released.
    let stopped = records(&place, &["suppress", "fay@example.org", "--all"]);
    let released = records(
        &place,
        &["release", "fay@example.org", "--all", "--reason", "manual", "--note", "a mistake"],
    );
    log.too_many("fay@example.org", "anything.example.net", released - 1, stopped);
    log.fine("fay@example.org", "anything.example.net", released);
    // Forgotten: the address in the log is theirs all the same.
    let left = records(
        &place,
        &["suppress", "gil@example.org", "--list", WEEKLY, "--reason", "unsubscribe"],
    );
    let forgotten = records(&place, &["forget", "gil@example.org"]);
    log.fine("gil@example.org", WEEKLY, left - 1);
    log.too_many("gil@example.org", WEEKLY, forgotten + 1, left);
    log.holds(&place);
    place.verify();
}

#[test]
fn an_import_counts_from_when_it_was_imported_here() {
    let place = Place::with_store();
    let rows = "email,reason,scope,since\nan@example.org,unsubscribe,news.example.com,2020-02-03T04:05:06+01:00\n";
    fs::write(place.path().join("old.csv"), rows).expect("written");
    let imported = records(&place, &["import", "old.csv"]);
    let mut log = Log::default();
    log.fine("an@example.org", WEEKLY, millis(&json!("2021-01-01T00:00:00Z")));
    log.fine("an@example.org", WEEKLY, imported - 1);
    log.too_many("an@example.org", WEEKLY, imported, imported);
    let audited = audit_file(&place, "sent.csv", log.csv(), &[]);
    let own = &audited.violations[0];
    assert_eq!(own["occurred"], "2020-02-03T03:05:06.000Z");
    assert_eq!(
        (&own["reason"], &own["scope"], &own["event"]),
        (&json!("unsubscribe"), &json!(NEWS), &json!(1))
    );
    assert_eq!(own["since_event"], 1);
    assert_eq!(audited.summary["before_history"], 2, "nothing was known then");
    log.holds(&place);
}

#[test]
fn wider_scopes_their_exceptions_and_essential_lists_are_as_they_were() {
    let catalogue = "[[sender]]\nscope = \"news.example.com\"\nname = \"News\"\n\
                     [[list]]\nid = \"receipts.news.example.com\"\ntitle = \"Receipts\"\nessential = \"proof\"\n";
    let place = Place::with_store().configured(catalogue);
    let service = place.serve();
    eventually("lists are described", || !place.history().is_empty());
    service.stop();
    let mut log = Log::default();
    // Everything of a sender but what is essential, one list excepted until they leave anew.
    let unsubscribe = ["suppress", "--reason", "unsubscribe", "ann@example.org", "--list"];
    let out = records(&place, &[&unsubscribe[..], &[NEWS]].concat());
    let back =
        records(&place, &["opt-in", "ann@example.org", "--list", WEEKLY, "--evidence", "form"]);
    let again = records(&place, &[&unsubscribe[..], &[NEWS]].concat());
    for (list, excepted_until) in [(WEEKLY, again), (DAILY, out)] {
        log.fine("ann@example.org", list, out - 1);
        log.too_many("ann@example.org", list, out, out);
        log.too_many("ann@example.org", list, back - 1, out);
        let since = [0, out][usize::from(list == DAILY)];
        log.add("ann@example.org", list, back, since);
        log.add("ann@example.org", list, again - 1, since);
        log.too_many("ann@example.org", list, again, excepted_until);
    }
    log.fine("ann@example.org", "badnews.example.com", again);
    log.fine("ann@example.org", RECEIPTS, again);
    // A stronger reason covers what is essential too; the time is still that of the first.
    let complaint = records(
        &place,
        &["suppress", "ann@example.org", "--list", "example.com", "--reason", "complaint"],
    );
    log.fine("ann@example.org", RECEIPTS, complaint - 1);
    log.too_many("ann@example.org", RECEIPTS, complaint, complaint);
    log.too_many("ann@example.org", DAILY, complaint, out);
    // Not essential any more.
    let left = records(
        &place,
        &["suppress", "--reason", "unsubscribe", "ben@example.org", "--list", NEWS],
    );
    let place = place.configured(&catalogue.replace("essential = ", "about = "));
    let service = place.serve();
    eventually("it is recorded", || place.history()[0]["value"] == "ordinary");
    service.stop();
    let ordinary = last_at(&place);
    log.too_many("ben@example.org", DAILY, left, left);
    log.fine("ben@example.org", RECEIPTS, ordinary - 1);
    log.too_many("ben@example.org", RECEIPTS, ordinary, ordinary);
    let audited = audit_file(&place, "sent.csv", log.csv(), &[]);
    let last = audited.violations.last().expect("one");
    assert_eq!((&last["since_event"], &last["reason"]), (&Value::Null, &json!("unsubscribe")));
    let of_two = &audited.violations[audited.violations.len() - 3];
    assert_eq!((&of_two["reason"], &of_two["scope"]), (&json!("complaint"), &json!("example.com")));
    log.holds(&place);
}

/// As of every time and for every list, the answer is that of what `check` said then.
#[test]
fn delays_are_counted_against_three_limits() {
    let place = Place::with_store();
    let out = records(&place, &["suppress", "bob@example.org", "--list", WEEKLY]);
    records(&place, &["suppress", "eve@example.org", "--list", WEEKLY]);
    let (hour, day) = (3_600_000, 86_400_000);
    let midnight = out - out % day;
    let mut log = Log::default();
    for at in [out, out + 48 * hour, out + 48 * hour + 1, midnight + 3 * day, midnight + 15 * day] {
        log.too_many("bob@example.org", WEEKLY, at, out);
    }
    let audited = audit_file(&place, "sent.csv", log.csv(), &[]);
    let summary = &audited.summary;
    assert_eq!(summary["within_48_hours"], 2);
    assert_eq!(summary["later_than_48_hours"], 3);
    assert_eq!(summary["later_than_2_days"], 2);
    assert_eq!(summary["later_than_10_business_days"], 1);
    assert_eq!((&summary["recipients"], &summary["rows"]), (&json!(1), &json!(5)));
    let slowest = (midnight + 15 * day - out) as f64 / 1000.0;
    assert_eq!(
        summary["slowest_effect"],
        json!({"after_seconds": slowest, "file": "sent.csv", "line": 6})
    );
    let output = place.run(&["audit", "sends", "sent.csv"]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    for part in [
        "5 messages to 1 recipients who were suppressed",
        "within 48 hours                       2",
        "later than 10 business days           1",
        "(sent.csv, line 6)",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    assert_eq!(told.lines().filter(|line| line.contains("bob@example.org")).count(), 5, "{told}");
    // Nothing is wrong with what was sent before.
    let fine = audit_file(
        &place,
        "fine.csv",
        format!("sent_at,email,list\n{},bob@example.org,{WEEKLY}\n", out - 1),
        &[],
    );
    assert_eq!((fine.status, fine.lines()), (0, Vec::new()));
}

#[test]
fn shapes_compressions_and_names_of_columns_are_found() {
    let place = Place::with_store();
    place.done(&["suppress", "bob@bücher.example", "--list", WEEKLY]);
    let at = "2030-01-02T03:04:05.678+01:00";
    let finds = |name: &str, content: &[u8], options: &[&str]| {
        let audited = audit_file(&place, name, content, options);
        assert_eq!(audited.lines().len(), 1, "{name}: {} {}", text(content), audited.said);
        assert_eq!(audited.violations[0]["sent_at"], "2030-01-02T02:04:05.678Z");
        assert_eq!(
            (audited.status, &audited.summary["messages"]),
            (1, &json!(2)),
            "{}",
            audited.said
        );
    };
    let rows = format!(
        "Recipient,List-Id,Sent At\nBob@Bücher.example,{WEEKLY},{at}\na@x.org,{WEEKLY},{at}\n"
    );
    finds("comma.csv", rows.as_bytes(), &[]);
    finds("mark.csv", format!("\u{feff}{}", rows.replace('\n', "\r\n")).as_bytes(), &[]);
    finds("semicolon.csv", rows.replace(',', ";").as_bytes(), &[]);
    finds("tab.csv", rows.replace(',', "\t").as_bytes(), &[]);
    let quoted = format!(
        "id,to,list,time,subject\n1,\"bob@bücher.example\",\"Weekly, \"\"the\"\" news <{}>\",\"{at}\",\"Hi,\nyou\"\n\
         2,a@x.org,{WEEKLY},{at},\n",
        WEEKLY.to_uppercase()
    );
    finds("quoted.csv", quoted.as_bytes(), &[]);
    let lines = format!(
        "{{\"email\":\"bob@bücher.example\",\"list\":\"{WEEKLY}\",\"timestamp\":\"{at}\",\"tags\":[\"x\"]}}\n\n\
         {{\"timestamp\":1893549845,\"list\":\"{WEEKLY}\",\"email\":\"a@x.org\"}}\n"
    );
    finds("lines.ndjson", lines.as_bytes(), &[]);
    finds("millis.ndjson", lines.replace(&format!("\"{at}\""), "1893549845678").as_bytes(), &[]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(rows.as_bytes()).expect("to memory");
    finds("log", &gzip.finish().expect("to memory"), &[]);
    finds("log", &zstd::encode_all(lines.as_bytes(), 1).expect("to memory"), &[]);
    let named = rows.replace("Recipient,List-Id,Sent At", "Ziel,Liste,Wann");
    let options = ["--column", "ziel", "--list-column", "Liste", "--time-column", "WANN"];
    finds("named.csv", named.as_bytes(), &options);
    let one = rows.replace("List-Id", "subject").replace(WEEKLY, "Hello");
    finds("one.csv", one.as_bytes(), &["--list", WEEKLY]);
    let naked = rows.replace(at, "2030-01-02 02:04:05.678");
    finds("naked.csv", naked.as_bytes(), &["--utc"]);
    // Several files, one of them on standard input.
    let output = place.run_with_input(&["audit", "sends", "comma.csv", "-"], rows.as_bytes());
    let told = text(&output.stdout);
    assert!(told.contains("comma.csv:2 ") && told.contains("standard input:2 "), "{told}");
    assert!(told.contains("4 rows: 4 messages, 0 rows left out"), "{told}");
}

#[test]
fn broken_rows_are_told_with_their_lines_and_the_rest_is_counted() {
    let place = Place::with_store();
    let out = records(&place, &["suppress", "bob@example.org", "--list", WEEKLY]);
    let at = shown(out + 1);
    let rows = format!(
        "email,list,time\n\
         bob@example.org,{WEEKLY},{at}\n\
         bob@example.org,{WEEKLY},2030-01-02 03:04:05\n\
         bob@example.org,{WEEKLY}\n\
         nobody,{WEEKLY},{at}\n\
         Bob bob@example.org,{WEEKLY},{at}\n\
         bob@example.org,Weekly News,{at}\n\
         bob@example.org,,{at}\n\
         bob@example.org,{WEEKLY},soon\n\
         bob@example.org,{WEEKLY},\n\
         \"bob@example.org\"x,{WEEKLY},{at}\n\
         bob@example.org,\"{WEEKLY},{at}\n\
         bob@example.org,weakly.news.example.com,{at}\n\
         bob@example.org,{WEEKLY},{}\n\
         b\u{fffd}ob@example.org,{WEEKLY},{at}\n",
        shown(out)
    );
    let rows = rows.replace('\u{fffd}', "\u{1}");
    let audited = audit_file(&place, "sent.csv", &rows, &["--bad", "bad.csv"]);
    assert_eq!(audited.lines(), [2, 14], "{}", audited.said);
    let said = &audited.said;
    for part in [
        "line 3: the date lacks its offset from UTC",
        "line 4: it has 2 fields, and the header has 3",
        "line 5: it holds no address",
        "line 6: there is more than one address, or something beside it",
        "line 7: its list: a list identifier cannot hold ' '",
        "line 8: it names no list",
        "line 9: the date is neither",
        "line 10: it does not say when the message was sent",
        "line 11: a quoted field begins in it",
        "line 12: a quoted field begins in it",
        "line 15: the recipient holds a control character",
        "names the list weakly.news.example.com (messages: 1, the first in line 13)",
        "messages that are not in the order of their times: 1, the first in line 14",
    ] {
        assert!(
            said.contains(&format!("sent.csv, {part}")) || said.contains(part),
            "{part:?} is not in {said}"
        );
    }
    assert!(!said.contains("bob@"), "no address is repeated in a message: {said}");
    let summary = &audited.summary;
    assert_eq!(
        (&summary["rows"], &summary["messages"], &summary["bad"]),
        (&json!(14), &json!(3), &json!(11))
    );
    assert_eq!(summary["bad_rows"]["it names no list"], json!({"rows": 1, "first_line": 8}));
    let file = &summary["files"][0];
    assert_eq!((&file["out_of_order"], &file["first_out_of_order_line"]), (&json!(1), &json!(14)));
    let unknown = json!([{"list": "weakly.news.example.com", "messages": 1, "first_line": 13}]);
    assert_eq!(file["unknown_lists"], unknown);
    let bad = fs::read_to_string(place.path().join("bad.csv")).expect("the file");
    assert_eq!(bad.lines().count(), 12, "{bad}");
    assert!(
        bad.starts_with("line,problem,row\n3,") && bad.contains("\"\"list\"\":\"\"Weekly News\"\""),
        "{bad}"
    );
    // Which of two fields of one name counts nobody can say.
    let one = format!(r#""list":"{WEEKLY}","time":"{}""#, shown(out));
    let rows = format!(
        "{{\"email\":\"bob@example.org\",\"email\":\"x@example.org\",{one}}}\n\
         {{\"email\":\"bob@example.org\",{one}}}\n"
    );
    let audited = audit_file(&place, "sent.ndjson", &rows, &[]);
    assert_eq!(audited.lines(), [2], "{}", audited.said);
    assert!(
        audited.said.contains("line 1: two of its fields have the same name"),
        "{}",
        audited.said
    );
    // Many are told in part, and all are in the file.
    let rows: String = (0..5000).map(|n| format!("bob@example.org,{WEEKLY},x{n}\n")).collect();
    let rows = format!("email,list,time\nbob@example.org,{WEEKLY},{at}\n{rows}");
    let audited = audit_file(&place, "many.csv", rows, &["--bad", "bad.csv"]);
    assert_eq!((audited.lines(), &audited.summary["bad"]), (vec![2], &json!(5000)));
    assert_eq!(audited.said.lines().count(), 21, "{}", audited.said);
    assert!(audited.said.contains("4980 more rows could not be read; all are in bad.csv"));
    let bad = fs::read_to_string(place.path().join("bad.csv")).expect("the file");
    assert_eq!(bad.lines().count(), 5001);
}

#[test]
fn order_and_lines_are_right_over_many_parts() {
    let place = Place::with_store();
    let out = records(&place, &["suppress", "bob@example.org", "--list", WEEKLY]);
    let mut rows = "email,list,time\n".to_owned();
    // More than are worked on together, each later than the one before but for three.
    for n in 0..50_000 {
        let earlier = if [0, 4096, 8192, 30_000].contains(&n) { 5 } else { 0 };
        let who = if n % 1000 == 0 { "bob" } else { "someone" };
        rows.push_str(&format!("{who}@example.org,{WEEKLY},{}\n", out + 10 + n - earlier));
    }
    let audited = audit_file(&place, "sent.csv", rows, &[]);
    let every_thousandth: Vec<u64> = (0..50).map(|n| 2 + 1000 * n).collect();
    assert_eq!(audited.lines(), every_thousandth);
    let file = &audited.summary["files"][0];
    assert_eq!(
        (&file["out_of_order"], &file["first_out_of_order_line"]),
        (&json!(3), &json!(4098))
    );
    assert_eq!(file["first_sent_at"], shown(out + 5));
    assert_eq!(file["last_sent_at"], shown(out + 10 + 49_999));
}

#[test]
fn what_is_no_send_log_is_refused_with_its_place() {
    let place = Place::with_store();
    place.done(&["suppress", "bob@example.org", "--list", WEEKLY]);
    let row = format!("bob@example.org,{WEEKLY},2030-01-02T03:04:05Z\n");
    let rows = format!("email,list,time\n{row}");
    refuses(
        &place,
        "none.csv",
        "email,list\na@x.org,b\n",
        &[],
        &["none.csv: which column holds the times?", "email, list", "--time-column"],
    );
    refuses(
        &place,
        "none.csv",
        "email,time\na@x.org,1\n",
        &[],
        &["holds the lists?", "--list-column", "--list LIST"],
    );
    refuses(
        &place,
        "none.csv",
        "who,list,time\na@x.org,b,1\n",
        &[],
        &["holds the addresses?", "--column NAME"],
    );
    refuses(
        &place,
        "none.csv",
        &rows,
        &["--time-column", "when"],
        &["there is no column \"when\"", "email, list, time"],
    );
    refuses(
        &place,
        "twice.csv",
        rows.replace("list,", "Email,"),
        &["--list", WEEKLY],
        &["\"email\" is there more than once"],
    );
    refuses(
        &place,
        "headless.csv",
        &row,
        &[],
        &["the first line is no header, since it holds an @"],
    );
    // Names that are addresses are not repeated, however they come to stand there.
    let quoted = format!("\"who\nalice@example.org\",list,time\n{row}");
    let object = json!({"alice@example.org": "a@x.org", "list": WEEKLY, "time": 1});
    for (name, log) in [("quoted.csv", quoted), ("objects.ndjson", format!("{object}\n"))] {
        for options in [&[][..], &["--column", "who"]] {
            refuses(&place, name, &log, options, &["what should be a name holds an @"]);
            let said = audit(&place, &[&[name], options].concat()).said;
            assert!(!said.contains("alice"), "{said}");
        }
    }
    let usual = json!({"@timestamp": 1, "to": "a@x.org", "list": WEEKLY});
    refuses(
        &place,
        "usual.ndjson",
        format!("{usual}\n"),
        &[],
        &["holds the times? the columns are @timestamp, list, to"],
    );
    refuses(
        &place,
        "lines.txt",
        "a@x.org\nb@x.org\n",
        &[],
        &["one address a line states no times"],
    );
    refuses(
        &place,
        "bad.csv",
        "email,list,time\na,b,c\nd,e,f\n",
        &[],
        &["none of the 2 rows can be read"],
    );
    let wide: Vec<u8> = rows.encode_utf16().flat_map(u16::to_le_bytes).collect();
    refuses(&place, "wide.csv", wide, &[], &["wide.csv", "UTF-16", "iconv"]);
    let missing = audit(&place, &["missing.csv"]);
    assert!(
        missing.status == 2 && missing.said.contains("missing.csv cannot be read"),
        "{}",
        missing.said
    );
    // What is before the break is found, and the break is told.
    let many = format!("{rows}{}", row.replace("bob", "someone.or.other").repeat(20_000));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(many.as_bytes()).expect("to memory");
    let whole = gzip.finish().expect("to memory");
    let cut = audit_file(&place, "cut.gz", &whole[..whole.len() / 2], &[]);
    assert_eq!(cut.status, 2);
    assert!(
        cut.said.contains("gzip data ends early, after") && cut.said.contains("in line"),
        "{}",
        cut.said
    );
    // A line of 100 MB is one bad row.
    let long = format!("email,list,time\n{row}{}@x.org,a,b\n{row}", "x".repeat(100 << 20));
    let audited = audit_file(&place, "long.csv", long, &[]);
    assert_eq!((audited.status, audited.lines()), (1, vec![2, 4]), "{}", audited.said);
    assert!(audited.said.contains("line 3: the row has more than 1 MiB"), "{}", audited.said);
    // A file without rows has no messages.
    let empty = audit_file(&place, "empty.csv", "email,list,time\n", &[]);
    assert_eq!((empty.status, &empty.summary["messages"]), (0, &json!(0)), "{}", empty.said);
    // Whose column of lists names something else.
    let texts: String =
        (0..10_001).map(|n| format!("a@x.org,m{n},2030-01-02T03:04:05Z\n")).collect();
    refuses(
        &place,
        "texts.csv",
        format!("email,list,time\n{texts}"),
        &[],
        &["more than 10000 lists", "--list-column"],
    );
}

#[test]
fn the_page_stands_alone_and_masks_addresses() {
    let place = Place::with_store();
    let out = records(&place, &["suppress", "bob@example.org", "--list", WEEKLY]);
    records(&place, &["suppress", "carol@example.net", "--all", "--reason", "complaint"]);
    let day = 86_400_000;
    let mut log = Log::default();
    for n in 0..30 {
        log.too_many("bob@example.org", WEEKLY, out + n * day, out);
        log.fine("alice@example.org", WEEKLY, out + n * day);
    }
    log.too_many("\"<i>&\"@example.org", "other.example.net", out + day, out);
    log.too_many("Carol@example.net", "other.example.net", out + day, out);
    let content = log.ndjson() + "{\"to\":\"nobody\"}\n";
    place.done(&["suppress", "\"<i>&\"@example.org", "--all"]);
    fs::write(place.path().join("sent.ndjson"), content).expect("written");
    let page = |options: &[&str]| {
        let output = place
            .run(&[&["audit", "sends", "sent.ndjson", "--html", "sent.html"], options].concat());
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        fs::read_to_string(place.path().join("sent.html")).expect("the page")
    };
    let masked = page(&[]);
    for part in [
        "b***@example.org",
        "C***@example.net",
        "Of 62 messages, 32 were sent",
        "3 recipients",
        "48 hours",
        "<svg",
        "sent.ndjson, line 59",
        "complaint",
    ] {
        assert!(masked.contains(part), "{part:?} is not in {masked}");
    }
    for part in ["bob@", "arol@", "<script", "http:", "https:", "<link", "url(", "<i>"] {
        assert!(!masked.contains(part), "{part:?} is in {masked}");
    }
    read_well_in_a_browser(&[place.path().join("sent.html")]);
    let whole = page(&["--addresses"]);
    assert!(whole.contains("bob@example.org") && whole.contains("Carol@example.net"));
    assert!(!whole.contains("<i>") && whole.contains("&lt;i&gt;&amp;"), "{whole}");
    let refused = place.run(&["audit", "sends", "sent.ndjson", "--html", "no/such/directory.html"]);
    assert_eq!(refused.status.code(), Some(2));
    // Nothing to find is said too.
    fs::write(
        place.path().join("fine.csv"),
        format!("email,list,time\na@x.org,{WEEKLY},{}\n", shown(out)),
    )
    .expect("written");
    place.done(&["audit", "sends", "fine.csv", "--html", "fine.html"]);
    let fine = fs::read_to_string(place.path().join("fine.html")).expect("the page");
    assert!(fine.contains("None of 1 messages") && !fine.contains("<svg"), "{fine}");
}
