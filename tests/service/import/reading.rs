//! How files are read: which rows they have, what those state, and which are bad.

use std::fs;

use super::{exported, gzip, import, rows, sample};
use crate::common::{Place, text};

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
