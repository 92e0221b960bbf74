//! Clusters of real hosts: the tour, networks that users make, and then the faults that they must survive.

use osier_e2e::{Cluster, faults, networks, tour};

fn tour_and_faults(releases: &[&str]) {
    let cluster = Cluster::make(3, releases).expect("hosts");
    tour::take(&cluster).expect("the tour");
    tour::load_image(&cluster).expect("the image");
    networks::all(&cluster).expect("networks");
    faults::all(&cluster).expect("faults");
}

#[test]
fn the_tour_runs_on_three_real_hosts_and_they_survive_faults() {
    tour_and_faults(&[]);
}

#[test]
#[ignore = "tier full: one cluster is enough for every change"]
fn engines_of_two_generations_make_one_cluster() {
    tour_and_faults(&["bookworm", "datalyse-2=trixie"]);
}
