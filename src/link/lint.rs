//! Checks a finished message, as it was sent or as it arrived: will mailbox providers offer
//! one-click for it? Mail libraries and gateways damage long header values in ways that no
//! look at the sending code shows, so this reads the message itself.

use std::borrow::Cow;
use std::fmt;

use super::headers::ONE_CLICK;

/// What one finding is about; [`fmt::Display`] gives its stable name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Check {
    /// Exactly one `List-Unsubscribe` (RFC 2369 section 2).
    ListUnsubscribe,
    /// Exactly one `List-Unsubscribe-Post` with its only value (RFC 8058 section 3.1).
    ListUnsubscribePost,
    /// The first URI is https, and it is the only web link (RFC 8058 section 3.1).
    HttpsFirst,
    /// Nothing on the way encoded, folded or escaped the values.
    Intact,
    /// One DKIM signature names both headers in its `h=` (RFC 8058 section 4).
    Dkim,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ListUnsubscribe => "list-unsubscribe",
            Self::ListUnsubscribePost => "list-unsubscribe-post",
            Self::HttpsFirst => "https-first",
            Self::Intact => "intact",
            Self::Dkim => "dkim",
        })
    }
}

/// One check and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was checked.
    pub check: Check,
    /// Whether it holds.
    pub passed: bool,
    /// What was found, and the remedy where it does not hold.
    pub detail: Cow<'static, str>,
}

/// What [`lint()`] found in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LintReport {
    /// One finding a check, in the order of [`Check`].
    pub findings: Vec<Finding>,
    /// The https link, where one was found; whether it opens is for [`super::Keyring::open`].
    pub link: Option<String>,
}

impl LintReport {
    /// Whether every check holds.
    pub fn passed(&self) -> bool {
        self.findings.iter().all(|finding| finding.passed)
    }
}

/// Reads the header of a message (RFC 5322; with CRLF or bare LF line ends) and checks all that
/// one-click needs, as far as the message alone can tell: the DKIM signature's coverage is
/// checked, its cryptography is not.
///
/// ```
/// use optout::link::lint;
///
/// let report = lint(b"From: news@example.com\r\nList-Unsubscribe: <https://x.example/u/T>\r\n\r\nHi\r\n");
/// assert!(!report.passed()); // no List-Unsubscribe-Post, no DKIM signature
/// assert_eq!(report.link.as_deref(), Some("https://x.example/u/T"));
/// ```
pub fn lint(message: &[u8]) -> LintReport {
    let fields = header_fields(message);
    let named = |name: &str| -> Vec<&Field> {
        fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).collect()
    };
    let unsubscribe = named("List-Unsubscribe");
    let post = named("List-Unsubscribe-Post");
    let uris = unsubscribe.first().map(|field| uris(&field.value)).unwrap_or_default();
    let findings = vec![
        exactly_one(Check::ListUnsubscribe, "List-Unsubscribe", unsubscribe.len()),
        check_post(&post),
        check_https_first(&uris),
        check_intact(unsubscribe.iter().chain(&post)),
        check_dkim(&named("DKIM-Signature")),
    ];
    LintReport { findings, link: uris.into_iter().find(|uri| has_scheme(uri, "https")) }
}

fn exactly_one(check: Check, name: &str, count: usize) -> Finding {
    match count {
        1 => pass(check, format!("one {name}")),
        0 => fail(check, format!("no {name}: add the header to the message")),
        n => fail(
            check,
            format!("{n} {name} headers: receivers ignore all but one, or all; send one"),
        ),
    }
}

fn check_post(post: &[&Field]) -> Finding {
    let check = Check::ListUnsubscribePost;
    match post {
        [field] if field.value == ONE_CLICK => pass(check, format!("one, with {ONE_CLICK}")),
        [_] => fail(check, format!("its value is not {ONE_CLICK}, the only one there is")),
        several => exactly_one(check, "List-Unsubscribe-Post", several.len()),
    }
}

fn check_https_first(uris: &[String]) -> Finding {
    let check = Check::HttpsFirst;
    let web = uris.iter().filter(|uri| has_scheme(uri, "https") || has_scheme(uri, "http")).count();
    match uris.first() {
        None => fail(check, "List-Unsubscribe holds no <URI>"),
        Some(first) if !has_scheme(first, "https") => {
            fail(check, "the first URI is not https: put the https link first, the mailto after it")
        }
        Some(_) if web > 1 => {
            fail(check, format!("{web} web links: RFC 8058 allows one https link"))
        }
        Some(_) => pass(check, "the https link is the first URI and the only web link"),
    }
}

fn check_intact<'a>(mut fields: impl Iterator<Item = &'a &'a Field>) -> Finding {
    match fields.find_map(|field| field.damage()) {
        Some(damage) => fail(Check::Intact, damage),
        None => pass(Check::Intact, "not encoded, not folded inside a URI, no line too long"),
    }
}

fn check_dkim(signatures: &[&Field]) -> Finding {
    let check = Check::Dkim;
    if signatures.is_empty() {
        return fail(check, "no DKIM-Signature: providers offer one-click for signed mail only");
    }
    let needed = ["list-unsubscribe", "list-unsubscribe-post"];
    let missing = |field: &&Field| -> Vec<&str> {
        let signed = signed_headers(&field.value);
        needed.into_iter().filter(|name| !signed.iter().any(|own| own == name)).collect()
    };
    let fewest = signatures.iter().map(missing).min_by_key(Vec::len).unwrap_or_default();
    match fewest[..] {
        [] => pass(check, "one DKIM signature covers both headers"),
        _ => fail(
            check,
            format!(
                "no DKIM signature covers {}: add it to what the signer signs",
                fewest.join(" and ")
            ),
        ),
    }
}

/// The names in a signature's `h=` tag (RFC 6376 section 3.5), in lower case.
fn signed_headers(signature: &str) -> Vec<String> {
    let tags = signature.split(';').filter_map(|tag| tag.split_once('='));
    let names = tags.filter(|(name, _)| name.trim() == "h").map(|(_, value)| value);
    names.flat_map(|value| value.split(':')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

fn pass(check: Check, detail: impl Into<Cow<'static, str>>) -> Finding {
    Finding { check, passed: true, detail: detail.into() }
}

fn fail(check: Check, detail: impl Into<Cow<'static, str>>) -> Finding {
    Finding { check, passed: false, detail: detail.into() }
}

/// The URIs between angle brackets (RFC 2369 section 2).
fn uris(value: &str) -> Vec<String> {
    let parts = value.split('<').skip(1).filter_map(|part| part.split_once('>'));
    parts.map(|(uri, _)| uri.trim().to_owned()).collect()
}

fn has_scheme(uri: &str, scheme: &str) -> bool {
    uri.split_once(':').is_some_and(|(own, _)| own.eq_ignore_ascii_case(scheme))
}

/// A header field: its name, its unfolded value, and the lines it came in.
#[derive(Debug)]
struct Field {
    name: String,
    value: String,
    lines: Vec<String>,
}

impl Field {
    /// What happened to the value on its way, if something did.
    fn damage(&self) -> Option<String> {
        let name = &self.name;
        if self.value.contains("=?") && self.value.contains("?=") {
            return Some(format!(
                "{name} was encoded (RFC 2047), which receivers do not undo here: have the mail \
                 library write it as it is"
            ));
        }
        if !self.value.is_ascii() {
            return Some(format!("{name} holds characters outside ASCII"));
        }
        if self.lines.iter().any(|line| line.len() > 998) {
            return Some(format!("{name} has a line of over 998 octets (RFC 5322 section 2.1.1)"));
        }
        if splits_a_uri(&self.lines) {
            return Some(format!("{name} is folded inside a URI: fold after the comma only"));
        }
        if uris(&self.value).iter().any(|uri| uri.contains([' ', '\t'])) {
            return Some(format!("{name} has white space inside a URI"));
        }
        if self.value.contains("&amp;") || self.value.contains("=3D") {
            return Some(format!("{name} was escaped for HTML or quoted-printable"));
        }
        None
    }
}

/// Whether a line ends between a `<` and its `>`.
fn splits_a_uri(lines: &[String]) -> bool {
    let ends_inside = |line: &String| line.rfind('<') > line.rfind('>');
    lines.split_last().is_some_and(|(_, before)| before.iter().any(ends_inside))
}

/// The fields up to the first empty line (RFC 5322 section 2.2).
fn header_fields(message: &[u8]) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for line in message.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        let line = String::from_utf8_lossy(line);
        if line.starts_with([' ', '\t']) {
            if let Some(field) = fields.last_mut() {
                // Unfolding removes the line end alone (RFC 5322 section 2.2.3).
                field.value.push_str(&line);
                field.lines.push(line.into_owned());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            let name = name.trim_end().to_owned();
            fields.push(Field { name, value: value.to_owned(), lines: vec![line.into_owned()] });
        }
    }
    fields.iter_mut().for_each(|field| field.value = field.value.trim().to_owned());
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "From: news@example.com\r\n\
        DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s;\r\n\
        \th=From:To:List-Unsubscribe:\r\n\t List-Unsubscribe-Post; bh=x=; b=y=\r\n\
        List-Unsubscribe: <https://x.example/u/TOKEN>,\r\n <mailto:unsubscribe+token@x.example>\r\n\
        List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\
        \r\n\
        List-Unsubscribe: <https://body.example/>\r\n";

    fn failed(message: &str) -> Vec<Check> {
        let report = lint(message.as_bytes());
        report.findings.iter().filter(|f| !f.passed).map(|f| f.check).collect()
    }

    #[test]
    fn a_good_message_passes_with_either_line_end() {
        assert_eq!(failed(GOOD), []);
        assert_eq!(failed(&GOOD.replace("\r\n", "\n")), []);
        assert_eq!(lint(GOOD.as_bytes()).link.as_deref(), Some("https://x.example/u/TOKEN"));
    }

    /// Each row has one defect and the checks that have to find it.
    #[test]
    fn each_defect_is_found() {
        let rows: &[(&str, &str, &[Check])] = &[
            ("List-Unsubscribe: <", "X-Other: <", &[Check::ListUnsubscribe, Check::HttpsFirst]),
            (
                "From:",
                "List-Unsubscribe: <https://two.example/>\r\nFrom:",
                &[Check::ListUnsubscribe],
            ),
            ("List-Unsubscribe-Post: List", "X: List", &[Check::ListUnsubscribePost]),
            (
                "From:",
                "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nFrom:",
                &[Check::ListUnsubscribePost],
            ),
            ("=One-Click", "=one-click", &[Check::ListUnsubscribePost]),
            ("<https://x.example/u/TOKEN>", "<http://x.example/u/TOKEN>", &[Check::HttpsFirst]),
            ("<https:", "<mailto:a@b.example>, <https:", &[Check::HttpsFirst]),
            ("<mailto:unsubscribe+token@x.example>", "<https://y.example/>", &[Check::HttpsFirst]),
            ("<mailto:", "=?utf-8?q?x?= <mailto:", &[Check::Intact]),
            ("/u/TOKEN", "/u/\r\n TOKEN", &[Check::Intact]),
            ("/u/TOKEN", "/u/ TOKEN", &[Check::Intact]),
            ("/u/TOKEN", "/u/TÖKEN", &[Check::Intact]),
            ("/u/TOKEN", "/u/TOKEN?a=1&amp;b=2", &[Check::Intact]),
            ("DKIM-Signature", "X-Signature", &[Check::Dkim]),
            ("\t List-Unsubscribe-Post;", "\t Subject;", &[Check::Dkim]),
            ("h=From", "x=From", &[Check::Dkim]),
        ];
        for (from, to, checks) in rows {
            assert!(GOOD.contains(from), "{from}");
            assert_eq!(failed(&GOOD.replacen(from, to, 1)), *checks, "{from} -> {to}");
        }
        let long = GOOD.replace("/u/TOKEN", &format!("/u/{}", "T".repeat(1000)));
        assert_eq!(failed(&long), [Check::Intact]);
    }

    #[test]
    fn neither_signature_alone_is_enough_when_each_covers_half() {
        let halves = GOOD.replace("\t List-Unsubscribe-Post;", "\t Subject;").replace(
            "From: news",
            "DKIM-Signature: v=1; h=From:List-Unsubscribe-Post; b=z\r\nFrom: news",
        );
        assert_eq!(failed(&halves), [Check::Dkim]);
    }

    #[test]
    fn takes_any_bytes() {
        for bytes in [&b""[..], b"\xff\xfe", b":", b" folded first\r\n", b"From x\n\n", b"<<<>>>:<"]
        {
            assert!(!lint(bytes).passed());
        }
    }
}
