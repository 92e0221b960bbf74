//! What a manager uses while nobody asks it anything and its 1,000 engines are quiet, next to one with a single engine.

use crate::{
    Row,
    fakes::{self, ENGINES, Manager},
};
use anyhow::Result;
use std::{thread::sleep, time::Duration};

/// How long the managers are left alone before they are watched: what follows a start is not idle.
const CALM: Duration = Duration::from_secs(10);
/// How long they are watched; every engine is probed and listed meanwhile.
const WATCH: Duration = Duration::from_secs(60);

pub(crate) fn measure() -> Result<Vec<Row>> {
    let runtime = fakes::runtime()?;
    let engines = runtime.block_on(fakes::engines(ENGINES))?;
    let (one, all) = (Manager::start(&engines[..1])?, Manager::start(&engines)?);
    sleep(CALM);
    let before = (one.busy()?, all.busy()?);
    sleep(WATCH);
    let part = |now: f64, before: f64| (now - before) / WATCH.as_secs_f64() * 100.0;
    let (single, busy) = (part(one.busy()?, before.0), part(all.busy()?, before.1));
    let (small, large) = (one.resident_mib()?, all.resident_mib()?);
    Ok(vec![
        Row {
            what: "idle manager with 1,000 engines, of one core",
            result: format!("{busy:.1} %, with one engine {single:.1} %"),
            promise: "≤ 5 %",
            holds: busy <= 5.0,
        },
        Row {
            what: "idle manager with 1,000 engines, resident",
            result: format!("{large} MiB, with one engine {small} MiB"),
            promise: "≤ 300 MB",
            holds: large * 1048576 <= 300_000_000,
        },
    ])
}
