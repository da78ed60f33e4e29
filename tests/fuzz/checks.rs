//! What has to hold for any input, one function a target. The fuzzer gives them what it thinks
//! of, and `tests/corpora.rs` the files in `corpus/`.

use std::sync::LazyLock;

use optout::fuzzing;
use optout::ledger::{Act, Recipient, Source};
use optout::link::{
    Check, Keyring, Link, ONE_CLICK, OpenError, Opened, SigningKey, Token, lint as lint_message,
};
use optout::mail::{ReceiveError, Received, receive as receive_mail};

/// The keys of the vectors, so that the tokens there open here. The second signs for one scope.
static KEYS: LazyLock<[SigningKey; 2]> = LazyLock::new(|| {
    [
        "optout_key_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "optout_key_qfGDtSUh3kX1UGqOBTFMSgw5oZEaq55oggWkfXaj7w8",
    ]
    .map(|text| text.parse().expect("a signing key"))
});

static RING: LazyLock<Keyring> = LazyLock::new(|| {
    let [free, bound] = KEYS.each_ref().map(|key| key.reveal().as_str().parse());
    let mut ring = Keyring::of(free.expect("a signing key"));
    let scope = "news.example.com".parse().expect("a scope");
    ring.add(bound.expect("a signing key"), vec![scope]).expect("distinct ids");
    ring
});

/// The longest plaintext of a token.
const MAX_PLAINTEXT: usize = 4 + 2 + 255 + 255 + 320;

/// Opening links: text that a stranger sends, and octets that the holder of a key has sealed.
pub fn link(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(opened) = RING.open(text) {
            assert_eq!(sealed_again(&opened).as_str(), text, "two tokens for one link");
        }
        if let Some(token) = Token::from_base32(text) {
            assert_eq!(token.to_base32(), text.to_ascii_lowercase());
            if let Ok(opened) = RING.open(token.as_str()) {
                assert_eq!(sealed_again(&opened), token, "two tokens for one link");
            }
        }
        if let Some(token) = Token::from_mailto_address(text) {
            let local = text.rsplit_once('@').map_or(text, |(local, _)| local);
            assert!(local.to_ascii_lowercase().ends_with(&format!("+{}", token.to_base32())));
        }
        canonical_form_is_its_own(text);
    }
    if (1..=MAX_PLAINTEXT).contains(&data.len()) {
        KEYS.iter().for_each(|key| opens_only_what_is_laid_out_as_a_link(data, key));
    }
    any_texts_come_back_from_a_link(data);
}

fn sealed_again(opened: &Opened) -> Token {
    let key = KEYS.iter().find(|key| key.id() == opened.key).expect("a key of the ring");
    opened.link.seal(key)
}

fn opens_only_what_is_laid_out_as_a_link(plaintext: &[u8], key: &SigningKey) {
    let token = fuzzing::seal(plaintext, key);
    match RING.open(token.as_str()) {
        Ok(opened) => {
            let link = &opened.link;
            let counted = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
            let laid_out = [
                &link.issued().to_be_bytes()[..],
                &counted(link.list().as_str()),
                &counted(link.campaign()),
                link.recipient().as_bytes(),
            ];
            assert_eq!(laid_out.concat(), plaintext);
            assert_eq!(sealed_again(&opened), token);
            canonical_form_is_its_own(link.recipient());
        }
        Err(OpenError::Fields | OpenError::List(_)) => {}
        Err(OpenError::NotPermitted(id)) => assert_eq!(id, KEYS[1].id()),
        Err(error) => panic!("what a key has sealed does not open: {error}"),
    }
    // One other octet, wherever the input says, and nothing opens any more.
    let mut changed = token.as_str().to_owned();
    let at = plaintext.iter().map(|octet| usize::from(*octet)).sum::<usize>() % changed.len();
    let other = if changed.as_bytes()[at] == b'A' { "B" } else { "A" };
    changed.replace_range(at..=at, other);
    assert!(RING.open(&changed).is_err(), "a changed token opens");
}

fn any_texts_come_back_from_a_link(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (campaign, recipient) = text.split_once('\n').unwrap_or(("", &text));
    let list = "weekly.news.example.com".parse().expect("a list");
    let Ok(link) = Link::new(data.len() as u32, list, campaign, recipient) else {
        assert!(campaign.len() > 255 || !(1..=320).contains(&recipient.len()));
        return;
    };
    for key in KEYS.iter() {
        let token = link.seal(key);
        for token in [Token::from_base32(&token.to_base32()).expect("base32"), token] {
            let opened = RING.open(token.as_str()).expect("it opens");
            assert_eq!((opened.link, opened.key), (link.clone(), key.id()));
        }
    }
}

/// Whoever is written in canonical form already is the same recipient.
fn canonical_form_is_its_own(text: &str) {
    let canonical = Recipient::of_link(text).canonical().to_owned();
    if let Ok(again) = Recipient::parse(&canonical) {
        assert_eq!(again.canonical(), canonical);
    }
}

/// A POST's body. The first line is the content type, and the rest is the body.
pub fn form(data: &[u8]) {
    const URLENCODED: &[u8] = b"application/x-www-form-urlencoded";
    const MULTIPART: &[u8] = b"multipart/form-data; boundary=b";
    let part = |name: &str, value: &[u8]| {
        let head = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        [head.as_bytes(), value, b"\r\n"].concat()
    };
    let (content_type, body) = split_at_line_end(data);

    // Whatever it is, reading it ends, and an empty one is a provider's click.
    fuzzing::is_the_pages_form(content_type, body);
    assert!(!fuzzing::is_the_pages_form(content_type, b""));

    // A provider's click is one, whatever comes after it.
    let (name, value) = ONE_CLICK.split_once('=').expect("a field");
    let click = [ONE_CLICK.as_bytes(), b"&", body].concat();
    assert!(!fuzzing::is_the_pages_form(URLENCODED, &click));
    let click = [&part(name, value.as_bytes())[..], b"--b\r\n", body].concat();
    assert!(!fuzzing::is_the_pages_form(MULTIPART, &click));

    // The page's form is one, whatever another field of it holds.
    let encoded: String = body.iter().map(|octet| format!("%{octet:02X}")).collect();
    let page = format!("other={encoded}&act=opt_out");
    assert!(fuzzing::is_the_pages_form(URLENCODED, page.as_bytes()));
    if !body.windows(3).any(|octets| octets == b"--b") {
        let page = [&part("other", body)[..], &part("act", b"opt_out"), b"--b--\r\n"].concat();
        assert!(fuzzing::is_the_pages_form(MULTIPART, &page));
    }
}

/// A message whose headers are checked.
pub fn lint(data: &[u8]) {
    let report = lint_message(data);
    let checks: Vec<_> = report.findings.iter().map(|finding| finding.check).collect();
    let all = [
        Check::ListUnsubscribe,
        Check::ListUnsubscribePost,
        Check::HttpsFirst,
        Check::Intact,
        Check::Dkim,
    ];
    assert_eq!(checks, all, "one finding a check");
    for finding in &report.findings {
        assert_eq!(finding.detail.lines().count(), 1, "{finding:?}");
    }
    if report.passed() {
        let link = report.link.as_deref().expect("the link that passed");
        assert!(link.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:")));
        assert!(link.is_ascii() && !link.contains([' ', '\t']), "{link}");
        let has = |text: &[u8]| data.windows(text.len()).any(|octets| octets == text);
        assert!(has(ONE_CLICK.as_bytes()) && has(link.as_bytes()));
    }

    // Neither the kind of line ends, nor fields above, nor what stands in the body counts.
    let lf: Vec<u8> = data.iter().copied().filter(|octet| *octet != b'\r').collect();
    let crlf = lf.split(|octet| *octet == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]);
    assert_eq!(lint_message(&lf), lint_message(&crlf));
    let below_another = [b"Received: by mx.example.org\r\n", data].concat();
    assert_eq!(lint_message(&below_another), report);
    let with_a_body = [data, b"\n\nList-Unsubscribe: <https://body.example/>\n"].concat();
    assert_eq!(lint_message(&with_a_body), report);
}

/// A configuration: lines that begin with `--set ` are settings, those that begin with `OPTOUT_`
/// environment variables, and all others are the file.
pub fn config(data: &[u8]) {
    const FILE: &str = "optout.toml";
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (mut file, mut variables, mut settings) = (String::new(), Vec::new(), Vec::new());
    for line in text.split_inclusive('\n') {
        let whole = line.trim_end_matches('\n');
        if let Some(setting) = whole.strip_prefix("--set ") {
            settings.push(setting.to_owned());
        } else if whole.starts_with("OPTOUT_") {
            variables.push(whole.split_once('=').unwrap_or((whole, "")));
        } else {
            file.push_str(line);
        }
    }
    let checked = fuzzing::check_configuration((FILE, &file), &variables, &settings);
    let again = fuzzing::check_configuration((FILE, &file), &variables, &settings);
    assert_eq!(checked, again);

    let Err(error) = checked else {
        // A configuration that is good is made bad by one more key, and the error says which.
        settings.push("public.lisen=127.0.0.1:80".to_owned());
        let error = fuzzing::check_configuration((FILE, &file), &variables, &settings);
        let error = error.expect_err("a key that there is not");
        assert!(error.contains("--set") && error.contains("public.listen"), "{error}");
        return;
    };
    // Each error says where the mistake is: the file with the line or the key, the variable, what
    // stood after `--set`, or the key alone when its value fits but cannot be.
    let rest = error.strip_prefix(FILE);
    let in_file = rest.is_some_and(|rest| {
        let line = rest.strip_prefix(", line ").and_then(|rest| rest.split_once(':'));
        let line = line.and_then(|(number, _)| number.parse::<usize>().ok());
        match line {
            Some(line) => (1..=file.lines().count() + 1).contains(&line),
            None => ENTRIES.iter().any(|key| rest.contains(key)),
        }
    });
    let by_variable = error.contains("environment variable OPTOUT_");
    let is_key = ENTRIES.iter().any(|key| error.starts_with(key));
    assert!(in_file || by_variable || error.starts_with("--set") || is_key, "{error}");
    assert_eq!(error.lines().count(), 1, "more than a line: {error}");
}

/// The keys of the configuration.
const ENTRIES: [&str; 15] = [
    "data",
    "public.listen",
    "public.base_url",
    "public.mailto_host",
    "public.trusted_proxies",
    "public.max_connections",
    "api.listen",
    "api.max_connections",
    "limits.header_seconds",
    "limits.body_seconds",
    "limits.write_seconds",
    "limits.record_seconds",
    "limits.drain_seconds",
    "log.level",
    "log.format",
];

/// A message that comes in by mail.
pub fn receive(data: &[u8]) {
    let list = "news.example.com".parse().expect("a list");
    let link = Link::new(1, list, "may", "alice@example.org").expect("a link");
    let to = format!("unsubscribe+{}@leave.example.com", link.seal(&KEYS[0]).to_base32());
    let is_of_link = |received: &Received| match received {
        Received::Automatic(_) => true,
        Received::OptOut(command) => {
            command.recipient == Recipient::of_link(link.recipient())
                && command.act == Act::OptOut { scope: link.list().clone().into() }
                && (command.key, command.campaign.as_deref()) == (Some(KEYS[0].id()), Some("may"))
                && command.source == Source::Mailto
        }
    };

    // By itself, as when the server gives no envelope. What is wrong with it tells no address.
    match receive_mail(data, None, &RING) {
        Ok(Received::OptOut(command)) => assert_eq!(command.source, Source::Mailto),
        Ok(Received::Automatic(_)) => {}
        Err(error) => {
            let said = error.to_string().replace("unsubscribe+TOKEN@ and", "");
            assert!(!said.contains('@'), "{error}");
        }
    }

    // Sent to a link's address it is an opt-out by that link or a machine's, whatever it holds.
    let received = receive_mail(data, Some(&to), &RING).expect("the address decides");
    assert!(is_of_link(&received), "{received:?}");
    let delivered = format!("Delivered-To: {to}\r\nX-Guard: of what folds\r\n");
    let by_header = receive_mail(&[delivered.as_bytes(), data].concat(), None, &RING);
    assert!(by_header.as_ref().is_ok_and(is_of_link), "{by_header:?}");

    // The other way round it is none by any header, but for one that says that a machine sent it.
    for wrong in ["unsubscribe@leave.example.com", "unsubscribe+abc@leave.example.com"] {
        let refused = receive_mail(data, Some(wrong), &RING);
        assert!(
            matches!(refused, Ok(Received::Automatic(_)) | Err(ReceiveError::NoToken)),
            "{refused:?}"
        );
    }

    // A reply by a machine is one, whatever else it holds, and what stands in a body is nothing.
    let reply = [b"Auto-Submitted: auto-replied\r\nX-Guard: of what folds\r\n", data].concat();
    assert!(matches!(receive_mail(&reply, Some(&to), &RING), Ok(Received::Automatic(_))));
    let letter = [b"From: alice@example.org\r\n\r\n", data].concat();
    assert!(matches!(receive_mail(&letter, Some(&to), &RING), Ok(Received::OptOut(_))));
}

/// What stands before the first line end, and what after it.
fn split_at_line_end(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|octet| *octet == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, b""),
    }
}
