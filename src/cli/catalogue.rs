//! The catalogue as the configuration file describes it: `[[sender]]` and `[[list]]`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Failure;
use crate::ledger::Frequency;
use crate::link::{ListId, Scope};
use crate::serve::{Catalogue, Described, Logo, Sender, Text};

/// The tables of the catalogue.
pub(super) const TABLES: [&str; 2] = ["sender", "list"];

/// A page has to be small, and the logo is part of it.
const MAX_LOGO: u64 = 4 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SenderTable {
    scope: String,
    name: Value,
    postal_address: Option<String>,
    privacy_url: Option<String>,
    contact_url: Option<String>,
    subscribe_url: Option<String>,
    logo: Option<PathBuf>,
    colour: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListTable {
    id: String,
    title: Value,
    about: Option<Value>,
    schedule: Option<Value>,
    #[serde(default)]
    frequencies: Vec<String>,
    #[serde(default = "yes")]
    offered: bool,
    essential: Option<Value>,
}

fn yes() -> bool {
    true
}

/// Reads the catalogue of a configuration file; logos lie relative to `directory`, the file's.
pub(super) fn read(table: &Table, directory: &Path, place: &str) -> Result<Catalogue, Failure> {
    let senders = each(table, "sender", place, |table| sender(table, directory))?;
    let lists = each(table, "list", place, list)?;
    Catalogue::new(senders, lists).map_err(|error| Failure::new(format!("{place}: {error}")))
}

/// Every table of an array, with its number in what is wrong with it.
pub(super) fn each<T: DeserializeOwned, R>(
    table: &Table,
    name: &str,
    place: &str,
    read: impl Fn(T) -> Result<R, String>,
) -> Result<Vec<R>, Failure> {
    let tables = match table.get(name) {
        None => return Ok(Vec::new()),
        Some(Value::Array(tables)) => tables,
        Some(_) => {
            return Err(Failure::new(format!("{place}: write [[{name}]], with two brackets")));
        }
    };
    let each = tables.iter().zip(1..).map(|(table, number)| {
        let explain = |error| Failure::new(format!("{place}: [[{name}]] number {number}: {error}"));
        let table = serde_path_to_error::deserialize(table.clone());
        let table = table.map_err(|error: serde_path_to_error::Error<toml::de::Error>| {
            let (key, error) = (error.path().to_string(), error.into_inner());
            match key.as_str() {
                "." => explain(error.message().to_owned()),
                _ => explain(format!("{key}: {}", error.message())),
            }
        });
        read(table?).map_err(explain)
    });
    each.collect()
}

fn sender(table: SenderTable, directory: &Path) -> Result<Sender, String> {
    let scope: Scope = table.scope.parse().map_err(|error| format!("scope: {error}"))?;
    let web = ["https://", "http://"];
    Ok(Sender {
        scope,
        name: text("name", &table.name)?,
        postal_address: table
            .postal_address
            .map_or_else(Vec::new, |address| address.lines().map(str::to_owned).collect()),
        privacy_url: url("privacy_url", table.privacy_url, &web)?,
        contact_url: url("contact_url", table.contact_url, &["https://", "http://", "mailto:"])?,
        subscribe_url: url("subscribe_url", table.subscribe_url, &web)?,
        logo: table.logo.map(|path| logo(&directory.join(path))).transpose()?,
        colour: table.colour.map(colour).transpose()?,
    })
}

fn list(table: ListTable) -> Result<(ListId, Described), String> {
    let id = table.id.parse().map_err(|error| format!("id: {error}"))?;
    let text_of = |key, value: Option<Value>| value.map(|value| text(key, &value)).transpose();
    let mut frequencies = Vec::new();
    for name in table.frequencies {
        let frequency: Frequency = name.parse().map_err(|error| format!("frequencies: {error}"))?;
        // That it may be had as often as it is sent goes without saying.
        if frequency != Frequency::Every && !frequencies.contains(&frequency) {
            frequencies.push(frequency);
        }
    }
    let described = Described {
        title: text("title", &table.title)?,
        about: text_of("about", table.about)?,
        schedule: text_of("schedule", table.schedule)?,
        frequencies,
        is_offered: table.offered && table.essential.is_none(),
        essential: text_of("essential", table.essential)?,
    };
    Ok((id, described))
}

/// A text alone, or one for each language.
fn text(key: &str, value: &Value) -> Result<Text, String> {
    let wrong = || format!("{key}: write a text, or one for each language as {{ en = \"...\" }}");
    let mut by_language = BTreeMap::new();
    match value {
        Value::String(text) if !text.trim().is_empty() => {
            return Ok(Text { otherwise: text.clone(), by_language });
        }
        Value::Table(texts) => {
            for (tag, text) in texts {
                let text = text.as_str().filter(|text| !text.trim().is_empty());
                by_language.insert(tag.to_ascii_lowercase(), text.ok_or_else(wrong)?.to_owned());
            }
        }
        _ => return Err(wrong()),
    }
    let otherwise = by_language.get("en").or_else(|| by_language.values().next()).cloned();
    Ok(Text { otherwise: otherwise.ok_or_else(wrong)?, by_language })
}

fn url(key: &str, text: Option<String>, schemes: &[&str]) -> Result<Option<String>, String> {
    let Some(text) = text else { return Ok(None) };
    let is_plain = text.chars().all(|c| c.is_ascii_graphic());
    match is_plain && schemes.iter().any(|scheme| text.starts_with(scheme)) {
        true => Ok(Some(text)),
        false => Err(format!("{key}: it has to begin with {}", schemes.join(" or "))),
    }
}

fn logo(path: &Path) -> Result<Logo, String> {
    let explain = |what: String| format!("logo: {}: {what}", path.display());
    let content_type = match path.extension().and_then(|end| end.to_str()) {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("svg") => "image/svg+xml",
        _ => return Err(explain("it has to be a .png, .jpg, .webp or .svg".to_owned())),
    };
    let length = fs::metadata(path).map_err(|error| explain(error.to_string()))?.len();
    if length > MAX_LOGO {
        let kibibytes = MAX_LOGO / 1024;
        return Err(explain(format!("it has more than {kibibytes} KiB: make it smaller")));
    }
    let content = fs::read(path).map_err(|error| explain(error.to_string()))?;
    Ok(Logo { content_type, content: content.into() })
}

/// A colour, and black or white, whichever can be read better on it.
fn colour(text: String) -> Result<(String, &'static str), String> {
    let wrong = || "colour: write it as #rrggbb, such as #0b57d0".to_owned();
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6);
    let is_hex = |digits: &&str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = digits.filter(is_hex).ok_or_else(wrong)?;
    let code = u32::from_str_radix(digits, 16).map_err(|_| wrong())?;
    let [_, red, green, blue] = code.to_be_bytes();
    // WCAG 2.2's relative luminance.
    let linear = |channel: u8| {
        let channel = f64::from(channel) / 255.0;
        match channel <= 0.04045 {
            true => channel / 12.92,
            false => ((channel + 0.055) / 1.055).powf(2.4),
        }
    };
    let luminance = 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
    let on_white = 1.05 / (luminance + 0.05);
    let on_black = (luminance + 0.05) / 0.05;
    let on = if on_white >= on_black { "#ffffff" } else { "#000000" };
    Ok((text.to_ascii_lowercase(), on))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(text: &str) -> Result<Catalogue, String> {
        let table: Table = text.parse().expect("TOML");
        read(&table, Path::new("/nowhere"), "optout.toml").map_err(|failure| failure.message)
    }

    #[test]
    fn senders_and_lists_are_described() {
        let catalogue = catalogue(
            r##"
            [[sender]]
            scope = "example.com"
            name = { en = "Example", de = "Beispiel" }
            postal_address = "1 Street\nTown"
            contact_url = "mailto:hello@example.com"
            colour = "#FFDD00"

            [[list]]
            id = "weekly.example.com"
            title = "Weekly"
            frequencies = ["monthly", "every", "monthly"]

            [[list]]
            id = "receipts.example.com"
            title = "Receipts"
            essential = "you need them"
            "##,
        )
        .expect("a catalogue");
        let weekly = "weekly.example.com".parse().expect("a list");
        let sender = catalogue.sender_of(&weekly).expect("a sender");
        assert_eq!(sender.name.in_language("de"), "Beispiel");
        assert_eq!(sender.name.in_language("pl"), "Example");
        assert_eq!(sender.postal_address, ["1 Street", "Town"]);
        assert_eq!(sender.colour, Some(("#ffdd00".to_owned(), "#000000")));
        let described = catalogue.list(&weekly).expect("described");
        assert_eq!(described.frequencies, [Frequency::Monthly]);
        assert!(described.is_offered);
        let essential = catalogue.described().filter(|(_, is_essential)| *is_essential);
        assert_eq!(essential.count(), 1);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let sender = |more: &str| format!("[[sender]]\nscope = \"a\"\nname = \"A\"\n{more}");
        let list = |more: &str| format!("[[list]]\nid = \"a\"\ntitle = \"A\"\n{more}");
        let cases = [
            ("sender = 1".to_owned(), "[[sender]]"),
            (sender("colour = \"red\""), "#rrggbb"),
            (sender("privacy_url = \"javascript:x\""), "privacy_url"),
            (sender("logo = \"missing.png\""), "/nowhere/missing.png"),
            (sender("logo = \"logo.gif\""), "logo.gif"),
            (sender("color = \"#000000\""), "color"),
            (list("frequencies = [\"hourly\"]"), "a frequency is one of"),
            (list("title2 = 1"), "title2"),
            (list("essential = 1"), "essential"),
            (format!("{}\n{}", list(""), list("")), "described twice"),
            ("[[list]]\nid = \"A b\"\ntitle = \"A\"".to_owned(), "number 1: id: "),
        ];
        for (text, what) in cases {
            let error = catalogue(&text).expect_err("it is refused");
            assert!(error.contains(what) && error.contains("optout.toml"), "{text}: {error}");
        }
    }
}
