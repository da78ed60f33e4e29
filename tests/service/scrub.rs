//! `optout scrub`: what is kept is kept byte for byte, and nobody who is suppressed gets through.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::common::{Place, objects, text};

const LIST: &str = "weekly.news.example.com";

/// With bob suppressed for the list, and carol for everything.
fn place() -> Place {
    let place = Place::with_store();
    place.done(&["suppress", "bob@example.org", "--list", LIST]);
    place.done(&["suppress", "carol@example.org", "--all", "--reason", "complaint"]);
    place
}

fn scrub(place: &Place, input: &[u8]) -> Output {
    place.run_with_input(&["scrub", "--list", LIST], input)
}

fn counts(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let last = text(&output.stderr).lines().last().expect("the counts").to_owned();
    objects(&last).remove(0)
}

/// Exactly this comes out of that.
fn keeps(place: &Place, input: &[u8], kept: &[u8]) {
    let output = scrub(place, input);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(output.stdout.escape_ascii().to_string(), kept.escape_ascii().to_string());
}

/// More rows than are asked for one by one.
fn many() -> String {
    (0..10_000).map(|n| format!("many{n}@example.net\n")).collect()
}

/// As [`keeps`], whether there are few rows or many: lines end with a line feed.
fn keeps_of_few_and_of_many(place: &Place, input: &str, kept: &str) {
    keeps(place, input.as_bytes(), kept.as_bytes());
    keeps(place, (input.to_owned() + &many()).as_bytes(), (kept.to_owned() + &many()).as_bytes());
}

/// It ends with 2, and says each of these.
fn refuses(place: &Place, input: &[u8], said: &[&str]) {
    let output = scrub(place, input);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert_eq!(message.lines().count(), 1, "one line: {message}");
    for part in said {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
}

fn through(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("it reads everything");
    assert!(output.status.success());
    output.stdout
}

#[test]
fn lines_are_kept_as_they_are() {
    let place = place();
    keeps(&place, b"", b"");
    keeps(
        &place,
        b"a@example.org\nBob@EXAMPLE.org\nz@example.org",
        b"a@example.org\nz@example.org",
    );
    keeps(
        &place,
        b"\xef\xbb\xbfbob@example.org\r\na@x.org\r\n \r\nb@x.org",
        b"\xef\xbb\xbfa@x.org\r\n \r\nb@x.org",
    );
    keeps(&place, b"a@x.org\rbob@example.org\rb@x.org\r", b"a@x.org\rb@x.org\r");
    keeps(&place, b" a@x.org \t\n bob@example.org \n", b" a@x.org \t\n");
    keeps(&place, b"email\na@x.org\nbob@example.org\n", b"email\na@x.org\n");
    keeps(&place, "größe@bücher.example\n".as_bytes(), "größe@bücher.example\n".as_bytes());
}

#[test]
fn csv_is_kept_as_it_is() {
    let place = place();
    keeps(
        &place,
        b"id,\"E-Mail\",note\r\n1,\"a@x.org\",\"one\r\n\"\"two\"\",bob@example.org\"\r\n\
          2,bob@example.org,x\r\n3,\"Carol@Example.org\",\"\r\n\"\r\n4,d@x.org,\xe4\xf6\xff",
        b"id,\"E-Mail\",note\r\n1,\"a@x.org\",\"one\r\n\"\"two\"\",bob@example.org\"\r\n4,d@x.org,\xe4\xf6\xff",
    );
    keeps(&place, b"n;email\n1;bob@example.org\n2;a@x.org\n", b"n;email\n2;a@x.org\n");
    keeps(&place, b"n\temail\n1\tbob@example.org\n2\ta@x.org\n", b"n\temail\n2\ta@x.org\n");
    let arguments = ["scrub", "--list", LIST, "--column", "to"];
    let input = b"email,TO\nbob@example.org,a@x.org\na@x.org,bob@example.org\n";
    let output = place.run_with_input(&arguments, input);
    assert_eq!(text(&output.stdout), "email,TO\nbob@example.org,a@x.org\n");
}

#[test]
fn rows_without_a_valid_address_are_left_out_and_counted() {
    let place = place();
    let bad = "nobody\n1 dave@example.org\nDave <dave@example.org>\n1,dave@example.org\na@\n\
               dave@exa mple.org\ndave@x.org,bob@example.org\n\"Dave\" dave@example.org\n\
               \u{a0}bob@example.org\n";
    let input = [b"a@x.org\n", bad.as_bytes(), b"\xff@x.org\nbob@example.org\n"].concat();
    let output = place.run_with_input(&["scrub", "--list", LIST, "--json"], &input);
    assert_eq!(text(&output.stdout), "a@x.org\n");
    assert_eq!(
        counts(&output),
        serde_json::json!({"list": LIST, "known": true, "rows": 12, "kept": 1, "suppressed": 1,
                           "invalid": 10, "first_invalid_line": 2})
    );
    let kept = place.run_with_input(&["scrub", "--list", LIST, "--keep-invalid"], &input);
    assert_eq!(kept.stdout, input[..input.len() - b"bob@example.org\n".len()]);
    // A name that is no address may be suppressed too.
    place.done(&["suppress", "nobody", "--list", LIST]);
    let kept = place.run_with_input(&["scrub", "--list", LIST, "--keep-invalid"], b"Nobody\nx\n");
    assert_eq!(text(&kept.stdout), "x\n");
}

#[test]
fn compressed_lists_are_seen_by_their_content_and_stay_so() {
    let place = place();
    let rows = "a@x.org\nbob@example.org\nb@x.org\n".repeat(50_000);
    let kept = "a@x.org\nb@x.org\n".repeat(50_000);
    let (rows, kept) = (rows.as_bytes(), kept.as_bytes());
    let gzip = through("gzip", &["-c"], rows);
    // Several members in a row are one file (RFC 1952 section 2.2).
    let twice = [&gzip[..], &gzip[..]].concat();
    let scrubbed = scrub(&place, &twice).stdout;
    assert!(through("gzip", &["-dc"], &scrubbed) == kept.repeat(2));
    let zstd = zstd::encode_all(rows, 3).expect("compressed");
    let scrubbed = scrub(&place, &zstd).stdout;
    assert!(zstd::decode_all(&scrubbed[..]).expect("zstd") == kept);

    fs::write(place.path().join("list"), &zstd).expect("written");
    for (name, program) in [("out", "cat"), ("out.txt", "cat"), ("out.gz", "gzip")] {
        place.done(&["scrub", "--list", LIST, "list", name]);
        let made = fs::read(place.path().join(name)).expect("made");
        let arguments: &[&str] = if program == "gzip" { &["-dc"] } else { &[] };
        assert!(through(program, arguments, &made) == kept, "{name}");
    }
    place.done(&["scrub", "--list", LIST, "list", "out.zst"]);
    let made = fs::read(place.path().join("out.zst")).expect("made");
    assert!(zstd::decode_all(&made[..]).expect("zstd") == kept);
}

#[test]
fn what_is_broken_is_said_with_its_place() {
    let place = place();
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    refuses(&place, &utf16("\u{feff}a@x.org\n"), &["standard input", "UTF-16", "iconv"]);
    refuses(&place, &utf16("a@x.org\n"), &["UTF-16"]);
    refuses(&place, b"id,mailbox\n", &["standard input", "columns are id, mailbox", "--column"]);
    refuses(&place, b"1,bob@example.org\n2,a@x.org\n", &["no header"]);
    refuses(
        &place,
        b"email,n\na@x.org,1\nb@x.org,\"2\nbob@example.org,3\n",
        &["line 3", "never closed"],
    );
    let mut long = b"a@x.org\nb@x.org\n".to_vec();
    long.resize(100_000_000, b'x');
    refuses(&place, &long, &["line 3", "1 MiB"]);
    let mut open = b"email,n\na@x.org,\"".to_vec();
    open.resize(3_000_000, b'\n');
    refuses(&place, &open, &["line 2", "not closed within 1 MiB"]);

    let rows: String = (0..100_000).map(|n| format!("a{n}@x.org\n")).collect();
    let gzip = through("gzip", &["-c"], rows.as_bytes());
    refuses(&place, &gzip[..gzip.len() / 2], &["gzip data ends early", "in line "]);
    refuses(&place, &gzip[..gzip.len() - 4], &["gzip data ends early", "in line 100001"]);
    let mut flipped = gzip.clone();
    let check = flipped.len() - 8;
    flipped[check] ^= 1;
    refuses(&place, &flipped, &["gzip data is broken"]);
    let zstd = zstd::encode_all(rows.as_bytes(), 3).expect("compressed");
    refuses(&place, &zstd[..zstd.len() / 2], &["zstd data ends early"]);
    let missing = place.run(&["scrub", "--list", LIST, "missing"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("missing cannot be read"));
}

#[test]
fn a_file_is_whole_or_as_it_was() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    let rows: String = (0..300_000).map(|n| format!("a{n}@x.org\n")).collect();
    let gzip = through("gzip", &["-c"], rows.as_bytes());
    fs::write(path("cut.gz"), &gzip[..gzip.len() - 9]).expect("written");
    fs::write(path("out"), "before").expect("written");
    let names = || {
        let entries = fs::read_dir(place.path()).expect("a directory");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    for out in ["out", "other"] {
        let output = place.run(&["scrub", "--list", LIST, "cut.gz", out]);
        assert_eq!(output.status.code(), Some(2));
    }
    assert_eq!(fs::read(path("out")).expect("still there"), b"before");
    assert_eq!(names(), before, "nothing is left beside it");

    // In place, through a link, and into a device.
    fs::write(path("list"), "a@x.org\nbob@example.org\n").expect("written");
    std::os::unix::fs::symlink("list", path("link")).expect("a link");
    place.done(&["scrub", "--list", LIST, "list", "link"]);
    assert_eq!(fs::read(path("list")).expect("replaced"), b"a@x.org\n");
    assert!(fs::symlink_metadata(path("link")).expect("there").is_symlink());
    place.done(&["scrub", "--list", LIST, "list", "/dev/null"]);
    assert!(!fs::metadata("/dev/null").expect("there").is_file());
}

#[test]
fn nothing_goes_through_without_a_store_that_answers() {
    let place = Place::new();
    refuses(&place, b"a@x.org\n", &["no store"]);
    let place = self::place();
    // A row whose content cannot be read; of many rows, none asks for it.
    let database = rusqlite::Connection::open(place.data().join("optout.db")).expect("it opens");
    database.execute("UPDATE recipient SET standing = x'0102'", []).expect("changed");
    drop(database);
    for input in ["a@x.org\nbob@example.org\n".to_owned(), many()] {
        let output = scrub(&place, input.as_bytes());
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("damaged"), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn an_unknown_list_is_warned_about() {
    let place = place();
    let output =
        place.run_with_input(&["scrub", "--list", "wekly.example.org", "--json"], b"a@x.org\n");
    assert!(text(&output.stderr).contains("names the list wekly.example.org"));
    assert_eq!(counts(&output)["known"], false);
}

/// What was recorded while it waits for its input counts for that input.
#[test]
fn what_comes_meanwhile_counts() {
    let place = place();
    let mut child = place
        .command(&["scrub", "--list", LIST])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("piped");
    let first = "a@x.org\n".repeat(1 << 17);
    // More than it reads before it has looked at the store.
    stdin.write_all(first.as_bytes()).expect("it reads");
    stdin.write_all(first.as_bytes()).expect("it reads");
    place.done(&["suppress", "dave@example.org", "--list", LIST]);
    place.done(&[
        "release",
        "bob@example.org",
        "--list",
        LIST,
        "--reason",
        "manual",
        "--note",
        "x",
    ]);
    stdin.write_all(b"dave@example.org\nbob@example.org\n").expect("it reads");
    drop(stdin);
    let reader = child.wait_with_output().expect("it ends");
    assert!(text(&reader.stdout).ends_with("a@x.org\nbob@example.org\n"));
}

/// A click is appended first and gets into its recipient's row behind: it counts at once.
#[test]
fn a_click_counts_at_once() {
    let place = place();
    let service = place.serve();
    for n in 0..20 {
        let recipient = format!("click{n}@example.org");
        let path = place.link(LIST, &recipient, "2026-01");
        assert_eq!(service.public("POST", &path, &[], b"").status, 200);
        keeps_of_few_and_of_many(&place, &format!("a@x.org\n{recipient}\n"), "a@x.org\n");
    }
    service.stop();
}

/// A store with much that narrows, ends and widens, and `optout check` as the oracle.
#[test]
fn it_answers_as_check_does() {
    let place = Place::with_store();
    let seconds = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64;
    let mut random = numbers(seconds | 1);
    println!("seed {seconds}");
    let lists = [LIST, "news.example.com", "example.com", "receipts.example.com", "other.example"];
    for n in 0..400 {
        let recipient = format!("r{}@example.org", random(60));
        let list = lists[random(lists.len())];
        let how = random(8);
        let mut arguments = match how {
            0 => vec!["opt-in", &recipient, "--list", list, "--evidence", "asked"],
            1 => vec!["suppress", &recipient, "--all", "--reason", "unsubscribe"],
            2 => vec!["suppress", &recipient, "--list", list, "--reason", "bounce"],
            3 => vec!["suppress", &recipient, "--list", list, "--until", "2100-01-01T00:00:00Z"],
            4 => vec!["release", &recipient, "--list", list, "--reason", "bounce", "--note", "x"],
            5 if n % 5 == 0 => vec!["forget", &recipient],
            _ => vec!["suppress", &recipient, "--list", list, "--reason", "unsubscribe"],
        };
        arguments.push("--json");
        let output = place.run(&arguments);
        assert!(output.status.code() < Some(2) || how == 0, "{}", text(&output.stderr));
    }
    let input: String = (0..80).map(|n| format!("R{n}@example.org\n")).collect();
    for list in lists {
        let check =
            place.run_with_input(&["check", "--list", list, "--json", "-"], input.as_bytes());
        let free = objects(&text(&check.stdout)).into_iter().filter(|o| o["suppressed"] == false);
        let free: String =
            free.map(|o| format!("{}\n", o["recipient"].as_str().expect("text"))).collect();
        for more in [String::new(), many()] {
            let input = input.clone() + &more;
            let scrubbed = place.run_with_input(&["scrub", "--list", list], input.as_bytes());
            assert_eq!(text(&scrubbed.stdout), free.clone() + &more, "{list}");
        }
    }
}

/// Of whom only the identifier is left, whatever was left how widely, and in whatever way the address
/// is written.
#[test]
fn the_forgotten_are_found() {
    let place = Place::with_store();
    let widths =
        ["--list=weekly.news.example.com", "--list=news.example.com", "--list=com", "--all"];
    let mut input = String::new();
    for (n, width) in widths.iter().enumerate() {
        let recipient = format!("left{n}@example.org");
        place.done(&["suppress", &recipient, width, "--reason", "unsubscribe"]);
        place.done(&["forget", &recipient]);
        input += &format!("LEFT{n}@Example.ORG.\nleft{n}@example.org\nleft{n}@example.com\n");
    }
    let kept: String = (0..widths.len()).map(|n| format!("left{n}@example.com\n")).collect();
    keeps_of_few_and_of_many(&place, &input, &kept);
}

/// Numbers below a bound (xorshift64).
fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |bound| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    }
}
