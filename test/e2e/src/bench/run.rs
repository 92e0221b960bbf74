//! `docker run` through the manager against the same call straight to the engine, on one real node.
//!
//! Both run inside the node, in turns, the direct one on the overlay's network too, so that what is left is the path
//! through manager, proxy and address reservation.

use crate::{
    MANAGER, Row,
    lab::{self, MASTER},
    quantile,
};
use anyhow::{Context, Result};
use osier_e2e::tour::IMAGE;

/// How many times each is run.
const TURNS: usize = 60;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let cluster = lab::cluster(1)?;
    let script = format!(
        "now() {{ date +%s%N; }}; for i in $(seq {TURNS}); do \
         a=$(now); docker run --rm --network osier {IMAGE} true; b=$(now); {MANAGER} run --rm {IMAGE} true; c=$(now); \
         echo $((b-a)) $((c-b)); done"
    );
    let measured = cluster.on(MASTER, &script)?;
    let (mut direct, mut more) = (Vec::new(), Vec::new());
    for line in measured.lines() {
        let (a, b) = line.split_once(' ').with_context(|| format!("'{line}' is not two times"))?;
        let (a, b) = (a.parse::<f64>()? / 1e6, b.parse::<f64>()? / 1e6);
        direct.push(a);
        // Neighbours in time share the machine's moods.
        more.push(b - a);
    }
    let (direct, more) = (quantile(&mut direct, 0.5), quantile(&mut more, 0.5));
    let result = format!("{more:+.1} ms, {:.2} × direct", 1.0 + more / direct);
    let what = "docker run through the manager, over the same call to the engine";
    Ok(vec![Row { what, result, promise: "≤ 10 ms more at the median", holds: more <= 10.0 }])
}
