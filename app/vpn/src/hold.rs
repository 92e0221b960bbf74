//! A port that is held open until somebody stops it: the connection behind it is made again whenever it is lost.
//!
//! Must not know what the port is for. `osier-reach` decides whether and when; here its decisions are carried out and told,
//! as lines for people on standard error and, with `-o json`, as one JSON document per line on standard output.

use osier_reach::{Next, Supervisor, Trouble};
use osier_ssh::{Connections, Error, Forwarding, Target, Unreachable};
use osier_ui::{ExitKind, Failure, Ui};
use serde_json::json;
use std::{net::TcpListener, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep},
};

/// The signals that end it: Ctrl-C, a service manager's, a terminal that was closed.
struct Stop([Signal; 3]);

impl Stop {
    fn new() -> Result<Self, Failure> {
        let wait = |kind| signal(kind).map_err(|e| anyhow::Error::new(e).context("listen for signals"));
        Ok(Self([wait(SignalKind::interrupt())?, wait(SignalKind::terminate())?, wait(SignalKind::hangup())?]))
    }

    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Says what happens, to people and to programs.
struct Teller<'a> {
    ui: &'a Ui,
    via: &'a str,
    port: u16,
}

impl Teller<'_> {
    fn tell(&self, event: &str, text: impl std::fmt::Display, more: serde_json::Value) {
        if self.ui.is_json() {
            let mut line = json!({ "event": event, "via": self.via, "listen": format!("127.0.0.1:{}", self.port) });
            if let (Some(line), Some(more)) = (line.as_object_mut(), more.as_object()) {
                line.extend(more.clone());
            }
            self.ui.line(line);
        }
        self.ui.note(format_args!("{}: {text}", self.via));
    }
}

/// Holds a port open through the host `via` until it is told to stop, which is no failure, or until trying again cannot help.
/// Each time the connection stands, `check` sees whether it is good for what it is for, and says so.
pub(crate) async fn hold(
    via: &str,
    target: &Target,
    what: Forwarding,
    check: impl AsyncFn() -> Result<String, Failure>,
    ui: &Ui,
) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    free(what.port())?;
    let connections = Connections::new().map_err(failure)?;
    let teller = Teller { ui, via, port: what.port() };
    let mut supervisor = Supervisor::default();
    teller.tell("connecting", "connecting", json!({}));
    loop {
        let mut forward = connections.forward(via, target, what).map_err(failure)?;
        let stood = tokio::select! {
            stood = forward.stands() => stood,
            () = stop.asked() => {
                forward.stop().await;
                return stopped(&teller);
            }
        };
        let (error, stood_for) = match stood {
            Err(error) => (error, None),
            Ok(()) => {
                let since = Instant::now();
                let mut forbidden = false;
                let on_line = |line: &str| {
                    if line.contains("administratively prohibited") && !std::mem::replace(&mut forbidden, true) {
                        ui.warn(format_args!(
                            "{via} forbids forwarding: its sshd_config needs 'AllowTcpForwarding yes'"
                        ));
                    }
                };
                let ended = async {
                    let checked = async {
                        let good = check().await?;
                        teller.tell("connected", format_args!("connected: {good}"), json!({ "detail": good }));
                        std::future::pending::<Result<Error, Failure>>().await
                    };
                    tokio::select! {
                        error = forward.ended(on_line) => Ok(error),
                        bad = checked => bad,
                    }
                };
                let ended = tokio::select! {
                    ended = ended => ended,
                    () = stop.asked() => {
                        forward.stop().await;
                        return stopped(&teller);
                    }
                };
                match ended {
                    Ok(error) => (error, Some(since.elapsed())),
                    Err(bad) => {
                        forward.stop().await;
                        return Err(bad);
                    }
                }
            }
        };
        drop(forward);
        match supervisor.ended(trouble(&error), stood_for, rand::random()) {
            Next::GiveUp => return Err(failure(error)),
            Next::Again(wait) => {
                let reason = reason(&error);
                let event = if stood_for.is_some() { "lost" } else { "failed" };
                let what = if stood_for.is_some() { "lost the connection" } else { "cannot connect" };
                teller.tell(event, format_args!("{what}: {reason}"), json!({ "reason": reason }));
                teller.tell(
                    "reconnecting",
                    format_args!("reconnecting{}", in_words(wait)),
                    json!({ "in_ms": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) }),
                );
                tokio::select! {
                    () = sleep(wait) => {}
                    () = stop.asked() => return stopped(&teller),
                }
            }
        }
    }
}

fn stopped(teller: &Teller<'_>) -> Result<(), Failure> {
    teller.tell("stopped", "stopped", json!({}));
    Ok(())
}

fn in_words(wait: Duration) -> String {
    if wait.is_zero() { String::new() } else { format!(" in {:.1} s", wait.as_secs_f64()) }
}

/// Finds out whether a port can be had before anybody is connected to for it.
fn free(port: u16) -> Result<(), Failure> {
    TcpListener::bind(("127.0.0.1", port)).map(drop).map_err(|e| {
        let error = anyhow::Error::new(e).context(format!("listen on 127.0.0.1:{port}"));
        Failure::new(ExitKind::Failed, error).hint(port_hint(port))
    })
}

fn port_hint(port: u16) -> String {
    format!("choose another port, or see who has it with 'ss -ltnp sport = {port}'")
}

fn trouble(error: &Error) -> Trouble {
    match error {
        Error::Unreachable { reason, .. } => match reason {
            Unreachable::UnknownName => Trouble::UnknownName,
            Unreachable::Denied | Unreachable::HostKey => Trouble::Lasting,
            Unreachable::Refused | Unreachable::TimedOut | Unreachable::NoRoute | Unreachable::Lost => Trouble::Passing,
        },
        _ => Trouble::Lasting,
    }
}

/// What ssh said, where it said something.
fn reason(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// A failure that trying again cannot mend, with what to do about it.
fn failure(error: Error) -> Failure {
    let (kind, hint) = match &error {
        Error::Unreachable { reason, host, .. } => (
            ExitKind::SomeHostsUnreachable,
            match reason {
                Unreachable::UnknownName => {
                    format!("'{host}' has no address here: give one, or a 'Host' block in ~/.ssh/config")
                }
                Unreachable::Denied => format!(
                    "ssh must get in without asking: 'ssh-add' loads your key, 'ssh-copy-id {host}' brings it there; is the user right?"
                ),
                Unreachable::HostKey => format!(
                    "the host's key is not the one in known_hosts: if that is right, 'ssh-keygen -R HOST' takes the old one out, and 'ssh {host}' by hand takes up the new one"
                ),
                _ => format!("try 'ssh -v {host}' by hand"),
            },
        ),
        Error::Port { port, .. } => (ExitKind::Failed, port_hint(*port)),
        Error::Settings { host, .. } => {
            (ExitKind::Usage, format!("try 'ssh -v {host}' by hand; see '--ssh-args' and ~/.ssh/config"))
        }
        _ => (ExitKind::Failed, "the 'ssh' program must be installed on this machine".to_owned()),
    };
    Failure::new(kind, error).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_an_error_at_once() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let failure = free(port).unwrap_err();
        assert_eq!((failure.code(), failure.message()), (1, format!("listen on 127.0.0.1:{port}")));
        assert!(failure.hints()[0].contains("choose another port"));
    }
}
