//! Logging: to standard error, structured, quiet for commands and `info` for daemons unless told otherwise.

use osier_ui::Failure;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging with the given directives; empty means the role's default. What is wrong with them is the error.
pub(crate) fn start(directives: &str, daemon: bool) -> Result<(), Failure> {
    let default = if daemon { "info" } else { "error" };
    let wanted = if directives.is_empty() { default } else { directives };
    let filter = EnvFilter::try_new(wanted)
        .map_err(|e| Failure::usage(format_args!("'--log {wanted}' is not understood: {e}")))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // The service manager puts the time in front of every line itself.
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let log = log.with_ansi(std::io::stderr().is_terminal());
    let started = if under_systemd { log.without_time().try_init() } else { log.try_init() };
    debug_assert!(started.is_ok(), "logging is started once");
    Ok(())
}
