//! One cluster of three real hosts: the tour, and then the faults that it must survive.

use osier_e2e::{Cluster, faults, tour};

#[test]
fn the_tour_runs_on_three_real_hosts_and_they_survive_faults() {
    let cluster = Cluster::make(3).expect("hosts");
    tour::take(&cluster).expect("the tour");
    tour::load_image(&cluster).expect("the image");
    faults::all(&cluster).expect("faults");
}
