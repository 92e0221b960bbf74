//! Clusters of real hosts: the tour, networks that users make, and then the faults that they must survive.

use osier_e2e::{Cluster, faults, networks, partition, tour};
use std::time::Duration;

fn tour_and_faults(releases: &[&str], partitions: &[u64]) {
    let cluster = Cluster::make(3, releases).expect("hosts");
    tour::take(&cluster).expect("the tour");
    tour::load_image(&cluster).expect("the image");
    networks::all(&cluster).expect("networks");
    for seconds in partitions {
        partition::heals(&cluster, Duration::from_secs(*seconds)).expect("a partition");
    }
    faults::all(&cluster).expect("faults");
}

#[test]
fn the_tour_runs_on_three_real_hosts_and_they_survive_faults() {
    tour_and_faults(&[], &[10, 30]);
}

#[test]
#[ignore = "tier full: one cluster is enough for every change"]
fn engines_of_two_generations_make_one_cluster() {
    tour_and_faults(&["bookworm", "datalyse-2=trixie"], &[300]);
}
