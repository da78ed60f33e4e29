//! The command line: one file a command, configuration, exit codes, and everything that a person
//! reads.

mod api_key;
mod audit;
mod backup;
mod catalogue;
mod check;
mod complete;
mod config;
mod endpoints;
mod export;
mod forget;
mod headers;
mod history;
mod html;
mod import;
mod input;
mod key;
mod lanes;
mod link;
mod lint;
mod opt_in;
mod output;
mod output_file;
mod progress;
mod receive;
mod recipients;
mod release;
mod report;
mod restore;
mod scrub;
mod send_log;
mod serve;
mod show;
mod stats;
mod suppress;
mod table;
mod user;
mod verify;
mod webhook;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::ledger::{DataDir, KeyFile, SqliteStore, Store, Time};
use crate::link::{Keyring, ListId, Scope};
use config::Config;
pub(crate) use config::check_layers;
use output::Output;

const COMMON: &str = "Common options";

/// One-click unsubscribe (RFC 8058) and suppression: mint links, take opt-outs, ask before
/// sending, read what happened.
#[derive(Debug, Parser)]
#[command(
    name = "optout",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Exit status: 0 done; 1 the answer is no; 2 used wrongly or cannot be done.\n\n\
                  Example:\n  optout serve    # then follow what it prints"
)]
struct Arguments {
    /// The configuration file (TOML); deploy/optout.toml lists every key
    #[arg(long, global = true, value_name = "FILE", env = "OPTOUT_CONFIG", help_heading = COMMON)]
    config: Option<PathBuf>,

    /// The directory of the store [env: OPTOUT_DATA] [default: ./optout-data]
    #[arg(long, global = true, value_name = "DIR", help_heading = COMMON)]
    data: Option<PathBuf>,

    /// Set one configuration key, over file and environment
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = COMMON)]
    set: Vec<String>,

    /// Print one JSON object a line
    #[arg(long, global = true, help_heading = COMMON)]
    json: bool,

    #[command(subcommand)]
    command: CommandLine,
}

#[derive(Debug, Subcommand)]
enum CommandLine {
    Serve(serve::Serve),
    #[command(subcommand)]
    Key(key::Key),
    #[command(subcommand, name = "apikey")]
    ApiKey(api_key::ApiKeyCommand),
    Headers(headers::Headers),
    Lint(lint::Lint),
    #[command(subcommand)]
    Link(link::LinkCommand),
    Check(check::Check),
    Scrub(scrub::Scrub),
    Suppress(suppress::Suppress),
    OptIn(opt_in::OptIn),
    Release(release::Release),
    Import(import::Import),
    Export(export::Export),
    Show(show::Show),
    History(history::History),
    Forget(forget::Forget),
    Receive(receive::Receive),
    Verify(verify::Verify),
    #[command(subcommand)]
    Audit(audit::Audit),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Stats(stats::Stats),
    Report(report::Report),
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    Completions(complete::Completions),
    Man(complete::Man),
}

/// How a command ended when nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Done,
    /// The answer is no: suppressed, or something is wrong with what was looked at.
    No,
}

/// Why a command cannot be done, in one line: what is wrong and what to do about it.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }

    /// Something that passes, for the mail server to try again (sysexits.h, EX_TEMPFAIL).
    fn try_again(self) -> Self {
        Self { code: 75, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

/// The clock of this room.
fn now() -> Time {
    SystemTime::now().into()
}

/// What every command is given.
struct Context {
    config: Config,
    output: Output,
}

impl Context {
    fn now(&self) -> Time {
        now()
    }

    fn dir(&self) -> DataDir {
        DataDir::new(&self.config.data)
    }

    /// The store, which has to be there.
    fn store(&self) -> Result<SqliteStore, Failure> {
        Ok(SqliteStore::open(&self.dir())?)
    }

    /// The store, made if it is not there, and whether it was.
    fn store_made_if_missing(&self) -> Result<(SqliteStore, bool), Failure> {
        let made = !self.dir().holds_a_store()?;
        Ok((SqliteStore::create(&self.dir())?, made))
    }

    fn key_file(&self) -> Result<KeyFile, Failure> {
        Ok(KeyFile::read(&self.dir())?)
    }

    fn keyring(&self) -> Result<Keyring, Failure> {
        Ok(self.key_file()?.into_keyring())
    }

    /// A list nobody has named yet may be misspelt, and then everybody looks subscribed.
    fn warn_if_unknown(&self, store: &dyn Store, list: &ListId) -> Result<bool, Failure> {
        let is_described = self.config.catalogue()?.list(list).is_some();
        let known = is_described || store.knows(&Scope::from(list.clone()))?;
        if !known {
            output::warn(&format!(
                "no event and no configuration names the list {list} yet: unless this is its first \
                 use, look how it is spelt"
            ));
        }
        Ok(known)
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse_from(settings_last(env::args_os())) {
        Ok(arguments) => arguments,
        Err(error) => return refused(&error),
    };
    match dispatch(arguments) {
        Ok(Status::Done) => ExitCode::SUCCESS,
        Ok(Status::No) => ExitCode::FAILURE,
        Err(failure) => {
            output::error(&failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// Moves every `--set KEY=VALUE` and `--set=KEY=VALUE` behind the rest: clap would drop those before a command when
/// there are others after it.
fn settings_last(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let (mut kept, mut settings) = (Vec::new(), Vec::new());
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            // Behind it nothing is an option.
            settings.push(argument);
            settings.extend(arguments);
            break;
        }
        match argument.as_encoded_bytes() {
            b"--set" => settings.extend([argument].into_iter().chain(arguments.next())),
            bytes if bytes.starts_with(b"--set=") => settings.push(argument),
            _ => kept.push(argument),
        }
    }
    kept.extend(settings);
    kept
}

/// Help goes out as it is; what is wrong becomes one line.
fn refused(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        // Nobody may be reading, which is no failure.
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let said: Vec<_> = lines.take_while(|line| !line.starts_with("Usage:")).collect();
    let said = said.join(" ").replace("For more information, try '--help'.", "");
    // A secret that was pasted into the wrong place is not repeated.
    if said.contains("optout_key_") || said.contains("optout_api_") {
        output::error(
            "a key does not belong on the command line: `key add` reads it from standard input",
        );
        return ExitCode::from(2);
    }
    if said.contains("whsec_") {
        output::error(
            "a secret does not belong on the command line: `secret_files` names its file",
        );
        return ExitCode::from(2);
    }
    output::error(&format!(
        "{}; see --help",
        said.trim_start_matches("error: ").trim().trim_end_matches('.')
    ));
    // A mail must not be bounced for a mistake in the mail server's configuration.
    let is_receive = env::args_os().any(|argument| argument == "receive");
    ExitCode::from(if is_receive { 75 } else { 2 })
}

fn dispatch(arguments: Arguments) -> Result<Status, Failure> {
    // These two are asked for where no configuration is, and have to work there.
    match arguments.command {
        CommandLine::Completions(command) => return command.run::<Arguments>(),
        CommandLine::Man(command) => return command.run::<Arguments>(),
        _ => {}
    }
    let is_receive = matches!(arguments.command, CommandLine::Receive(_));
    let mut config = match Config::load(arguments.config.as_deref(), &arguments.set) {
        // A mail must not be bounced for a mistake in our configuration.
        Err(failure) if is_receive => return Err(failure.try_again()),
        loaded => loaded?,
    };
    if let Some(data) = arguments.data {
        config.data = data;
    }
    let mut context = Context { config, output: Output::new(arguments.json) };
    let status = run_command(arguments.command, &mut context)?;
    // What nobody could be told was not done.
    context.output.flush()?;
    Ok(status)
}

fn run_command(command: CommandLine, context: &mut Context) -> Result<Status, Failure> {
    match command {
        CommandLine::Serve(command) => command.run(context),
        CommandLine::Key(command) => command.run(context),
        CommandLine::ApiKey(command) => command.run(context),
        CommandLine::Headers(command) => command.run(context),
        CommandLine::Lint(command) => command.run(context),
        CommandLine::Link(command) => command.run(context),
        CommandLine::Check(command) => command.run(context),
        CommandLine::Scrub(command) => command.run(context),
        CommandLine::Suppress(command) => command.run(context),
        CommandLine::OptIn(command) => command.run(context),
        CommandLine::Release(command) => command.run(context),
        CommandLine::Import(command) => command.run(context),
        CommandLine::Export(command) => command.run(context),
        CommandLine::Show(command) => command.run(context),
        CommandLine::History(command) => command.run(context),
        CommandLine::Forget(command) => command.run(context),
        CommandLine::Receive(command) => command.run(context),
        CommandLine::Verify(command) => command.run(context),
        CommandLine::Audit(command) => command.run(context),
        CommandLine::Backup(command) => command.run(context),
        CommandLine::Restore(command) => command.run(context),
        CommandLine::Stats(command) => command.run(context),
        CommandLine::Report(command) => command.run(context),
        CommandLine::Webhook(command) => command.run(context),
        CommandLine::Completions(_) | CommandLine::Man(_) => Ok(Status::Done),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _};

    /// Columns of a terminal.
    const WIDTH: usize = 80;

    /// Columns of a table's row or an example, since man(1) indents by 7 and fills 78.
    const ROW: usize = 71;

    /// Every command, as it is when it is run in a terminal of that width.
    fn commands() -> Vec<Command> {
        let mut command = super::Arguments::command().term_width(WIDTH);
        command.clone().debug_assert();
        command.build();
        let (mut waiting, mut all) = (vec![command], Vec::new());
        while let Some(command) = waiting.pop() {
            let others = command.get_subcommands().filter(|own| own.get_name() != "help");
            waiting.extend(others.cloned());
            all.push(command);
        }
        all
    }

    #[test]
    fn every_command_has_an_example() {
        for mut command in commands() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{} has no example", command.get_name());
        }
    }

    /// A line of a paragraph that ends early was broken by hand, and then by the terminal again.
    #[test]
    fn help_fills_a_terminal_and_breaks_no_line_twice() {
        for mut command in commands() {
            let help = command.render_long_help().to_string();
            let name = command.get_bin_name().unwrap_or_default();
            let wide = help.lines().find(|line| line.chars().count() > WIDTH);
            assert_eq!(wide, None, "{name}");
            let lines: Vec<_> =
                help.lines().take_while(|line| !line.starts_with("Usage:")).collect();
            for pair in lines.windows(2).filter(|pair| pair.iter().all(|line| !line.is_empty())) {
                let word = pair[1].split(' ').next().unwrap_or_default();
                let is_full = pair[0].chars().count() + 1 + word.chars().count() > WIDTH;
                assert!(is_full, "{name}: {word} would fit in {:?}", pair[0]);
            }
        }
    }

    /// Rows of tables and examples begin with a space, and stand as they are written, in man pages too.
    #[test]
    fn help_wraps_no_row_of_a_table_and_no_example() {
        for command in commands() {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let is_wrapped = |line: &&str| {
                line.chars().count() > if line.starts_with(' ') { ROW } else { WIDTH }
            };
            let wrapped: Vec<_> = text.lines().filter(is_wrapped).collect();
            assert!(wrapped.is_empty(), "{}: {wrapped:#?}", command.get_name());
        }
    }
}
