//! Pages and lines of text: what a person sees, written in their language.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{
    ACCEPT, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, VARY,
};
use minijinja::{AutoEscape, Environment, Value, context};
use sha2::{Digest, Sha256};

use super::super::catalogue::Sender;
use super::super::reply::{Reply, reply};
use super::language::{Language, Languages};

const PLAIN: &str = "text/plain; charset=utf-8";

/// The files that a directory of templates may hold instead of those that are compiled in.
const PAGE: (&str, &str) = ("page.html", include_str!("../templates/page.html"));
const STYLE: (&str, &str) = ("style.css", include_str!("../templates/style.css"));

/// What a page needs to have a place for: without one of these somebody could not leave, or would
/// not be told what happened. With each, the acts that its forms ask for.
const BLOCKS: [(&str, &[&str]); 9] = [
    ("header", &[]),
    ("message", &[]),
    ("leave", &["opt_out"]),
    ("undo", &["undo"]),
    ("receipt", &["?receipt"]),
    ("why", &["why"]),
    ("options", &["frequency", "pause", "choose", "everything"]),
    ("come_back", &[]),
    ("footer", &[]),
];

/// How somebody wants an answer written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Html,
    Plain,
}

impl Format {
    /// HTML for those who say that they accept it; mailbox providers and scripts do not.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let mut accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        match accepts.any(|value| value.to_ascii_lowercase().contains("text/html")) {
            true => Self::Html,
            false => Self::Plain,
        }
    }
}

/// Templates, style sheet and languages, read once when the service starts.
#[derive(Debug, Clone)]
pub struct Pages {
    templates: Environment<'static>,
    style: String,
    pub(super) languages: Languages,
}

impl Pages {
    /// Those that are compiled in, and over them `page.html` and `style.css` of one directory and
    /// the languages `TAG.toml` of another.
    ///
    /// # Errors
    ///
    /// What is wrong with a file, and on which line.
    pub fn load(templates: Option<&Path>, languages: Option<&Path>) -> Result<Self, String> {
        let languages = Languages::load(languages)?;
        let (page, place) = read(templates, PAGE)?;
        let (style, _) = read(templates, STYLE)?;
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.add_template_owned(PAGE.0, page).map_err(|error| explain(&place, &error))?;
        let pages = Self { templates: environment, style, languages };
        pages.try_out(&place)?;
        Ok(pages)
    }

    /// Renders the template, which has to have a place for everything.
    fn try_out(&self, place: &str) -> Result<(), String> {
        let explain = |error: minijinja::Error| explain(place, &error);
        let template = self.templates.get_template(PAGE.0).map_err(explain)?;
        // With nothing first: parts that are not there are no error.
        let language = context! { tag => "en", direction => "ltr" };
        template.render(context! { title => "", style => "", language }).map_err(explain)?;
        let mut tried = template.render_captured(sample()).map_err(explain)?;
        tried.with_state_mut(|state| {
            for (block, acts) in BLOCKS {
                let rendered = state
                    .render_block(block)
                    .map_err(|_| format!("{place}: the block {block} is missing"))?;
                if let Some(act) = acts.iter().find(|act| !rendered.contains(**act)) {
                    return Err(format!("{place}: the block {block} has no form for {act}"));
                }
            }
            Ok(())
        })
    }

    /// The answer to a request, in its format.
    pub(super) fn render(
        &self,
        format: Format,
        status: StatusCode,
        language: &Language,
        sender: Option<&Sender>,
        view: &View,
    ) -> Reply {
        if format == Format::Plain {
            return reply(status, PLAIN, view.text());
        }
        let colour = sender.and_then(|sender| sender.colour.as_ref());
        let style = match colour {
            Some((colour, on)) => {
                format!("{}:root {{ --accent: {colour}; --on-accent: {on}; }}\n", self.style)
            }
            None => self.style.clone(),
        };
        let rendered = self.templates.get_template(PAGE.0).and_then(|template| {
            let languages = self.switch(language);
            let sender = sender.map(|sender| sender_of(sender, language));
            let style_sheet = Value::from_safe_string(style.clone());
            template.render(context! {
                style => style_sheet, languages, sender,
                title => &view.title, error => &view.error, lines => &view.lines,
                recorded => &view.record,
                language => context! { tag => &language.tag, direction => language.direction() },
                ..view.values.clone()
            })
        });
        let mut reply = match rendered {
            Ok(page) => reply(status, "text/html; charset=utf-8", page),
            Err(error) => {
                // A template of the operator's own may use what is not there in every page.
                tracing::error!(%error, "the page cannot be rendered");
                return reply(status, PLAIN, view.text());
            }
        };
        let hash = STANDARD.encode(Sha256::digest(&style));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; form-action 'self'; \
             base-uri 'none'; frame-ancestors 'none'"
        );
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            reply.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        }
        reply.headers_mut().insert(VARY, HeaderValue::from_static("accept, accept-language"));
        reply
    }

    /// A page that says one thing, such as why something was not possible.
    pub(super) fn message(
        &self,
        format: Format,
        status: StatusCode,
        language: &Language,
        key: &str,
    ) -> Reply {
        let title = language.text(&format!("wrong.{key}_title")).to_owned();
        let view = View::new(title, vec![language.text(&format!("wrong.{key}")).to_owned()]);
        self.render(format, status, language, None, &view)
    }

    fn switch(&self, current: &Language) -> Value {
        let one = |language: &Language| {
            context! {
                tag => &language.tag,
                name => language.name(),
                direction => language.direction(),
                current => language.tag == current.tag,
            }
        };
        let all: Vec<Value> = self.languages.all().iter().map(one).collect();
        context! { label => current.text("foot.languages"), all }
    }
}

/// What a page says, for the template, and the lines of plain text that say it.
#[derive(Debug, Clone)]
pub(super) struct View {
    title: String,
    error: Option<String>,
    lines: Vec<String>,
    record: Option<String>,
    values: Value,
}

impl View {
    pub(super) fn new(title: String, lines: Vec<String>) -> Self {
        Self { title, error: None, lines, record: None, values: context! {} }
    }

    /// With another title.
    pub(super) fn titled(self, title: String) -> Self {
        Self { title, ..self }
    }

    /// With a sentence of what is wrong.
    pub(super) fn with_error(self, error: String) -> Self {
        Self { error: Some(error), ..self }
    }

    /// With what was recorded, and when.
    pub(super) fn with_record(self, record: String) -> Self {
        Self { record: Some(record), ..self }
    }

    /// Adds what the template knows as one of its blocks.
    pub(super) fn with(mut self, values: Value) -> Self {
        self.values = context! { ..values, ..self.values };
        self
    }

    fn text(&self) -> String {
        let before = self.error.iter().chain([&self.title]);
        let lines = before.chain(&self.lines).chain(&self.record);
        lines.flat_map(|line| [line, "\n"]).collect()
    }
}

/// The answer to a provider, or to whoever reads plain text, after an opt-out. It names neither
/// list nor recipient: providers do not read it, and a script knows what it sent.
pub(super) fn done() -> Reply {
    const DONE: &str = "You have unsubscribed. It takes effect at once: the next message is not \
                        sent. You need do nothing else.\n";
    reply(StatusCode::OK, PLAIN, DONE)
}

/// Text that a browser saves under a name, which is of letters, digits, dots and hyphens.
pub(super) fn file(name: &str, text: String) -> Reply {
    let mut reply = reply(StatusCode::OK, PLAIN, text);
    if let Ok(kept) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        reply.headers_mut().insert(CONTENT_DISPOSITION, kept);
    }
    reply
}

/// A page with all that any page has, for trying a template out.
fn sample() -> Value {
    let choices = vec![context! { value => "x", text => "x", checked => true }];
    let language = context! { tag => "en", name => "x", direction => "ltr", current => true };
    context! {
        title => "x", style => "x", error => "x", lines => ["x"], recorded => "x",
        language => language.clone(),
        languages => context! { label => "x", all => [language] },
        sender => context! {
            name => "x", logo => "x", postal_address => ["x"],
            links => [context! { url => "x", text => "x" }],
        },
        leave => context! { button => "x", effect => "x", stays => "x" },
        undo => context! { event => 1, explain => "x", button => "x" },
        receipt => context! { explain => "x", link => "x" },
        why => context! {
            heading => "x", optional => "x", text => "x", written => "x", most => 1, button => "x",
            choices => choices.clone(),
        },
        options => context! {
            heading => "x", left => "x",
            frequency_heading => "x", frequency_button => "x", frequencies => choices.clone(),
            pause_heading => "x", pause_button => "x", pauses => choices,
            choose_heading => "x", choose_explain => "x", choose_button => "x",
            lists => [context! { id => "x", title => "x", about => "x", schedule => "x" }],
            everything_heading => "x", everything_explain => "x", everything_button => "x",
            everything_stays => ["x"],
        },
        come_back => context! { text => "x", link => "x", url => "x" },
    }
}

fn sender_of(sender: &Sender, language: &Language) -> Value {
    let link = |key: &str, url: &Option<String>| {
        url.as_ref().map(|url| context! { url, text => language.text(key) })
    };
    let links =
        [link("foot.privacy", &sender.privacy_url), link("foot.contact", &sender.contact_url)];
    let logo = sender.logo.as_ref().map(|logo| {
        format!("data:{};base64,{}", logo.content_type, STANDARD.encode(&logo.content))
    });
    context! {
        name => sender.name.in_language(&language.tag),
        postal_address => &sender.postal_address,
        links => links.into_iter().flatten().collect::<Vec<_>>(),
        logo,
    }
}

/// A file of the directory, if it has one; and what to call it.
fn read(directory: Option<&Path>, (name, own): (&str, &str)) -> Result<(String, String), String> {
    let Some(directory) = directory else { return Ok((own.to_owned(), name.to_owned())) };
    let path = directory.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((text, path.display().to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && directory.is_dir() => {
            Ok((own.to_owned(), name.to_owned()))
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn explain(place: &str, error: &minijinja::Error) -> String {
    let line = error.line().map_or_else(String::new, |line| format!(", line {line}"));
    format!("{place}{line}: {error}")
}
