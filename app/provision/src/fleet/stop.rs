//! The operator's wish to stop: Ctrl-C, or a signal that asks this process to end.
//!
//! Must not know what is stopped. A second Ctrl-C ends the process at once; a terminal that is closed says so more than once.
//! One that is closed is ignored where this process was started to outlive it (`nohup`).

use osier_ui::{ExitKind, Failure};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// Whether the run is to stop. Clones hear of the same wish.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Begins to listen; from now on signals do not end this process by themselves.
    pub(crate) fn listen() -> Result<Self, Failure> {
        Self::listen_to(std::future::pending())
    }

    /// The same, where `enough` is a wish to stop, too.
    pub(crate) fn listen_to(enough: impl Future<Output = ()> + Send + 'static) -> Result<Self, Failure> {
        let open = |kind| signal(kind).map_err(|e| Failure::from(anyhow::Error::new(e).context("listen for signals")));
        let (mut interrupt, mut terminate) = (open(SignalKind::interrupt())?, open(SignalKind::terminate())?);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut hangup = if ignores_hangup(&status) { None } else { Some(open(SignalKind::hangup())?) };
        let (tell, told) = watch::channel(false);
        tokio::spawn(async move {
            let (mut enough, mut is_enough) = (std::pin::pin!(enough), false);
            loop {
                let by_hand = tokio::select! {
                    () = &mut enough, if !is_enough => {
                        is_enough = true;
                        false
                    }
                    _ = interrupt.recv() => true,
                    _ = terminate.recv() => false,
                    () = came(&mut hangup) => false,
                };
                if tell.send_replace(true) && by_hand {
                    std::process::exit(i32::from(ExitKind::SomeHostsFailed as u8));
                }
            }
        });
        Ok(Self(told))
    }

    /// Whether it has come.
    pub(crate) fn has_come(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for it.
    pub(crate) async fn wait(&self) {
        let mut told = self.0.clone();
        if told.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Does the work unless the wish comes before its end.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! { done = work => done, () = self.wait() => Err(Self::failure()) }
    }

    /// What a host that was stopped is told of with.
    pub(crate) fn failure() -> Failure {
        Failure::message_only(ExitKind::SomeHostsFailed, "stopped before the end")
    }
}

/// Waits for a signal, if it is one to wait for.
async fn came(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether a process ignores that its terminal is closed, by its status (proc_pid_status(5), `SigIgn`).
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (SignalKind::hangup().as_raw_value() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_hangups_are_ignored_is_read_out_of_a_status() {
        let status = |mask: &str| format!("Name:\tosier\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\nSigCgt:\t1\n");
        assert!(ignores_hangup(&status("0000000000001001")) && !ignores_hangup(&status("0000000000001006")));
        assert!(!ignores_hangup("") && !ignores_hangup(&status("x")));
    }
}
