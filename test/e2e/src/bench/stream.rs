//! 1 GiB through `docker save`, `load` and `logs`: the manager against the same call straight to the engine, on one real
//! node, in turns. The way through the manager is encrypted twice and crosses the proxy.

use crate::{MANAGER, Row, quantile};
use anyhow::{Context, Result};
use osier_e2e::{
    Cluster,
    tour::{IMAGE, load_image},
};

/// How many times each is measured.
const TURNS: usize = 3;
/// How much is streamed.
const BYTES: u64 = 1 << 30;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let cluster = Cluster::make(1, &[])?;
    cluster.osier(&["site", "-i", &cluster.inventory().display().to_string()])?;
    load_image(&cluster)?;
    let prepare = format!(
        "set -e; cd /root; head -c {BYTES} /dev/urandom > blob; tar -c blob | docker import - bench/blob; rm blob; \
         docker save bench/blob > blob.tar; \
         docker run --name bench-logs --network none {IMAGE} sh -c 'yes $(printf %01000d 0) | head -c {BYTES}' > /dev/null"
    );
    cluster.on("datalyse-master", &prepare)?;
    let compare = |what, arguments: &str| {
        let script = format!(
            "set -e; now() {{ date +%s%N; }}; for i in $(seq {TURNS}); do a=$(now); docker {arguments} > /dev/null; \
             b=$(now); {MANAGER} {arguments} > /dev/null; c=$(now); echo $((b-a)) $((c-b)); done"
        );
        let measured = cluster.on("datalyse-master", &script)?;
        let (mut direct, mut through) = (Vec::new(), Vec::new());
        for line in measured.lines() {
            let (a, b) = line.split_once(' ').with_context(|| format!("'{line}' is not two times"))?;
            direct.push(a.parse::<f64>()?);
            through.push(b.parse::<f64>()?);
        }
        let ratio = quantile(&mut direct, 0.5) / quantile(&mut through, 0.5);
        anyhow::Ok(Row { what, result: format!("{ratio:.2} of direct"), promise: "≥ 0.8", holds: ratio >= 0.8 })
    };
    Ok(vec![
        compare("1 GiB through docker save", "save bench/blob")?,
        compare("1 GiB through docker load", "load -i /root/blob.tar")?,
        compare("1 GiB through docker logs", "logs bench-logs")?,
    ])
}
