//! What a scenario is, and the areas that scenarios come in.

use crate::{areas, failure::Failure, target::Target};
use std::{future::Future, pin::Pin};

/// A part of the API, or a client of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// Ping, version, info, df, auth, swarm mode's routes.
    System,
    /// Create and inspect.
    Containers,
    /// Start, stop, kill, pause, rename, wait, update.
    Lifecycle,
    /// Top, stats, changes, export, resize.
    Watch,
    /// `GET /containers/json`.
    Lists,
    /// Exec.
    Exec,
    /// Attach: raw, upgraded, websocket.
    Attach,
    /// Logs.
    Logs,
    /// Copying files in and out.
    Archive,
    /// Images.
    Images,
    /// Builds.
    Build,
    /// Networks.
    Networks,
    /// Volumes.
    Volumes,
    /// Events.
    Events,
    /// Prune.
    Prune,
    /// Refusals.
    Errors,
    /// Docker's command line.
    Cli,
    /// docker-compose 1 and 2.
    Compose,
    /// docker-py.
    Python,
}

/// A scenario on its way. All of a run are driven by one task, so none needs to be `Send`.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

/// One scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Which part of the API it is about.
    pub area: Area,
    /// Its name, a sentence in snake case.
    pub name: &'static str,
    /// The calls it is about, as the API's reference names them.
    pub api: &'static str,
    /// Runs it.
    pub run: for<'a> fn(&'a Target) -> Running<'a>,
}

impl Scenario {
    /// Every scenario, area by area.
    pub fn all() -> impl Iterator<Item = &'static Scenario> {
        areas::ALL.iter().copied().flatten()
    }
}

/// The table of an area: the API's reference, then the function.
macro_rules! scenarios {
    ($area:ident: $($api:literal => $name:ident,)+) => {
        pub(crate) const ALL: &[crate::scenario::Scenario] = &[$(crate::scenario::Scenario {
            area: crate::scenario::Area::$area,
            name: stringify!($name),
            api: $api,
            run: |target| Box::pin($name(target)),
        }),+];
    };
}
pub(crate) use scenarios;
