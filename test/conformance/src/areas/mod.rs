//! The scenarios, one module per area; each opens with its table.

mod archive;
mod attach;
mod build;
mod cli;
mod compose;
mod containers;
mod errors;
mod events;
mod exec;
mod images;
mod lifecycle;
mod lists;
mod logs;
mod networks;
mod prune;
mod python;
mod system;
mod volumes;
mod watch;

use crate::scenario::Scenario;

pub(crate) const ALL: [&[Scenario]; 19] = [
    system::ALL,
    containers::ALL,
    lifecycle::ALL,
    watch::ALL,
    lists::ALL,
    exec::ALL,
    attach::ALL,
    logs::ALL,
    archive::ALL,
    images::ALL,
    build::ALL,
    networks::ALL,
    volumes::ALL,
    events::ALL,
    prune::ALL,
    errors::ALL,
    cli::ALL,
    compose::ALL,
    python::ALL,
];
