//! The languages of the page: their strings, which are data files, and how they write dates and
//! numbers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hyper::HeaderMap;
use hyper::header::ACCEPT_LANGUAGE;
use toml::{Table, Value};

use crate::ledger::Time;

/// Those that are compiled in. English comes first: others have the keys that it has.
const COMPILED_IN: [(&str, &str); 10] = [
    ("en", include_str!("../locales/en.toml")),
    ("de", include_str!("../locales/de.toml")),
    ("fr", include_str!("../locales/fr.toml")),
    ("es", include_str!("../locales/es.toml")),
    ("it", include_str!("../locales/it.toml")),
    ("pt", include_str!("../locales/pt.toml")),
    ("nl", include_str!("../locales/nl.toml")),
    ("pl", include_str!("../locales/pl.toml")),
    ("ja", include_str!("../locales/ja.toml")),
    ("ar", include_str!("../locales/ar.toml")),
];

/// The parts of texts that are somebody's names and words, in whatever language.
const NAMES: [&str; 4] = ["address", "list", "reason", "sender"];

/// A header field with more languages than this is read up to here.
const MAX_ACCEPTED: usize = 20;

/// One language.
#[derive(Debug, Clone)]
pub(super) struct Language {
    /// Its tag, such as `de` or `pt-br`, in lower case.
    pub(super) tag: String,
    /// By table and key, such as `offer.title`.
    strings: BTreeMap<String, String>,
    months: Vec<String>,
    digits: Vec<char>,
}

/// All of them, never none; the first is for whoever reads none of the others.
#[derive(Debug, Clone)]
pub struct Languages(Vec<Language>);

impl Languages {
    /// Those that are compiled in, and over them the files `TAG.toml` of a directory.
    ///
    /// # Errors
    ///
    /// What is wrong with a file, and where.
    pub fn load(directory: Option<&Path>) -> Result<Self, String> {
        let mut languages: Vec<Language> = Vec::with_capacity(COMPILED_IN.len());
        for (tag, text) in COMPILED_IN {
            let language = Language::parse(tag, text, languages.first());
            languages.push(language.map_err(|error| format!("the language {tag}: {error}"))?);
        }
        let mut languages = Self(languages);
        if let Some(directory) = directory {
            languages.load_files(directory)?;
        }
        Ok(languages)
    }

    fn load_files(&mut self, directory: &Path) -> Result<(), String> {
        let explain = |error: std::io::Error| format!("{}: {error}", directory.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(directory).map_err(explain)? {
            files.push(entry.map_err(explain)?.path());
        }
        files.sort();
        for path in files.iter().filter(|path| path.extension().is_some_and(|end| end == "toml")) {
            let explain = |error: String| format!("{}: {error}", path.display());
            let is_tag = |tag: &&str| {
                !tag.is_empty()
                    && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            let tag = path.file_stem().and_then(|stem| stem.to_str()).filter(is_tag);
            let tag = tag.ok_or_else(|| explain("name it by the language's tag".to_owned()))?;
            let text = fs::read_to_string(path).map_err(|error| explain(error.to_string()))?;
            let language = Language::parse(tag, &text, self.0.first()).map_err(explain)?;
            match self.0.iter_mut().find(|own| own.tag == language.tag) {
                Some(own) => *own = language,
                None => self.0.push(language),
            }
        }
        Ok(())
    }

    /// All of them, for the switch.
    pub(super) fn all(&self) -> &[Language] {
        &self.0
    }

    /// The language that somebody chose, or the best of those that they accept.
    pub(super) fn choose(&self, chosen: Option<&str>, headers: &HeaderMap) -> &Language {
        let chosen = chosen.and_then(|tag| self.find(tag));
        let accepted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        chosen.or_else(|| self.accepted(accepted?)).unwrap_or(&self.0[0])
    }

    /// RFC 9110 section 12.5.4, by RFC 4647's lookup.
    fn accepted(&self, field: &str) -> Option<&Language> {
        let mut ranges: Vec<(f32, &str)> = Vec::new();
        for range in field.split(',').take(MAX_ACCEPTED) {
            let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
            let mut weight = parameters.split(';').filter_map(|parameter| {
                let (name, value) = parameter.split_once('=')?;
                name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
            });
            let quality: f32 = weight.next().map_or(Ok(1.0), str::parse).unwrap_or(0.0);
            if quality > 0.0 && quality <= 1.0 {
                ranges.push((quality, tag.trim()));
            }
        }
        // Stable: of the same quality the first counts.
        ranges.sort_by(|one, other| other.0.total_cmp(&one.0));
        ranges.iter().find_map(|(_, tag)| self.find(tag))
    }

    /// The language of a tag, or of as much of it as there is a language for.
    fn find(&self, tag: &str) -> Option<&Language> {
        let mut tag = tag.to_ascii_lowercase();
        loop {
            if let Some(found) = self.0.iter().find(|language| language.tag == tag) {
                return Some(found);
            }
            tag.truncate(tag.rfind('-')?);
        }
    }
}

impl Language {
    /// Reads a file; `model` has the keys that it needs.
    fn parse(tag: &str, text: &str, model: Option<&Self>) -> Result<Self, String> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count()) + 1;
            format!("line {line}: {}", error.message())
        })?;
        let mut language = Self {
            tag: tag.to_ascii_lowercase(),
            strings: BTreeMap::new(),
            months: Vec::new(),
            digits: Vec::new(),
        };
        language.take(&table, "")?;
        if language.months.len() != 12 {
            return Err("months: there have to be 12".to_owned());
        }
        language.digits = language.text("digits").chars().collect();
        if language.digits.len() != 10 {
            return Err("digits: there have to be 10, from 0 to 9".to_owned());
        }
        if !matches!(language.text("direction"), "ltr" | "rtl") {
            return Err("direction: it is ltr or rtl".to_owned());
        }
        if let Some((key, _)) = language.strings.iter().find(|(_, text)| text.trim().is_empty()) {
            return Err(format!("{key}: it is empty"));
        }
        model.map_or(Ok(()), |model| language.fits(model))?;
        Ok(language)
    }

    fn take(&mut self, table: &Table, prefix: &str) -> Result<(), String> {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match value {
                Value::String(text) => drop(self.strings.insert(key, text.clone())),
                Value::Table(inner) if prefix.is_empty() => self.take(inner, &format!("{key}."))?,
                Value::Array(months) if key == "months" => {
                    let names = months.iter().map(|name| name.as_str().map(str::to_owned));
                    self.months = names.collect::<Option<_>>().ok_or("months: have to be texts")?;
                }
                _ => return Err(format!("{key}: it has to be a text")),
            }
        }
        Ok(())
    }

    /// Whether it has each text of another language, with the same parts to be filled in.
    fn fits(&self, model: &Self) -> Result<(), String> {
        for (key, text) in &model.strings {
            let own = self.strings.get(key).ok_or_else(|| format!("{key}: it is missing"))?;
            if let Some(part) = parts(text).find(|part| !own.contains(part)) {
                return Err(format!("{key}: {part} has to be in it"));
            }
            if let Some(part) = parts(own).find(|part| !text.contains(part)) {
                return Err(format!("{key}: {part} is not known there"));
            }
        }
        match self.strings.keys().find(|key| !model.strings.contains_key(*key)) {
            Some(key) => Err(format!("{key}: there is no such text")),
            None => Ok(()),
        }
    }

    /// A text by its key, which is compiled in.
    pub(super) fn text(&self, key: &str) -> &str {
        self.strings.get(key).map_or("", String::as_str)
    }

    /// A text with its parts filled in; what is filled in is not looked at again. Where the text
    /// runs from right to left, names are isolated, so that they keep their own order.
    pub(super) fn fill(&self, key: &str, values: &[(&str, &str)]) -> String {
        let (mut filled, mut rest) = (String::new(), self.text(key));
        while let Some(part) = parts(rest).next() {
            let (before, after) = rest.split_once(part).unwrap_or((rest, ""));
            filled.push_str(before);
            let name = &part[1..part.len() - 1];
            let value = values.iter().find(|(own, _)| *own == name);
            let value = value.map_or(part, |(_, value)| value);
            match NAMES.contains(&name) {
                true => filled.push_str(&self.isolate(value)),
                false => filled.push_str(value),
            }
            rest = after;
        }
        filled + rest
    }

    fn isolate(&self, name: &str) -> String {
        match self.direction() {
            "rtl" => format!("\u{2068}{name}\u{2069}"),
            _ => name.to_owned(),
        }
    }

    /// Names one after the other.
    pub(super) fn join(&self, names: impl Iterator<Item = String>) -> String {
        let names: Vec<String> = names.map(|name| self.isolate(&name)).collect();
        names.join(self.text("separator"))
    }

    /// A number as the language writes it.
    pub(super) fn number(&self, number: impl ToString) -> String {
        let digit = |c: char| {
            let place = c.to_digit(10).and_then(|digit| usize::try_from(digit).ok());
            place.and_then(|place| self.digits.get(place)).copied().unwrap_or(c)
        };
        number.to_string().chars().map(digit).collect()
    }

    /// A day, in UTC.
    pub(super) fn date(&self, time: Time) -> String {
        self.moment("date", time)
    }

    /// A day and its time, in UTC.
    pub(super) fn date_and_time(&self, time: Time) -> String {
        let date = self.date(time);
        self.moment("date_and_time", time).replace("{date}", &date)
    }

    /// The time of a day, in UTC.
    pub(super) fn time(&self, time: Time) -> String {
        self.moment("time", time)
    }

    fn moment(&self, key: &str, time: Time) -> String {
        // As `2026-01-31T20:15:00.000Z`.
        let text = time.to_string();
        let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
        let month = part(5..7).parse().ok().and_then(|month: usize| self.months.get(month - 1));
        let day = match part(8..10) {
            "01" => self.text("first_day").to_owned(),
            day => self.number(day.trim_start_matches('0')),
        };
        let values = [
            ("year", self.number(part(0..4))),
            ("month", month.cloned().unwrap_or_default()),
            ("day", day),
            ("hour", self.number(part(11..13))),
            ("minute", self.number(part(14..16))),
        ];
        self.fill(key, &values.each_ref().map(|(name, value)| (*name, value.as_str())))
    }

    /// `ltr` or `rtl`.
    pub(super) fn direction(&self) -> &str {
        self.text("direction")
    }

    /// What it calls itself.
    pub(super) fn name(&self) -> &str {
        self.text("language")
    }
}

/// The parts of a text that are filled in, such as `{list}`.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('{').filter_map(|(start, _)| {
        let length = text[start..].find('}')?;
        Some(&text[start..=start + length])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn languages() -> Languages {
        Languages::load(None).expect("all are whole")
    }

    fn accepting(field: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_LANGUAGE, field.parse().expect("a value"));
        headers
    }

    #[test]
    fn every_language_is_whole() {
        let languages = languages();
        assert_eq!(languages.all().len(), 10);
    }

    #[test]
    fn the_best_language_is_chosen() {
        let languages = languages();
        let tag = |chosen, field| languages.choose(chosen, &accepting(field)).tag.clone();
        assert_eq!(tag(None, "de-AT,de;q=0.9,en;q=0.8"), "de");
        assert_eq!(tag(None, "tlh, fr;q=0.2, pl;q=0.9"), "pl");
        assert_eq!(tag(None, "de;q=0, ja"), "ja");
        assert_eq!(tag(None, "de;level=1;Q=0.1, fr;q=inf, ja;q=0.2"), "ja");
        assert_eq!(tag(None, "*"), "en");
        assert_eq!(tag(None, ";;;,q=,de;q=x"), "en");
        assert_eq!(tag(Some("ar"), "de"), "ar");
        assert_eq!(tag(Some("xx"), "de"), "de");
    }

    #[test]
    fn dates_and_numbers_are_written_as_the_language_does() {
        let languages = languages();
        let time: Time = "2026-03-05T07:09:00Z".parse().expect("a time");
        let written = |tag| languages.find(tag).expect("it is there").date(time);
        assert_eq!(written("en"), "5 March 2026");
        assert_eq!(written("ja"), "2026年3月5日");
        assert_eq!(written("ar"), "٥ مارس ٢٠٢٦");
        let first: Time = "2026-03-01T07:09:00Z".parse().expect("a time");
        let french = languages.find("fr").expect("it is there");
        assert_eq!(french.date(first), "1er mars 2026");
        let english = &languages.all()[0];
        assert_eq!(english.date_and_time(time), "5 March 2026 at 07:09 UTC");
    }

    #[test]
    fn what_is_filled_in_is_not_filled_in_again() {
        let english = &languages().all()[0].clone();
        let filled = english.fill(
            "offer.from_sender",
            &[("sender", "{list}"), ("list", "{address}"), ("address", "{x")],
        );
        assert_eq!(filled, "{list} sends {address} to {x.");
        let arabic = languages()
            .find("ar")
            .expect("it is there")
            .fill("done.left", &[("address", "a***"), ("list", "Weekly")]);
        assert!(arabic.contains("\u{2068}a***\u{2069}"), "{arabic}");
    }

    #[test]
    fn a_file_that_is_not_whole_is_refused_with_the_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let english = COMPILED_IN[0].1;
        let cases = [
            (english.replace("[offer]", "[offer"), "line "),
            (english.replace("{list} stops now.", "It stops now."), "offer.effect: {list}"),
            (english.replace("at_once =", "at_twice ="), "done.at_once: it is missing"),
            (format!("{english}\nnew = \"x\"\n"), "foot.new: there is no such text"),
            (english.replace("\"ltr\"", "\"up\""), "direction"),
            (english.replace("\"January\"", "1"), "months"),
            (english.replace("button = \"Undo\"", "button = \" \""), "undo.button: it is empty"),
        ];
        for (text, what) in cases {
            fs::write(directory.path().join("tlh.toml"), text).expect("written");
            let error = Languages::load(Some(directory.path())).expect_err("it is refused");
            assert!(error.contains(what) && error.contains("tlh.toml"), "{error}");
        }
        fs::write(directory.path().join("tlh.toml"), english).expect("written");
        let languages = Languages::load(Some(directory.path())).expect("it is whole");
        assert_eq!(languages.all().len(), 11);
    }
}
