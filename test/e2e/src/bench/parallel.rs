//! 200 `docker run` of a short container at once over three nodes, against the same on one engine.
//!
//! The lab's nodes share the machine's cores, so three engines are not faster than one here; what is measured is that
//! scheduling, reservations and the manager's streams do not get in the way.

use crate::{
    MANAGER, Row,
    lab::{self, MASTER},
    quantile,
};
use anyhow::{Context, Result, ensure};
use osier_e2e::{Cluster, tour::IMAGE};

const RUNS: usize = 200;
/// How many times each is done.
const TURNS: usize = 2;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let cluster = lab::cluster(3)?;
    let (mut one, mut three) = (Burst::default(), Burst::default());
    for _ in 0..TURNS {
        one.run(&cluster, "docker run --rm --network osier")?;
        three.run(&cluster, &format!("{MANAGER} run --rm"))?;
    }
    let row = |what, one: &mut Vec<f64>, three: &mut Vec<f64>, part| {
        let ratio = quantile(three, part) / quantile(one, part);
        Row { what, result: format!("{ratio:.2} × one engine"), promise: "≤ 1.1 ×", holds: ratio <= 1.1 }
    };
    Ok(vec![
        row("200 docker run at once over 3 engines, total", &mut one.totals, &mut three.totals, 0.5),
        row("200 docker run at once over 3 engines, p99 of one", &mut one.singles, &mut three.singles, 0.99),
    ])
}

/// What the bursts took, in nanoseconds.
#[derive(Default)]
struct Burst {
    totals: Vec<f64>,
    singles: Vec<f64>,
}

impl Burst {
    fn run(&mut self, cluster: &Cluster, docker_run: &str) -> Result<()> {
        let script = format!(
            "now() {{ date +%s%N; }}; s=$(now); for i in $(seq {RUNS}); do \
             (a=$(now); {docker_run} {IMAGE} true >/dev/null && echo $(($(now)-a))) & done; wait; echo total $(($(now)-s))"
        );
        let measured = cluster.on(MASTER, &script)?;
        let mut done = 0;
        for line in measured.lines() {
            let (list, time) = match line.strip_prefix("total ") {
                Some(time) => (&mut self.totals, time),
                None => (&mut self.singles, line),
            };
            list.push(time.parse().with_context(|| format!("'{line}' is not a time"))?);
            done += 1;
        }
        ensure!(done == RUNS + 1, "{} of {RUNS} runs succeeded", done.max(1) - 1);
        Ok(())
    }
}
