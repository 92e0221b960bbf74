//! One seed is one history, without which no seed would be worth keeping. What the simulator finds, and that it finds what
//! is planted, is seen in its optimised build (`cargo xtask sim --steps N -- --prove`), which CI runs.

use osier_sim::{Options, Plant, Row, figures, simulate};

fn options(steps: u64, plant: Option<Plant>) -> Options {
    Options { steps, seed: 2, nodes: 8, plant }
}

#[test]
fn one_seed_is_one_history() {
    let [first, second] = [(), ()].map(|()| simulate(options(100, None)).unwrap());
    assert_eq!(first, second);
    assert!(first.addresses > 0 && first.answers > 0, "{first}");
}

#[test]
fn names_of_the_dead_are_found() {
    simulate(options(1000, Some(Plant::TrustTheDead))).unwrap_err();
}

#[test]
fn three_nodes_keep_what_is_promised_of_them() {
    let row = Row { nodes: 3, runs: vec![figures(3, 1), figures(3, 2)] };
    assert_eq!(row.runs[0], figures(3, 1), "one seed gives the same figures");
    assert!(row.broken().is_empty(), "{:?}", row.broken());
    assert!(!Row { nodes: 3, runs: Vec::new() }.broken().is_empty(), "what was not measured holds nothing");
}
