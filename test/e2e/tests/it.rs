//! Clusters of real hosts: the tour, networks that users make, and then the faults that they must survive.

use osier_e2e::{Cluster, behind, churn, engine, faults, networks, offline, partition, removal, seed, tour};
use std::{process::ExitCode, time::Duration};

/// `engines` are nodes with Docker of another Debian release than their own.
fn tour_and_faults(releases: &[&str], engines: &[(&str, &str)], partitions: &[u64], cycles: usize) -> ExitCode {
    let all = || {
        let cluster = Cluster::make(3, releases)?;
        for (node, release) in engines {
            cluster.install_engine_of(node, release)?;
        }
        tour::take(&cluster)?;
        tour::load_image(&cluster)?;
        networks::all(&cluster)?;
        for seconds in partitions {
            partition::heals(&cluster, Duration::from_secs(*seconds))?;
        }
        faults::all(&cluster)?;
        churn::all(&cluster, cycles)?;
        removal::all(&cluster)?;
        behind::all(&cluster)?;
        seed::all(&cluster)
    };
    osier_e2e::verdict(all())
}

#[test]
fn the_tour_runs_on_three_real_hosts_and_they_survive_faults() -> ExitCode {
    tour_and_faults(&[], &[], &[10, 30], 100)
}

#[test]
#[ignore = "tier full: one cluster is enough for every change"]
fn engines_of_three_generations_make_one_cluster() -> ExitCode {
    let releases = ["bookworm", "datalyse-1=trixie", "datalyse-2=trixie"];
    tour_and_faults(&releases, &[("datalyse-2", "forky")], &[300], 2_000)
}

#[test]
#[ignore = "tier full: it makes a source of packages on a host of its own"]
fn docker_comes_from_a_source_in_an_exact_version() -> ExitCode {
    osier_e2e::verdict(Cluster::make(1, &["trixie"]).and_then(|cluster| engine::comes_from_a_source(&cluster)))
}

#[test]
#[ignore = "tier full: it makes two hosts without Docker, and takes their sources of packages away"]
fn docker_comes_from_a_bundle_where_there_is_no_source() -> ExitCode {
    osier_e2e::verdict(Cluster::make(2, &["trixie"]).and_then(|cluster| offline::installs_from_a_bundle(&cluster)))
}
