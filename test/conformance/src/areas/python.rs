//! docker-py, driven by `python/client.py`: one of its functions per scenario.

use crate::{
    failure::{Failure, holds},
    program::Program,
    scenario::scenarios,
    target::Target,
};

scenarios! { Python:
    "docker.from_env" => ping_version_info,
    "containers.run" => run,
    "containers.run(detach)" => run_detached,
    "containers.list" => list_containers,
    "container.exec_run" => exec_run,
    "container.logs" => logs,
    "container.attach_socket" => attach_socket,
    "container.put_archive, get_archive" => archives,
    "container.stats, top, diff" => watch,
    "container.wait, rename, update, commit" => change,
    "images.build, list, tag, remove, save, load" => images,
    "networks" => networks,
    "volumes" => volumes,
    "events" => events,
    "errors" => errors,
    "APIClient" => low_level,
}

const SCRIPT: &str = include_str!("../../python/client.py");

/// Runs one function of the script; it raises what is wrong. What it makes has names that begin as the scenario's do.
async fn call(t: &Target, function: &str) -> Result<(), Failure> {
    let python = t.python().ok_or_else(|| Failure::Absent("docker-py".to_owned()))?;
    let python = Program::new(t, python.to_path_buf())?;
    let script = python.write("client.py", SCRIPT)?;
    for word in ["one", "two"] {
        t.later(format!("/volumes/{}?force=1", t.name(word)));
        t.later(format!("/networks/{}", t.name(word)));
        t.later(format!("/images/{}:1?force=1", t.name(word)));
        t.remove_container_later(&t.name(word));
    }
    let said = python.say(&[&script, function, &t.name(""), t.image()], b"").await?;
    let last = said.err.trim().lines().last().unwrap_or_default();
    holds(format_args!("{function} of client.py: {last}"), said.code == 0, &said)
}

macro_rules! functions {
    ($($name:ident),+) => { $(async fn $name(t: &Target) -> Result<(), Failure> { call(t, stringify!($name)).await })+ };
}
functions!(
    ping_version_info,
    run,
    run_detached,
    list_containers,
    exec_run,
    logs,
    attach_socket,
    archives,
    watch,
    change,
    images,
    networks,
    volumes,
    events,
    errors,
    low_level
);
