//! A program of the operator's that is given a checkpoint on its standard input.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// What is kept of what it says: the end, where errors stand.
const MAX_SAID: usize = 400;

/// Runs it to its end; it did its work when it exits 0. What it says is for the log, its arguments are
/// not, since they may hold secrets.
pub(super) async fn run(command: &[String], note: &str, limit: Duration) -> Result<(), String> {
    let started = start(command).map_err(|error| format!("it cannot be started: {error}"));
    let (mut running, mut output) = started?;
    let mut said = Vec::new();
    let ended = timeout(limit, async {
        tokio::select! {
            ended = feed(&mut running.0, note) => ended,
            never = listen(&mut output, &mut said) => match never {},
        }
    })
    .await;
    drop(running);
    take_rest(&output, &mut said);
    let how = match ended {
        Ok(Ok(status)) if status.success() => return Ok(()),
        Ok(Ok(status)) => format!("it ended with {status}"),
        Ok(Err(error)) => format!("it cannot be waited for: {error}"),
        Err(_) => format!("it took longer than {} s, and was ended", limit.as_secs()),
    };
    Err(match one_line(&said) {
        said if said.is_empty() => how,
        said => format!("{how}, and said: {said}"),
    })
}

/// A program and what it started; ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Once it was waited for it has no number any more.
        let number = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = number.and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The program, and all that it says.
fn start(command: &[String]) -> io::Result<(Running, Receiver)> {
    let [program, arguments @ ..] = command else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (output, input) = io::pipe()?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(input.try_clone()?)
        .stderr(input)
        // So that all of it can be ended, and ^C is for the service.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok((Running(child), Receiver::from_owned_fd(output.into())?))
}

async fn feed(child: &mut Child, note: &str) -> io::Result<ExitStatus> {
    if let Some(mut input) = child.stdin.take() {
        // It may do its work without reading: how it ends is what counts.
        let _ = input.write_all(note.as_bytes()).await;
    }
    child.wait().await
}

/// Never ends, also when nothing can be said any more: the program may still be at work.
async fn listen(output: &mut Receiver, said: &mut Vec<u8>) -> Infallible {
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = output.read(&mut part).await {
        keep_end(said, &part[..length]);
    }
    pending().await
}

/// What was said before the end and not read yet, without waiting for those who live on.
fn take_rest(output: &Receiver, said: &mut Vec<u8>) {
    let mut part = [0; 4096];
    // As much as a pipe holds.
    for _ in 0..16 {
        match output.try_read(&mut part) {
            Ok(length @ 1..) => keep_end(said, &part[..length]),
            _ => return,
        }
    }
}

fn keep_end(said: &mut Vec<u8>, more: &[u8]) {
    said.extend_from_slice(more);
    said.drain(..said.len().saturating_sub(MAX_SAID));
}

fn one_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn run_shell(script: &str, limit: Duration) -> Result<(), String> {
        let command = ["sh", "-c", script].map(str::to_owned);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(run(&command, "the note\n", limit))
    }

    #[test]
    fn it_reads_the_note_or_does_not_and_its_status_counts() {
        assert_eq!(run_shell("test \"$(cat)\" = 'the note'", LONG), Ok(()));
        assert_eq!(run_shell("exec <&-; echo done", LONG), Ok(()));
        let failed = run_shell("echo one; echo two >&2; printf '\\033[1m'; exit 3", LONG);
        assert_eq!(failed, Err("it ended with exit status: 3, and said: one two  [1m".to_owned()));
        let failed = run_shell("exit 4", LONG);
        assert_eq!(failed, Err("it ended with exit status: 4".to_owned()));
    }

    #[test]
    fn what_it_says_is_bounded_and_the_end_of_it_kept() {
        let said = run_shell("yes | head -c 1000000; echo at last; exit 1", LONG).expect_err("1");
        assert!(said.ends_with("y y at last") && said.len() < MAX_SAID + 100, "{said}");
    }

    #[test]
    fn what_takes_too_long_is_ended_with_all_that_it_started() {
        let dir = tempfile::tempdir().expect("a directory");
        let pid = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; echo waiting; wait", pid.display());
        let said = run_shell(&script, Duration::from_secs(2)).expect_err("it is ended");
        assert_eq!(said, "it took longer than 2 s, and was ended, and said: waiting");
        let pid = std::fs::read_to_string(pid).expect("a number");
        let process = format!("/proc/{}/cmdline", pid.trim());
        let began = std::time::Instant::now();
        // One that has ended has no command line, or is not there.
        while std::fs::read(&process).is_ok_and(|line| !line.is_empty()) {
            assert!(began.elapsed() < LONG, "{process} lives on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn one_that_leaves_somebody_behind_is_not_waited_for_any_longer() {
        let began = std::time::Instant::now();
        assert_eq!(run_shell("sleep 5 & exit 0", LONG), Ok(()));
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn what_is_no_program_is_said_without_its_arguments() {
        let command = ["/nowhere/program", "secret"].map(str::to_owned);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let said = runtime.expect("a runtime").block_on(run(&command, "", LONG)).expect_err("none");
        assert!(said.starts_with("it cannot be started: ") && !said.contains("secret"), "{said}");
    }
}
