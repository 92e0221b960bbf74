//! One cluster of three real hosts: the tour, and then the faults that it must survive.

use osier_e2e::{Cluster, tour};

#[test]
fn the_tour_runs_on_three_real_hosts() {
    let cluster = Cluster::make(3).expect("hosts");
    tour::take(&cluster).expect("the tour");
}
