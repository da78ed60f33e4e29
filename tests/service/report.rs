//! `report`: what is counted, beside what was sent, and the page that says so.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use optout::ledger::Time;
use serde_json::{Value, json};

use crate::common::{LIST, Place, read_well_in_a_browser, skip, text};

const DAILY: &str = "daily.news.example.com";

/// What a campaign may be called by somebody who means ill.
const HOSTILE: &str = "<script>alert(1)</script>\u{202e}&\"' https://evil.example/x.png";

/// How often each happened, by its field's name.
type Counts = BTreeMap<String, u64>;

/// What a row counts, without what it does not.
fn counts(row: &Value) -> Counts {
    let row = row.as_object().expect("an object");
    let numbers = row.iter().filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)));
    numbers.filter(|(name, count)| *count > 0 && name != "groups").collect()
}

/// The rows by one thing, as the name of the group and what it counts.
fn groups(rows: &[Value], by: &str) -> Vec<(String, Counts)> {
    let own = rows.iter().filter(|row| row["by"] == by);
    own.map(|row| (row["group"].as_str().unwrap_or("(none)").to_owned(), counts(row))).collect()
}

fn counted<const N: usize>(numbers: [(&str, u64); N]) -> Counts {
    numbers.map(|(name, count)| (name.to_owned(), count)).into()
}

fn suppress(place: &Place, list: &str, reason: &str, recipients: &[String]) {
    let arguments = ["suppress", "-", "--list", list, "--reason", reason];
    let output = place.run_with_input(&arguments, recipients.join("\n").as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

fn recipients(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("somebody{n}@example.org")).collect()
}

/// A send log with so many messages to each list, all at one time.
fn send_log(place: &Place, name: &str, sent: &[(&str, usize, &str)], at: &str) -> PathBuf {
    let path = place.path().join(name);
    let rows = sent.iter().flat_map(|(list, count, campaign)| {
        let row = move |n| {
            format!("somebody{n}@example.org,{list},{at},\"{}\"\n", campaign.replace('"', "\"\""))
        };
        (0..*count).map(row)
    });
    let log: String =
        ["email,list,sent_at,campaign\n".to_owned()].into_iter().chain(rows).collect();
    fs::write(&path, log).expect("written");
    path
}

/// One of each kind of act, some of them twice.
fn known_acts(place: &Place) {
    let service = place.serve();
    let click = |list, who: &str, campaign| {
        let reply = service.click(&place.link(list, who, campaign));
        assert_eq!(reply.status, 200);
    };
    for who in ["a", "b", "c"] {
        click(LIST, &format!("{who}@example.org"), "spring");
    }
    click(LIST, "a@example.org", "spring");
    click(LIST, "d@example.org", "summer");
    click(DAILY, "a@example.org", "spring");
    let path = place.link(LIST, "e@example.org", "summer");
    let form = |form: &str| {
        let headers = ["Accept: text/html", "Content-Type: application/x-www-form-urlencoded"];
        let reply = service.public("POST", &path, &headers, form.as_bytes());
        assert_eq!(reply.status, 200, "{form}");
        reply.body
    };
    let left = form("act=opt_out");
    let from = left.find(r#"name="event" value=""#).expect("an undo") + 20;
    let event = left[from..].split('"').next().expect("a value");
    form("act=why&why=too_often");
    form(&format!("act=undo&event={event}"));
    form("act=pause&days=30");
    service.stop();
    // It stands already, which is on record and no opt-out.
    suppress(place, LIST, "unsubscribe", &["a@example.org".to_owned()]);
    suppress(place, LIST, "complaint", &["f@example.org".to_owned()]);
    suppress(place, "example.com", "bounce", &["g@example.org".to_owned()]);
    suppress(place, LIST, "manual", &["h@example.org".to_owned()]);
    place.done(&["opt-in", "b@example.org", "--list", LIST, "--evidence", "a form"]);
    let import = place.path().join("import.csv");
    fs::write(&import, "email\ni@example.org\nj@example.org\na@example.org\n").expect("written");
    place.done(&[
        "import",
        import.to_str().expect("UTF-8"),
        "--list",
        LIST,
        "--reason",
        "complaint",
    ]);
    place.done(&["forget", "j@example.org"]);
}

#[test]
fn known_acts_are_counted_by_each_thing() {
    let place = Place::with_store();
    known_acts(&place);
    let all = ["list", "campaign", "reason", "why", "source", "day", "week"];
    let by: Vec<_> = all.iter().flat_map(|by| ["--by", *by]).collect();
    let rows = place.json(&[&["report"], &by[..]].concat());
    let total = counted([
        ("opt_outs", 6),
        ("undos", 1),
        ("said_why", 1),
        ("pauses", 1),
        ("complaints", 1),
        ("bounces", 1),
        ("manual", 1),
        ("returns", 1),
        ("imported", 3),
    ]);
    assert_eq!(groups(&rows, "all"), [("everything".to_owned(), total.clone())]);
    let mut on_list = total.clone();
    on_list.insert("opt_outs".to_owned(), 5);
    on_list.remove("bounces");
    let expected: [(&str, Vec<(&str, Counts)>); 5] = [
        (
            "list",
            vec![
                (LIST, on_list),
                (DAILY, counted([("opt_outs", 1)])),
                ("example.com", counted([("bounces", 1)])),
            ],
        ),
        (
            "campaign",
            vec![
                (
                    "summer",
                    counted([("opt_outs", 2), ("undos", 1), ("said_why", 1), ("pauses", 1)]),
                ),
                ("spring", counted([("opt_outs", 4)])),
                (
                    "(none)",
                    counted([
                        ("complaints", 1),
                        ("bounces", 1),
                        ("manual", 1),
                        ("returns", 1),
                        ("imported", 3),
                    ]),
                ),
            ],
        ),
        (
            "reason",
            vec![
                ("unsubscribe", counted([("opt_outs", 6), ("undos", 1)])),
                ("complaint", counted([("complaints", 1), ("imported", 3)])),
                ("bounce", counted([("bounces", 1)])),
                ("manual", counted([("manual", 1)])),
                ("pause", counted([("pauses", 1)])),
                ("(none)", counted([("said_why", 1), ("returns", 1)])),
            ],
        ),
        ("why", vec![("too_often", counted([("said_why", 1)]))]),
        (
            "source",
            vec![
                ("one_click", counted([("opt_outs", 5)])),
                (
                    "cli",
                    counted([("complaints", 1), ("bounces", 1), ("manual", 1), ("returns", 1)]),
                ),
                ("page", counted([("opt_outs", 1), ("undos", 1), ("said_why", 1), ("pauses", 1)])),
                ("import", counted([("imported", 3)])),
            ],
        ),
    ];
    for (by, expected) in expected {
        let expected: Vec<_> =
            expected.into_iter().map(|(name, counts)| (name.to_owned(), counts)).collect();
        assert_eq!(groups(&rows, by), expected, "by {by}");
    }
    // However often midnight was passed meanwhile.
    for by in ["day", "week"] {
        let mut sum: Counts = BTreeMap::new();
        for (_, counts) in groups(&rows, by) {
            counts.into_iter().for_each(|(name, count)| *sum.entry(name).or_default() += count);
        }
        assert_eq!(sum, total, "by {by}");
    }
    let table = place.done(&["report"]);
    for said in ["OPT-OUTS", "UNDOS", "IMPORTED", "\nsummer", "\n(none)", "\ntoo_often"] {
        assert!(table.contains(said), "{said}: {table}");
    }
    assert!(!table.contains("DAY") && !table.contains("SENT"), "not asked for: {table}");
    // What is in the history up to a time is counted up to it, and from then on the rest.
    let history = place.history();
    let at = history[history.len() / 2]["at"].as_str().expect("a time");
    let sum = |option: &str| -> u64 {
        let rows = place.json(&["report", "--by", "list", option, at]);
        counts(&rows[0]).values().sum()
    };
    assert!(history.iter().any(|event| event["action"] == "opt_out" && event["changed"] == false));
    let later = history.iter().filter(|event| event["at"].as_str() >= Some(at));
    let weighs = |event: &&Value| {
        event["action"] == "feedback" || (event["changed"] == true && event["action"] != "forget")
    };
    assert_eq!(sum("--since"), later.filter(weighs).count() as u64);
    assert_eq!(sum("--since") + sum("--until"), total.values().sum::<u64>());
}

/// R. G. Newcombe, Two-sided confidence intervals for the single proportion, Statistics in
/// Medicine 17 (1998), table I, method 3, as parts of a thousand.
#[test]
fn rates_have_the_intervals_that_were_published() {
    let place = Place::with_store();
    let published = [
        ("a.example.com", 81, 263, Some((308.0, 255.3, 366.2))),
        ("b.example.com", 15, 148, Some((101.4, 62.4, 160.5))),
        ("c.example.com", 0, 20, Some((0.0, 0.0, 161.1))),
        ("d.example.com", 1, 29, Some((34.5, 6.1, 171.8))),
        // There is no rate where nothing is known of what was sent, and where that cannot be all.
        ("e.example.com", 3, 0, None),
        ("f.example.com", 2, 1, None),
    ];
    for (list, left, _, _) in published {
        suppress(&place, list, "unsubscribe", &recipients(left));
    }
    let sent = published.map(|(list, _, sent, _)| (list, sent, "spring"));
    let log = send_log(&place, "sent.csv", &sent, "2026-03-04T05:06:07+01:00");
    let log = log.to_str().expect("UTF-8");
    let rows = place.json(&["report", "--by", "list", "--by", "campaign", "--sends", log]);
    for (list, left, sent, rate) in published {
        let row = rows.iter().find(|row| row["group"] == list).expect("a row");
        assert_eq!(row["opt_outs"], left);
        assert_eq!(row["sent"], if sent > 0 { json!(sent) } else { Value::Null });
        let names = ["", "_low", "_high"].map(|end| format!("opt_outs_per_thousand{end}"));
        let found = names.map(|name| row[name].as_f64());
        let Some((rate, low, high)) = rate else {
            assert_eq!(found, [None; 3], "{list}");
            continue;
        };
        for (found, published) in found.iter().zip([rate, low, high]) {
            assert!(found.is_some_and(|found| (found - published).abs() < 0.06), "{row}");
        }
    }
    let total = &rows[0];
    assert_eq!((&total["opt_outs"], &total["sent"]), (&102.into(), &461.into()));
    let spring = rows.iter().find(|row| row["by"] == "campaign" && row["group"] == "spring");
    assert_eq!(counts(spring.expect("a row")), counted([("sent", 461)]), "nobody left by it");
    // The same as CSV and for people.
    let csv = place.done(&["report", "--by", "list", "--sends", log, "--csv"]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let head = reader.headers().expect("a header").clone();
    let records: Vec<_> = reader.records().map(|record| record.expect("CSV")).collect();
    let own: Vec<_> = rows.iter().filter(|row| row["by"] != "campaign").collect();
    assert_eq!(records.len(), own.len());
    for (record, row) in records.iter().zip(own) {
        for (name, field) in head.iter().zip(record) {
            let value = &row[name];
            let same = match value {
                Value::Null => field.is_empty(),
                Value::String(text) => text == field,
                number => field.parse().ok() == number.as_f64(),
            };
            assert!(same, "{name}: {field}, {value}");
        }
    }
    let table = place.done(&["report", "--by", "list", "--sends", log]);
    assert!(table.contains("307.99 (255.29 to 366.21)"), "{table}");
}

#[test]
fn send_logs_of_any_form_are_read_and_what_is_wrong_with_them_is_said() {
    let place = Place::with_store();
    suppress(&place, LIST, "unsubscribe", &recipients(2));
    let now = place.history()[0]["at"].as_str().expect("a time").to_owned();
    let plain = send_log(&place, "sent.csv", &[(LIST, 30, "c1"), (DAILY, 5, "")], &now);
    let lines: String = (0..10)
        .map(|n| json!({"to": format!("x{n}@example.org"), "newsletter": LIST, "ts": now, "mailing": "c2"}))
        .map(|row| format!("{row}\n"))
        .collect();
    let lines = format!("{lines}{{\"to\": \"nobody\", \"newsletter\": 7}}\n");
    let other = place.path().join("sent.ndjson.zst");
    fs::write(&other, zstd::encode_all(lines.as_bytes(), 3).expect("compressed")).expect("written");
    let named =
        ["--sends", plain.to_str().expect("UTF-8"), "--sends", other.to_str().expect("UTF-8")];
    let by = ["--by", "list", "--by", "campaign", "--by", "day", "--by", "source", "--json"];
    let output = place.run(&[&["report"], &named[..], &by[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("sent.ndjson.zst, line 11"), "{said}");
    let unknown = format!("names the list {DAILY} (messages: 5, the first in line 32)");
    assert!(said.contains(&unknown), "{said}");
    assert!(said.contains("hold 45 messages, sent from"), "{said}");
    let rows = crate::common::objects(&text(&output.stdout));
    let sent = |by: &str| -> Vec<_> {
        let own = rows.iter().filter(|row| row["by"] == by);
        own.map(|row| (row["group"].as_str(), row["sent"].as_u64())).collect()
    };
    assert_eq!(sent("list"), [(Some(LIST), Some(40)), (Some(DAILY), Some(5))]);
    assert_eq!(sent("campaign"), [(Some("c1"), Some(30)), (Some("c2"), Some(10)), (None, Some(5))]);
    assert_eq!(sent("day").iter().filter_map(|(_, sent)| *sent).sum::<u64>(), 45);
    assert_eq!(sent("source"), [(Some("cli"), None)], "a message has no such source");
    // What was sent at other times is none of the period's.
    let late = place.run(&[&["report", "--until", "2000-01-01T00:00:00Z"], &named[..]].concat());
    assert!(text(&late.stderr).contains("none of the messages was sent in the time"));
}

#[test]
fn rows_of_the_future_are_told_and_the_rest_is_counted() {
    let place = Place::with_store();
    suppress(&place, LIST, "unsubscribe", &recipients(1));
    let now = place.history()[0]["at"].as_str().expect("a time").to_owned();
    let log = send_log(&place, "sent.csv", &[(LIST, 3, "spring")], &now);
    let content = fs::read_to_string(&log).expect("written");
    let late = format!("x@example.org,{LIST},9998-01-01T00:00:00Z,spring\n");
    fs::write(&log, content + &late).expect("written");
    let log = log.to_str().expect("UTF-8");
    let output = place.run(&["report", "--by", "day", "--sends", log, "--json"]);
    let said = text(&output.stderr);
    assert!(said.contains("sent.csv, line 5: the message was not sent yet, by its time"), "{said}");
    assert!(said.contains("hold 3 messages"), "{said}");
    let rows = crate::common::objects(&text(&output.stdout));
    assert!(rows.len() < 4, "the total, the day, and another one after midnight: {}", rows.len());
    assert_eq!(rows[0]["sent"], 3);
}

#[test]
fn what_an_undo_gives_back_is_no_return() {
    let place = Place::with_store();
    suppress(&place, "example.com", "unsubscribe", &["a@example.org".to_owned()]);
    place.done(&["opt-in", "a@example.org", "--list", LIST, "--evidence", "a form"]);
    let service = place.serve();
    let path = place.link(LIST, "a@example.org", "spring");
    let form = |form: &str| {
        let headers = ["Accept: text/html", "Content-Type: application/x-www-form-urlencoded"];
        service.public("POST", &path, &headers, form.as_bytes()).body
    };
    let left = form("act=opt_out");
    let from = left.find(r#"name="event" value=""#).expect("an undo") + 20;
    form(&format!("act=undo&event={}", left[from..].split('"').next().expect("a value")));
    service.stop();
    let events = place.history();
    let came_back = events.iter().filter(|event| event["action"] == "opt_in").count();
    assert_eq!((events.len(), came_back), (5, 3), "the sign-up, and two of one undo");
    let total = counts(&place.json(&["report"])[0]);
    assert_eq!(total, counted([("opt_outs", 2), ("undos", 1), ("returns", 1)]));
    let stats = place.json(&["stats"]);
    let events = |action: &str| -> u64 {
        let own = stats.iter().filter(|cell| cell["action"] == action);
        own.filter_map(|cell| cell["events"].as_u64()).sum()
    };
    assert_eq!((events("undo"), events("opt_in")), (1, 1));
}

#[test]
fn names_are_told_from_the_rest_and_from_formulas() {
    let place = Place::with_store();
    suppress(&place, LIST, "unsubscribe", &recipients(1));
    let now = place.history()[0]["at"].as_str().expect("a time").to_owned();
    let lists: Vec<_> = (0..1001).map(|n| format!("l{n}.example.com")).collect();
    let mut sent: Vec<_> = lists.iter().map(|list| (&**list, 1, "")).collect();
    sent.extend([(LIST, 9, "others"), (LIST, 8, "(none)"), (LIST, 7, "=1+1"), (LIST, 6, "a-b")]);
    let log = send_log(&place, "sent.csv", &sent, &now);
    let sends = ["--sends", log.to_str().expect("UTF-8"), "--list-column", "list"];
    let by = ["report", "--by", "list", "--by", "campaign"];
    let rows = place.json(&[&by[..], &sends].concat());
    let kind = |by: &str, group: Value, sent: u64| {
        let is_it = |row: &&Value| row["by"] == by && row["group"] == group && row["sent"] == sent;
        rows.iter().find(is_it).map(|row| row["kind"].clone())
    };
    assert_eq!(kind("campaign", "others".into(), 9), Some("name".into()));
    assert_eq!(kind("campaign", "(none)".into(), 8), Some("name".into()));
    assert_eq!(kind("campaign", Value::Null, 1001), Some("none".into()));
    assert_eq!(kind("list", "others".into(), 2), Some("others".into()));
    let output = place.run(&[&by[..], &sends, &["--csv"]].concat());
    let (csv, said) = (text(&output.stdout), text(&output.stderr));
    assert!(csv.starts_with("by,group,kind,") && csv.contains("\ncampaign,=1+1,name,"), "{csv}");
    let warned = "1 row written whose name a spreadsheet takes for a formula";
    assert!(said.contains(warned), "{said}");
    let output = place.run(&[&by[..], &sends].concat());
    assert!(!text(&output.stderr).contains("spreadsheet"), "a table is for no spreadsheet");
}

#[test]
fn periods_stand_side_by_side_and_days_and_weeks_without_gaps() {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    if !Path::new(LIBRARY).exists() {
        return skip("faketime is not installed");
    }
    let place = Place::with_store();
    let at = |time: &str, arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("LD_PRELOAD", LIBRARY).env("FAKETIME", format!("@{time}")).env("TZ", "UTC");
        let output = command.output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    for (time, who) in [
        ("2026-12-28 00:00:05", "a"),
        ("2026-12-30 23:59:00", "b"),
        ("2027-01-03 12:00:00", "c"),
        ("2027-01-04 00:00:05", "d"),
        ("2027-01-04 10:00:00", "e"),
    ] {
        let who = format!("{who}@example.org");
        at(time, &["suppress", &who, "--list", LIST, "--reason", "unsubscribe"]);
    }
    let log = send_log(&place, "before.csv", &[(LIST, 40, "")], "2026-12-31T00:00:00Z");
    let more = send_log(&place, "after.csv", &[(LIST, 50, "")], "2027-01-04T00:00:00Z");
    let report = |options: &[&str]| {
        let sends =
            ["--sends", log.to_str().expect("UTF-8"), "--sends", more.to_str().expect("UTF-8")];
        let all = [&["report", "--json"], &sends[..], options].concat();
        crate::common::objects(&at("2027-01-06 08:00:00", &all))
    };
    let dated = |rows: &[Value], by: &str| -> Vec<(String, u64, u64)> {
        let own = rows.iter().filter(|row| row["by"] == by);
        let number = |row: &Value, name: &str| row[name].as_u64().unwrap_or_default();
        own.map(|row| {
            let name = row["group"].as_str().expect("a date").to_owned();
            (name, number(row, "opt_outs"), number(row, "sent"))
        })
        .collect()
    };
    let rows = report(&["--by", "day", "--by", "week"]);
    let day = |name: &str, left, sent| (name.to_owned(), left, sent);
    let expected = [
        day("2026-12-28", 1, 0),
        day("2026-12-29", 0, 0),
        day("2026-12-30", 1, 0),
        day("2026-12-31", 0, 40),
        day("2027-01-01", 0, 0),
        day("2027-01-02", 0, 0),
        day("2027-01-03", 1, 0),
        day("2027-01-04", 2, 50),
        day("2027-01-05", 0, 0),
        day("2027-01-06", 0, 0),
    ];
    assert_eq!(dated(&rows, "day"), expected);
    assert_eq!(dated(&rows, "week"), [day("2026-W53", 3, 40), day("2027-W01", 2, 50)]);
    let beside = [
        "--by",
        "list",
        "--since",
        "2027-01-04T00:00:00Z",
        "--beside",
        "2026-12-28T00:00:00Z..2027-01-04T00:00:00Z",
    ];
    let rows = report(&beside);
    let found: Vec<_> = rows.iter().map(|row| (&row["since"], counts(row))).collect();
    let after = (&json!("2027-01-04T00:00:00.000Z"), counted([("opt_outs", 2), ("sent", 50)]));
    let before = (&json!("2026-12-28T00:00:00.000Z"), counted([("opt_outs", 3), ("sent", 40)]));
    assert_eq!(found, [after.clone(), before.clone(), after, before], "in all, and of the list");
    // A day without a rate is shaded; one whose rate is nothing is not.
    let html = at("2027-01-06 08:00:00", &["report", "--by", "day", "--html", "-"]);
    assert!(!html.contains(r#"class="unknown""#) && !html.contains("; shaded"));
    let html = at(
        "2027-01-06 08:00:00",
        &["report", "--by", "day", "--html", "-", "--sends", log.to_str().expect("UTF-8")],
    );
    assert!(html.contains(r#"class="unknown" d="M0,200V0H3V200ZM4,200V0H10V200Z""#), "{html}");
    assert!(html.contains("with 95 % intervals; shaded where no rate is known"), "{html}");
    // What is shown is what was counted: no word about what it means.
    let table = at("2027-01-06 08:00:00", &[&["report"], &beside[..]].concat());
    assert!(table.contains("since 2027-01-04") && table.contains("2026-12-28 to 2027-01-04"));
    for claim in ["better", "worse", "significant", "improve"] {
        assert!(!table.contains(claim), "{claim}: {table}");
    }
}

#[test]
fn a_report_that_cannot_be_made_says_what_to_do() {
    let place = Place::with_store();
    let long_ago = "1990-01-01T00:00:00Z..1980-01-01T00:00:00Z";
    for (options, said) in [
        (&["--by", "month"][..], "list, campaign, reason, why, source, day, week"),
        (&["--beside", "yesterday"], "two times with .. between"),
        (&["--beside", "2026-01-01..2026-02-01"], "2026-01-31T12:00:00Z"),
        (&["--beside", long_ago], "a period ends after it begins"),
        (
            &["--since", "2026-01-02T00:00:00Z", "--until", "2026-01-02T00:00:00Z"],
            "--until: a period ends after",
        ),
        (&["--list", LIST], "--sends"),
        (&["--sends", "nowhere.csv"], "nowhere.csv"),
        (&["--html", "no/such/report.html"], "no/such/report.html cannot be written"),
        (&["--html", "x.html", "--csv"], "--csv"),
    ] {
        let output = place.run(&[&["report"], options].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options:?}: {error}");
        assert!(error.contains(said) && error.lines().count() == 1, "{options:?}: {error}");
    }
    let nowhere = Place::new().run(&["report"]);
    assert_eq!(nowhere.status.code(), Some(2), "{}", text(&nowhere.stderr));
    assert_eq!(place.json(&["report"]).len(), 1, "nothing happened: that is all there is to say");
}

/// What reads HTML and SVG strictly, and looks for what a page must not have.
const READER: &str = r#"
import html.parser, re, sys
import xml.etree.ElementTree as tree

VOID = {"meta", "br", "img", "link", "input", "hr"}
page = open(sys.argv[1], encoding="utf-8").read()

class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.seen, self.ids, self.policy = [], {}, set(), None
    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)
        assert tag not in ("script", "link", "iframe", "object", "base", "form"), tag
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in ("src", "href", "srcset", "action"), name
            assert "url(" not in (value or ""), value
        if "id" in attributes:
            assert attributes["id"] not in self.ids, attributes["id"]
            self.ids.add(attributes["id"])
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        if tag == "th":
            assert attributes.get("scope") in ("row", "col"), attributes
    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()
    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

reader = Reader()
reader.feed(page)
reader.close()
assert reader.open == [], reader.open
assert reader.policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:", reader.policy
assert "@import" not in page and "url(" not in page
assert reader.seen["table"] == reader.seen["caption"], reader.seen
plots = re.findall(r'<svg class="plot".*?</figure>', page, re.S)
for plot in plots:
    root = tree.fromstring(plot[:plot.rindex("</svg>") + 6])
    assert root.get("role") == "img"
    for place in ("aria-labelledby", "aria-describedby"):
        named = [part for part in root if part.get("id") == root.get(place)]
        assert len(named) == 1 and named[0].text, place
    assert "<table" in plot
    for part in root.iter():
        assert "nan" not in str(part.attrib).lower() and "inf" not in str(part.attrib).lower(), part.attrib
print(len(plots))
"#;

/// A page with every plot that a report has, of lists and campaigns with all kinds of names.
fn page(place: &Place, options: &[&str]) -> PathBuf {
    let path = place.path().join("report.html");
    let by = ["list", "campaign", "reason", "why", "source", "day", "week"];
    let by: Vec<_> = by.iter().flat_map(|by| ["--by", *by]).collect();
    place.done(&[&["report", "--html", path.to_str().expect("UTF-8")], &by[..], options].concat());
    path
}

fn with_hostile_names(place: &Place) -> PathBuf {
    known_acts(place);
    let service = place.serve();
    let long = "a-very-long-name-of-a-campaign".repeat(8);
    for (n, campaign) in [HOSTILE, &long, "漢字の長い名前のキャンペーン", ""].iter().enumerate()
    {
        let who = format!("somebody{n}@example.org");
        service.click(&place.link(DAILY, &who, campaign));
    }
    for n in 0..25 {
        service.click(&place.link(LIST, &format!("one{n}@example.org"), &format!("c{n}")));
    }
    service.stop();
    let at = place.history()[0]["at"].as_str().expect("a time").to_owned();
    let sent = [(LIST, 400, "spring"), (DAILY, 300, HOSTILE), (DAILY, 99, "c1")];
    let log = send_log(place, "sent.csv", &sent, &at);
    // Some days earlier too, so that there are some of which nothing is known.
    let earlier = at.parse::<Time>().expect("a time").minus(Duration::from_secs(5 * 24 * 60 * 60));
    let more = format!("x@example.org,{LIST},{earlier},spring\n");
    fs::write(&log, fs::read_to_string(&log).expect("written") + &more).expect("written");
    log
}

#[test]
fn the_page_is_well_formed_and_names_nobody() {
    let place = Place::with_store();
    let log = with_hostile_names(&place);
    let log = log.to_str().expect("UTF-8");
    let beside = ["--beside", "2020-01-01T00:00:00Z..2099-01-01T00:00:00Z", "--sends", log];
    for (options, plots) in [(&[][..], 7), (&["--sends", log], 7), (&beside, 9)] {
        let path = page(&place, options);
        let html = fs::read_to_string(&path).expect("written");
        for nobody in ["@example.org", "somebody", "one1", "a form", "\u{202e}"] {
            assert!(!html.contains(nobody), "{nobody}");
        }
        assert!(html.contains("&lt;script&gt;alert(1)") && html.contains("\\u{202e}"), "as text");
        let output =
            Command::new("python3").args(["-c", READER]).arg(&path).output().expect("Python runs");
        let said = text(&output.stderr);
        assert!(output.status.success(), "{options:?}: {said}");
        assert_eq!(text(&output.stdout).trim(), plots.to_string(), "{options:?}");
    }
    let printed = place.done(&["report", "--html", "-"]);
    assert!(printed.starts_with("<!doctype html>") && printed.ends_with("</html>"), "{printed}");
}

#[test]
fn the_page_reads_well_in_a_browser() {
    let place = Place::with_store();
    let log = with_hostile_names(&place);
    let log = log.to_str().expect("UTF-8");
    let beside = ["--beside", "2020-01-01T00:00:00Z..2099-01-01T00:00:00Z", "--sends", log];
    for options in [&[][..], &beside] {
        read_well_in_a_browser(&[page(&place, options)]);
    }
}
