//! `osier join`: keeps an engine registered with a discovery service for as long as this runs.

use crate::{
    args::JoinArgs,
    client::Place,
    settings::{Caller, Joining},
};
use anyhow::Context;
use osier_model::Token;
use osier_ui::Failure;
use rand::RngExt;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

/// How long taking the engine out of the list may take at the end.
const LEAVE: Duration = Duration::from_secs(5);

/// Registers until a signal arrives, and then takes the engine out of the list. A failure is logged and tried again with
/// the next heartbeat.
pub async fn join(args: JoinArgs, caller: &Caller, place: impl Fn(&Token) -> Option<Place>) -> Result<(), Failure> {
    let joining = Joining::check(&args, caller, &place)?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut registration = joining.backend.registration(&joining.advertise, joining.ttl);
    let address = joining.advertise.to_string();
    let mut pause = joining.delay.mul_f64(rand::rng().random_range(0.0..1.0));
    if !pause.is_zero() {
        info!(addr = address, delay = ?pause, "waiting before the first registration");
    }
    loop {
        let register = async {
            tokio::time::sleep(pause).await;
            info!(addr = address, "Registering on the discovery service every {}...", joining.heartbeat);
            if let Err(error) = registration.renew().await {
                error!(addr = address, "{error}");
            }
        };
        tokio::select! {
            () = register => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
        pause = joining.every;
    }
    match tokio::time::timeout(LEAVE, registration.remove()).await {
        Ok(Ok(())) => info!(addr = address, "left the discovery service"),
        Ok(Err(error)) => warn!(addr = address, "the registration stays until its time is up: {error}"),
        Err(_) => warn!(addr = address, "the registration stays until its time is up: no answer"),
    }
    Ok(())
}
