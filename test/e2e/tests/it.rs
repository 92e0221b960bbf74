//! One cluster of three real hosts: the tour, and then the faults that it must survive.

use osier_e2e::{Cluster, faults, tour};

#[test]
fn the_tour_runs_on_three_real_hosts_and_they_survive_faults() {
    let cluster = Cluster::make(3).expect("hosts");
    tour::take(&cluster).expect("the tour");
    tour::load_image(&cluster).expect("the image");
    faults::strangers_are_refused(&cluster).expect("strangers");
    faults::agent_dies_under_traffic(&cluster).expect("a dead agent");
    faults::manager_stops(&cluster).expect("a stopped manager");
    faults::node_reboots(&cluster).expect("a reboot");
    faults::node_stops(&cluster).expect("a stopped node");
}
