//! Runs other programs to their end and turns a failure into an error that carries what they said.
//!
//! Must not know what any of the programs do.

use std::process::{ExitStatus, Output, Stdio};
use tokio::{io::AsyncWriteExt, process::Command};

/// How many of a failed program's last lines are worth repeating.
const TAIL_LINES: usize = 12;

/// A program could not be started, or it failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// It could not be started or talked to.
    #[error("start '{program}'")]
    Start { program: String, source: std::io::Error },
    /// It ran and said no.
    #[error("'{command}' failed ({status}): {said}")]
    Failed { command: String, status: ExitStatus, said: String },
}

/// A command that reads nothing from the terminal and speaks English.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
    command
}

/// Runs the command and returns its standard output.
pub(crate) async fn run(command: &mut Command) -> Result<String, CommandError> {
    let output = command.output().await.map_err(|e| not_started(command, e))?;
    finished(command, output)
}

/// Runs the command with `input` on its standard input and returns its standard output.
pub(crate) async fn run_with_input(command: &mut Command, input: &[u8]) -> Result<String, CommandError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| not_started(command, e))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that stops reading early says why through its exit status.
        let _ = stdin.write_all(input).await;
    }
    let output = child.wait_with_output().await.map_err(|e| not_started(command, e))?;
    finished(command, output)
}

/// Runs `from | to` and returns what `to` prints; either one's failure is an error.
pub(crate) async fn run_pipe(from: &mut Command, to: &mut Command) -> Result<String, CommandError> {
    from.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut source = from.spawn().map_err(|e| not_started(from, e))?;
    if let Some(stdout) = source.stdout.take() {
        to.stdin(TryInto::<Stdio>::try_into(stdout).map_err(|e| not_started(from, e))?);
    }
    to.stdout(Stdio::piped()).stderr(Stdio::piped());
    let sink = to.spawn().map_err(|e| not_started(to, e))?;
    // The parent must not keep the pipe's reading end open, or a dead reader would leave the writer waiting.
    to.stdin(Stdio::null());
    let (sent, received) = tokio::join!(source.wait_with_output(), sink.wait_with_output());
    let text = finished(to, received.map_err(|e| not_started(to, e))?)?;
    finished(from, sent.map_err(|e| not_started(from, e))?)?;
    Ok(text)
}

fn not_started(command: &Command, source: std::io::Error) -> CommandError {
    CommandError::Start { program: command.as_std().get_program().to_string_lossy().into_owned(), source }
}

fn finished(command: &Command, output: Output) -> Result<String, CommandError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = if errors.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { errors };
    Err(CommandError::Failed { command: shown(command), status: output.status, said: tail(&said) })
}

/// The program and its first arguments: enough to see which call it was.
fn shown(command: &Command) -> String {
    let std = command.as_std();
    let words = std::iter::once(std.get_program()).chain(std.get_args()).take(8);
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_says_which_program_and_what_it_said() {
        let error = run(command("sh").args(["-c", "echo out; echo 'no such lab' >&2; exit 3"])).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sh -c") && text.contains("exit status: 3") && text.ends_with("no such lab"), "{text}");
        let error = run(&mut command("/nonexistent/program")).await.unwrap_err();
        assert_eq!(error.to_string(), "start '/nonexistent/program'");
    }

    #[tokio::test]
    async fn input_and_pipes_reach_the_program() {
        assert_eq!(run_with_input(&mut command("cat"), b"abc").await.unwrap(), "abc");
        assert_eq!(run_pipe(command("echo").arg("abc"), &mut command("cat")).await.unwrap(), "abc\n");
        let error = run_pipe(command("sh").args(["-c", "exit 4"]), &mut command("cat")).await.unwrap_err();
        assert!(error.to_string().contains("exit status: 4"), "{error}");
        let early = run_pipe(&mut command("yes"), command("sh").args(["-c", "exit 5"])).await.unwrap_err();
        assert!(early.to_string().contains("exit status: 5"), "{early}");
    }

    #[test]
    fn only_the_last_lines_are_repeated() {
        let many: String = (0..40).map(|i| format!("line {i}\n\n")).collect();
        let kept = tail(&many);
        assert!(kept.starts_with("line 28\n") && kept.ends_with("line 39"), "{kept}");
    }
}
