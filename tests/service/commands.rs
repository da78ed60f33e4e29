//! The command line, on a store that nobody serves and on a live one.

use crate::common::{LIST, Place, eventually, objects, text};

#[test]
fn readers_make_no_store_and_name_the_directory() {
    let place = Place::new();
    let commands: &[&[&str]] = &[
        &["check", "--list", LIST, "a@example.org"],
        &["suppress", "a@example.org", "--all"],
        &["opt-in", "a@example.org", "--list", LIST, "--evidence", "x"],
        &["release", "a@example.org", "--all", "--reason", "manual", "--note", "x"],
        &["show", "a@example.org"],
        &["history"],
        &["forget", "a@example.org"],
        &["verify"],
        &["stats"],
        &["headers", "--list", LIST, "--recipient", "a@example.org"],
        &["lint"],
        &["link", "open", "x"],
        &["key", "list"],
        &["key", "show", "00000000"],
        &["key", "retire", "00000000"],
        &["apikey", "new", "--role", "sender"],
        &["apikey", "list"],
        &["apikey", "revoke", "x"],
    ];
    for arguments in commands {
        let output = place.run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(&place.data().display().to_string()), "{arguments:?}: {said}");
    }
    // A mail must not be bounced because a disk is not mounted: try again (sysexits.h).
    let received = place.run(&["receive", "unsubscribe+x@leave.example.com"]);
    assert_eq!(received.status.code(), Some(75));
    // Not there yet, and so no maker of stores either.
    assert_eq!(place.run(&["scrub", "--list", LIST]).status.code(), Some(2));
    assert_eq!(
        std::fs::read_dir(place.path()).expect("a directory").count(),
        0,
        "nothing was made"
    );
}

#[test]
fn key_new_makes_a_store_that_nobody_else_can_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let output = place.run(&["key", "new"]);
    assert!(text(&output.stderr).contains("made a new store"));
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    };
    assert_eq!(mode(&place.data()), 0o700);
    for entry in std::fs::read_dir(place.data()).expect("a directory") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert!(!text(&place.run(&["key", "new"]).stderr).contains("made a new store"));
}

#[test]
fn keys_are_made_added_listed_shown_and_retired() {
    let place = Place::with_store();
    let service = place.serve();
    let first = place.json(&["key", "list"])[0]["key"].as_str().expect("an id").to_owned();
    let old_link = place.link(LIST, "a@example.org", "");
    let unused = place.json(&["key", "new", "--list", "news.example.com"])[0]["key"]
        .as_str()
        .expect("an id")
        .to_owned();
    let by_newest = place.link(LIST, "a@example.org", "");
    assert_eq!(place.json(&["link", "open", &by_newest])[0]["key"], unused.as_str());
    let elsewhere = place.link("shop.example.net", "a@example.org", "");
    assert_eq!(place.json(&["link", "open", &elsewhere])[0]["key"], first.as_str());
    assert_eq!(service.click(&old_link).status, 200, "older keys open");

    let listed = place.json(&["key", "list"]);
    assert!(listed[0]["last_post"].is_string() && listed[1]["last_post"].is_null(), "{listed:?}");
    let secret = place.done(&["key", "show", &first]);
    assert!(secret.starts_with("optout_key_") && !format!("{listed:?}").contains(secret.trim()));

    let refused = place.run(&["key", "retire", &first]);
    assert!(refused.status.code() == Some(2) && text(&refused.stderr).contains("--force"));
    place.done(&["key", "retire", &first, "--force"]);
    place.done(&["key", "retire", &unused]);
    for path in [&old_link, &by_newest] {
        eventually("a retired key opens nothing", || service.click(path).status == 404);
    }
    assert_eq!(place.run_with_input(&["key", "add"], secret.as_bytes()).status.code(), Some(0));
    eventually("it comes back", || service.click(&old_link).status == 200);
}

#[test]
fn a_key_made_elsewhere_signs_links_that_open_here_at_once() {
    let (here, there) = (Place::with_store(), Place::with_store());
    let service = here.serve();
    let path = there.link(LIST, "a@example.org", "");
    assert_eq!(service.click(&path).status, 404);
    let id = there.json(&["key", "list"])[0]["key"].as_str().expect("an id").to_owned();
    let secret = there.done(&["key", "show", &id]);
    assert_eq!(here.run_with_input(&["key", "add"], secret.as_bytes()).status.code(), Some(0));
    eventually("the key is known", || service.click(&path).status == 200);
}

#[test]
fn suppress_check_opt_in_release_and_show_on_a_live_store() {
    let place = Place::with_store();
    let service = place.serve();
    let r = "alice@example.org";
    place.done(&["suppress", r, "--list", "example.com", "--note", "asked by phone"]);
    place.done(&["suppress", r, "--list", LIST, "--reason", "unsubscribe"]);
    let check = place.run(&["check", "--list", LIST, r, "bob@example.org", "--json"]);
    let rows = objects(&text(&check.stdout));
    assert_eq!(check.status.code(), Some(1));
    assert_eq!(
        (&rows[0]["suppressed"], &rows[0]["suppression"]["reason"]),
        (&true.into(), &"manual".into())
    );
    assert_eq!(
        (&rows[1]["suppressed"], &rows[1]["suppression"]),
        (&false.into(), &serde_json::Value::Null)
    );

    let refused = place.run(&["opt-in", r, "--list", LIST, "--evidence", "form"]);
    assert!(refused.status.code() == Some(2) && text(&refused.stderr).contains("manual"));
    let released = place.json(&[
        "release",
        r,
        "--list",
        "example.com",
        "--reason",
        "manual",
        "--note",
        "mistake",
    ]);
    assert_eq!(
        (&released[0]["changed"], released[0]["standing"].as_array().map(Vec::len)),
        (&true.into(), Some(0))
    );
    let both = place.json(&["release", r, "--list", LIST, "--reason", "bounce", "--note", "x"]);
    assert_eq!(both[0]["changed"], false);
    assert_eq!(both[0]["standing"][0]["reason"], "unsubscribe", "others that stand are said");
    place.done(&["opt-in", r, "--list", LIST, "--evidence", "form"]);
    assert_eq!(place.check(LIST, r), 0);

    let shown = &place.json(&["show", "ALICE@example.org"])[0];
    assert_eq!(
        (&shown["address"], shown["suppressions"].as_array().map(Vec::len)),
        (&r.into(), Some(0))
    );
    let notes: Vec<_> =
        shown["events"].as_array().expect("rows").iter().map(|e| e["note"].clone()).collect();
    assert_eq!(
        notes,
        [
            "form".into(),
            "x".into(),
            "mistake".into(),
            "form".into(),
            serde_json::Value::Null,
            "asked by phone".into()
        ]
    );
    let actor = &shown["events"][0]["actor"];
    assert_eq!(
        actor,
        &text(&std::process::Command::new("id").arg("-un").output().expect("id runs").stdout)
            .trim()
    );
    drop(service);
    place.verify();
}

#[test]
fn an_opt_in_beneath_a_wider_scope_is_an_exception() {
    let place = Place::with_store();
    place.done(&["suppress", "a@example.org", "--all", "--reason", "unsubscribe"]);
    place.done(&["opt-in", "a@example.org", "--list", LIST, "--evidence", "form"]);
    assert_eq!(
        (place.check(LIST, "a@example.org"), place.check("other.example", "a@example.org")),
        (0, 1)
    );
    assert_eq!(place.json(&["show", "a@example.org"])[0]["exceptions"][0], LIST);
    place.done(&["suppress", "a@example.org", "--all", "--reason", "unsubscribe"]);
    assert_eq!(place.check(LIST, "a@example.org"), 1, "covered again by a later act");
    place.verify();
}

#[test]
fn recipients_come_from_standard_input_too() {
    let place = Place::with_store();
    let many: String = (0..2500).map(|n| format!("r{n}@example.org\n")).collect();
    let output =
        place.run_with_input(&["suppress", "-", "--list", LIST, "--json"], many.as_bytes());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(objects(&text(&output.stdout)).len(), 2500);
    let check = place.run_with_input(
        &["check", "--list", LIST, "-", "--json"],
        b"r7@example.org\r\n\nx@example.org",
    );
    assert_eq!(objects(&text(&check.stdout)).len(), 2);
    let bad = place
        .run_with_input(&["check", "--list", LIST, "-"], b"r7@example.org\n@\nr8@example.org\n");
    assert_eq!(bad.status.code(), Some(2));
    assert!(text(&bad.stderr).contains("line 2") && text(&bad.stdout).contains("r8@example.org"));
    let long =
        place.run_with_input(&["check", "--list", LIST, "-"], "x".repeat(1_000_000).as_bytes());
    assert!(long.status.code() == Some(2) && text(&long.stderr).contains("line 1"));
    place.verify();
}

#[test]
fn an_unknown_list_is_warned_of() {
    let place = Place::with_store();
    place.done(&["suppress", "a@example.org", "--list", LIST]);
    for (list, warned) in [(LIST, false), ("weekly.news.example.co", true)] {
        for arguments in [
            vec!["check", "--list", list, "b@example.org"],
            vec!["headers", "--list", list, "--recipient", "b@example.org"],
        ] {
            let said = text(&place.run(&arguments).stderr);
            assert_eq!(
                said.contains("warning") && said.contains(list),
                warned,
                "{arguments:?}: {said}"
            );
        }
    }
}

#[test]
fn history_filters_and_formats() {
    let place = Place::with_store();
    let service = place.serve();
    service.click(&place.link(LIST, "a@example.org", "spring"));
    place.done(&["suppress", "b@example.org", "--all", "--note", "says \"no\", twice"]);
    service.click(&place.link("shop.example.net", "a@example.org", ""));
    let key = place.json(&["key", "list"])[0]["key"].as_str().expect("an id").to_owned();
    let numbers = |arguments: &[&str]| -> Vec<u64> {
        let rows = place.json(&[&["history"], arguments].concat());
        rows.iter().map(|row| row["event"].as_u64().expect("a number")).collect()
    };
    assert_eq!(numbers(&[]), [3, 2, 1]);
    assert_eq!(numbers(&["A@example.org"]), [3, 1]);
    assert_eq!(numbers(&["--list", LIST]), [1]);
    assert_eq!(numbers(&["--list", "*"]), [2]);
    assert_eq!(numbers(&["--action", "suppress"]), [2]);
    assert_eq!(numbers(&["--source", "one_click"]), [3, 1]);
    assert_eq!(numbers(&["--campaign", "spring"]), [1]);
    assert_eq!(numbers(&["--key", &key]), [3, 1]);
    assert_eq!(numbers(&["--limit", "2"]), [3, 2]);
    let at = place.history()[1]["at"].as_str().expect("a time").to_owned();
    assert_eq!(numbers(&["--since", &at]), [3, 2]);
    assert_eq!(numbers(&["--until", &at]), [1]);
    let csv = place.done(&["history", "--csv"]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("CSV");
    let note = reader
        .headers()
        .expect("a header")
        .iter()
        .position(|name| name == "note")
        .expect("a column");
    assert_eq!((rows.len(), &rows[1][note]), (3, "says \"no\", twice"));
    let table = place.done(&["history"]);
    assert!(table.starts_with("EVENT") && table.lines().count() == 4, "{table}");
    // What a recipient typed may be meant for a spreadsheet.
    let warned = "1 row written whose note, campaign or the like a spreadsheet takes for a formula";
    let said = |arguments: &[&str]| text(&place.run(&[&["history"], arguments].concat()).stderr);
    assert_eq!(said(&["--csv"]), "");
    place.done(&["suppress", "c@example.org", "--all", "--note", "=HYPERLINK(1)"]);
    assert!(said(&["--csv"]).contains(warned), "{}", said(&["--csv"]));
    assert_eq!((said(&[]), said(&["--json"])), (String::new(), String::new()));
}

#[test]
fn repeats_are_counted_and_carried_by_the_next_event() {
    let place = Place::with_store();
    let service = place.serve();
    let path = place.link(LIST, "a@example.org", "");
    (0..5).for_each(|_| assert_eq!(service.click(&path).status, 200));
    assert_eq!(place.history().len(), 1);
    eventually("they are counted", || place.json(&["show", "a@example.org"])[0]["repeats"] == 4);
    place.done(&["suppress", "a@example.org", "--list", LIST, "--reason", "unsubscribe"]);
    let history = place.history();
    assert_eq!(history.len(), 2, "another source is stored");
    assert_eq!((&history[0]["changed"], &history[0]["repeats"]), (&false.into(), &4.into()));
    place.verify();
}

#[test]
fn stats_count_by_list_campaign_reason_and_day() {
    let place = Place::with_store();
    let service = place.serve();
    for (n, campaign) in ["spring", "spring", "summer"].iter().enumerate() {
        service.click(&place.link(LIST, &format!("r{n}@example.org"), campaign));
    }
    let rows = place.json(&["stats"]);
    let count = |campaign: &str| {
        rows.iter().find(|row| row["campaign"] == campaign).map(|row| row["events"].clone())
    };
    assert_eq!((count("spring"), count("summer")), (Some(2.into()), Some(1.into())));
    assert!(rows.iter().all(|row| row["scope"] == LIST
        && row["reason"] == "unsubscribe"
        && row["action"] == "opt_out"));
    let table = place.done(&["stats"]);
    for head in ["LIST", "CAMPAIGN", "REASON", "DAY"] {
        assert!(table.contains(head), "{table}");
    }
}

#[test]
fn lint_says_whether_one_click_will_work() {
    let place = Place::with_store();
    let lines =
        place.done(&["headers", "--list", LIST, "--recipient", "a@example.org", "--list-id"]);
    let signature =
        "DKIM-Signature: v=1; a=rsa-sha256; h=from:list-unsubscribe:list-unsubscribe-post; b=x\n";
    let good = format!("{signature}From: n@example.com\n{lines}\nhello\n");
    let output = place.run_with_input(&["lint"], good.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains(&format!("a@example.org leaves {LIST}")));
    let file = place.path().join("m.eml");
    std::fs::write(&file, good.replace("list-unsubscribe-post;", "subject;"))
        .expect("it can be written");
    let output = place.run(&["lint", "m.eml", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let wrong: Vec<_> =
        objects(&text(&output.stdout)).into_iter().filter(|row| row["passed"] == false).collect();
    assert_eq!((wrong.len(), &wrong[0]["check"]), (1, &"dkim".into()));
    let forged = good.replace("/u/", "/u/x");
    assert_eq!(place.run_with_input(&["lint"], forged.as_bytes()).status.code(), Some(1));
}

#[test]
fn configuration_comes_from_file_environment_and_flags_in_that_order() {
    let place = Place::new();
    let path = place.path().join("optout.toml");
    std::fs::write(&path, "data = \"from-file\"\n[public]\nbase_url = \"https://file.example\"\n")
        .expect("it can be written");
    let run = |environment: &[(&str, &str)], arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_optout"));
        command.current_dir(place.path()).args(arguments).envs(environment.iter().copied());
        command.output().expect("it runs")
    };
    let config = ["--config", "optout.toml"];
    assert_eq!(run(&[], &[&config[..], &["key", "new"]].concat()).status.code(), Some(0));
    assert!(place.path().join("from-file").is_dir());
    let headers = ["headers", "--list", LIST, "--recipient", "a@example.org"];
    let base = |environment: &[(&str, &str)], arguments: &[&str]| {
        let output = run(environment, &[arguments, &headers].concat());
        text(&output.stdout).split('/').nth(2).unwrap_or_default().to_owned()
    };
    assert_eq!(base(&[("OPTOUT_CONFIG", "optout.toml")], &[]), "file.example");
    let environment = [("OPTOUT_PUBLIC_BASE_URL", "https://env.example")];
    assert_eq!(base(&environment, &config), "env.example");
    assert_eq!(
        base(
            &environment,
            &[&config[..], &["--set", "public.base_url=https://flag.example"]].concat()
        ),
        "flag.example"
    );
    assert_eq!(run(&[("OPTOUT_DATA", "from-env")], &["key", "new"]).status.code(), Some(0));
    assert!(place.path().join("from-env").is_dir());
    let typo = run(&[("OPTOUT_PUBLC_LISTEN", "x")], &["key", "list"]);
    assert!(typo.status.code() == Some(2) && text(&typo.stderr).contains("OPTOUT_PUBLIC_LISTEN"));
}

#[test]
fn completions_and_man_pages_are_written() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.done(&["completions", shell]).contains("optout"));
    }
    place.done(&["man", "."]);
    let pages: Vec<_> = std::fs::read_dir(place.path())
        .expect("a directory")
        .map(|e| e.expect("an entry").file_name())
        .collect();
    for page in ["optout.1", "optout-serve.1", "optout-check.1", "optout-key-new.1"] {
        assert!(pages.contains(&page.into()), "{pages:?}");
    }
    let script = place.done(&["completions", "bash"]);
    let checked = std::process::Command::new("bash").args(["-n", "-c", &script]).status();
    assert!(checked.expect("bash runs").success());
}

#[test]
fn control_characters_from_outside_do_not_reach_the_terminal() {
    let place = Place::with_store();
    let service = place.serve();
    let id = place.json(&["key", "list"])[0]["key"].as_str().expect("an id").to_owned();
    let key: optout::link::SigningKey = place.done(&["key", "show", &id]).parse().expect("a key");
    let list = LIST.parse().expect("a list");
    let link =
        optout::link::Link::new(1, list, "\u{1b}[31m", "\u{1b}]0;evil\u{7}").expect("a link");
    assert_eq!(
        service.click(&format!("/u/{}", link.seal(&key))).status,
        200,
        "it is never refused"
    );
    assert!(!place.done(&["history"]).contains('\u{1b}'));
    assert_eq!(place.history()[0]["recipient"], "\u{1b}]0;evil\u{7}");
    place.verify();
}

/// Links may have been made for what is no valid address; who opted out by one can be found.
#[test]
fn a_recipient_that_only_a_link_could_bring_can_be_checked_shown_and_forgotten() {
    let place = Place::with_store();
    let service = place.serve();
    let id = place.json(&["key", "list"])[0]["key"].as_str().expect("an id").to_owned();
    let key: optout::link::SigningKey = place.done(&["key", "show", &id]).parse().expect("a key");
    let odd = "Max@my_host.example";
    let link = optout::link::Link::new(1, LIST.parse().expect("a list"), "", odd).expect("a link");
    assert_eq!(
        place.run(&["check", "--list", LIST, odd]).status.code(),
        Some(2),
        "not on record yet"
    );
    assert_eq!(service.click(&format!("/u/{}", link.seal(&key))).status, 200);
    assert_eq!(place.check(LIST, "max@my_host.example"), 1);
    let query = format!("/v1/check?list={LIST}&recipient={odd}");
    assert_eq!(service.api("GET", &query, &[], "").json()["suppressed"], true);
    let body = format!(r#"{{"list":"{LIST}","recipients":["{odd}","x@other_host.example"]}}"#);
    let many = service.api("POST", "/v1/check", &[], &body).json();
    assert_eq!((&many["checked"], many["errors"].as_array().map(Vec::len)), (&1.into(), Some(1)));
    assert_eq!(place.json(&["show", odd])[0]["address"], odd);
    assert_eq!(place.json(&["history", odd]).len(), 1);
    place.done(&["forget", odd]);
    assert!(place.json(&["show", odd])[0]["address"].is_null());
    place.verify();
}

#[test]
fn a_plus_sign_in_a_query_is_one() {
    let place = Place::with_store();
    let service = place.serve();
    place.done(&["suppress", "alice+news@example.org", "--list", LIST]);
    for written in ["alice+news@example.org", "alice%2Bnews%40example.org"] {
        let query = format!("/v1/check?list={LIST}&recipient={written}");
        assert_eq!(service.api("GET", &query, &[], "").json()["suppressed"], true, "{written}");
    }
}

#[test]
fn what_is_not_utf_8_is_no_recipient_and_a_byte_order_mark_is_none_of_it() {
    let place = Place::with_store();
    let input = b"\xef\xbb\xbffirst@example.org\nj\xf6rg@example.org\nlast@example.org\n";
    let output = place.run_with_input(&["suppress", "-", "--list", LIST], input);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("line 2"));
    assert_eq!(
        (place.check(LIST, "first@example.org"), place.check(LIST, "last@example.org")),
        (1, 1)
    );
    assert_eq!(place.history().len(), 2);
    let beside = place.run(&["check", "--list", LIST, "a@example.org", "-"]);
    assert!(beside.status.code() == Some(2) && text(&beside.stderr).contains("stands alone"));
}

/// A reader that has seen enough stops nothing; a disk that is full is a failure.
#[test]
fn what_cannot_be_printed_is_told_and_what_was_asked_is_done() {
    let place = Place::with_store();
    let many: String = (0..5000).map(|n| format!("r{n}@example.org\n")).collect();
    std::fs::write(place.path().join("many"), many).expect("written");
    let script = r#""$0" "$@" <many | head -n 1 >/dev/null; exit "${PIPESTATUS[0]}""#;
    let run = |arguments: &[&str]| {
        let command = place.command(arguments);
        let mut shell = std::process::Command::new("bash");
        shell
            .current_dir(place.path())
            .args(["-c", script])
            .arg(command.get_program())
            .args(command.get_args());
        shell.status().expect("bash runs").code()
    };
    assert_eq!(run(&["suppress", "-", "--list", LIST, "--json"]), Some(0));
    assert_eq!(place.history().len(), 5000, "all of it was done");
    assert_eq!(run(&["check", "--list", LIST, "-", "--json"]), Some(1), "the answer is still no");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device");
    let output = place.command(&["history"]).stdout(full).output().expect("it runs");
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("standard output"));
}

#[test]
fn a_retired_key_comes_back_bound_as_it_was() {
    let place = Place::new();
    let id = place.json(&["key", "new", "--list", "news.example.com"])[0]["key"]
        .as_str()
        .expect("an id")
        .to_owned();
    let newer = place.json(&["key", "new"])[0]["key"].as_str().expect("an id").to_owned();
    let secret = place.done(&["key", "show", &id]);
    place.done(&["key", "retire", &id]);
    assert_eq!(place.run_with_input(&["key", "add"], secret.as_bytes()).status.code(), Some(0));
    let keys = place.json(&["key", "list"]);
    assert_eq!((&keys[0]["key"], &keys[0]["lists"][0]), (&id.into(), &"news.example.com".into()));
    assert!(keys[0]["retired"].is_null() && keys[1]["key"] == newer.as_str());
}

#[test]
fn settings_count_before_and_after_the_command_in_either_form() {
    let place = Place::with_store();
    let first = [
        "--set=public.base_url=https://one.example",
        "headers",
        "--list",
        LIST,
        "--recipient",
        "a@example.org",
    ];
    let after = ["--set", "public.mailto_host=two.example"];
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_optout"));
    command.arg("--data").arg(place.data()).args(first).args(after);
    let lines = text(&command.output().expect("it runs").stdout);
    assert!(lines.contains("https://one.example/u/") && lines.contains("@two.example>"), "{lines}");
}

#[test]
fn a_csv_of_few_among_many_has_its_header() {
    let place = Place::with_store();
    place.done(&["suppress", "rare@example.org", "--list", "rare.example"]);
    let many: String = (0..1500).map(|n| format!("r{n}@example.org\n")).collect();
    place.run_with_input(&["suppress", "-", "--list", LIST], many.as_bytes());
    let csv = place.done(&["history", "--csv", "--list", "rare.example"]);
    assert!(csv.starts_with("event,at,") && csv.lines().count() == 2, "{csv}");
}

/// Who has set something in a file that this command did not read has to see that.
#[test]
fn what_is_not_configured_is_missed_in_the_file_that_was_read() {
    let place = Place::with_store();
    let said = text(&place.run(&["webhook", "test", "shop"]).stderr);
    assert!(said.contains("no configuration file was read: name it with --config"), "{said}");
    let mut unset = std::process::Command::new(env!("CARGO_BIN_EXE_optout"));
    unset.arg("--data").arg(place.data());
    unset.args(["headers", "--list", LIST, "--recipient", "a@example.org"]);
    let said = text(&unset.output().expect("it runs").stderr);
    assert!(said.contains("public.base_url") && said.contains("no configuration file"), "{said}");
    let place = place.configured("[public]\n");
    let said = text(&place.run(&["webhook", "test", "shop"]).stderr);
    assert!(said.contains("optout.toml was read"), "{said}");
}

#[test]
fn suppressing_what_is_no_address_is_warned_of() {
    let place = Place::with_store();
    let said =
        |arguments: &[&str]| text(&place.run(&[&["suppress", "--all"], arguments].concat()).stderr);
    assert_eq!(said(&["a@example.org", "+15550100"]), "");
    let warned = said(&["a@example.org", "bob", "carol"]);
    assert!(
        warned.contains("warning: 2 recipients recorded without an @, the first \"bob\""),
        "{warned}"
    );
}

#[test]
fn numbers_are_counted_in_their_order() {
    let place = Place::new();
    for number in 1..=10 {
        let row = format!("a{number}@example.org\n");
        let options = ["--list", LIST, "--reason", "manual"];
        let output =
            place.run_with_input(&[&["import", "-"], &options[..]].concat(), row.as_bytes());
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let told = place.done(&["stats"]);
    let imports = told.split("VALUE").nth(1).and_then(|rest| rest.split("\n\n").next());
    let rows = imports.expect("a table").lines().skip(1);
    let values: Vec<_> = rows.filter_map(|row| row.split(' ').next()).collect();
    assert_eq!(values, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
}

/// Nothing may lead to this machine yet from where links point to.
#[test]
fn the_greeting_gives_lines_that_work_here() {
    let place = Place::with_store();
    let service = place.serve();
    let clicked = format!("One-Click http://{}/u/", service.public);
    assert!(service.greeting.contains(&clicked), "{}", service.greeting);
    assert!(service.greeting.contains("https://leave.example.com/u/"), "{}", service.greeting);
    assert!(!service.greeting.contains("Bearer"), "{}", service.greeting);
    service.stop();
    place.done(&["apikey", "new", "--role", "sender"]);
    let service = place.serve();
    assert!(service.greeting.contains("Authorization: Bearer $KEY"), "{}", service.greeting);
}
