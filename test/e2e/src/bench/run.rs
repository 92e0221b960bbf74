//! `docker run` through the manager against the same call straight to the engine, on one real node.
//!
//! Both run inside the node, in turns, the direct one on the overlay's network too, so that what is left is the path
//! through manager, proxy and address reservation.

use crate::{Row, quantile};
use anyhow::{Context, Result};
use osier_e2e::{
    Cluster,
    tour::{IMAGE, load_image},
};

/// How many times each is run.
const TURNS: usize = 25;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let cluster = Cluster::make(1, &[])?;
    cluster.osier(&["site", "-i", &cluster.inventory().display().to_string()])?;
    load_image(&cluster)?;
    let manager = "env DOCKER_HOST=tcp://127.0.0.1:3376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/etc/osier/pki docker";
    let script = format!(
        "now() {{ date +%s%N; }}; for i in $(seq {TURNS}); do \
         a=$(now); docker run --rm --network osier {IMAGE} true; b=$(now); {manager} run --rm {IMAGE} true; c=$(now); \
         echo $((b-a)) $((c-b)); done"
    );
    let measured = cluster.on("datalyse-master", &script)?;
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    for line in measured.lines() {
        let (a, b) = line.split_once(' ').with_context(|| format!("'{line}' is not two times"))?;
        direct.push(a.parse::<f64>()? / 1e6);
        through.push(b.parse::<f64>()? / 1e6);
    }
    let (direct, through) = (quantile(&mut direct, 0.5), quantile(&mut through, 0.5));
    let more = through - direct;
    let result = format!("{more:+.1} ms, {:.2} × direct", through / direct);
    let what = "docker run through the manager, over the same call to the engine";
    Ok(vec![Row { what, result, promise: "≤ 10 ms more at the median", holds: more <= 10.0 }])
}
