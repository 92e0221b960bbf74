//! 1 GiB through `docker save`, `load` and `logs` on one real node, in turns: the manager against the same call straight
//! to the engine, and against a well-known proxy on the same way. The way through the manager is encrypted twice and
//! crosses two processes, which here share their cores with the engine and the client; HAProxy shows what that costs by
//! itself.

use crate::{
    MANAGER, Row,
    lab::{self, MASTER},
    quantile,
};
use anyhow::{Result, ensure};
use osier_e2e::{Cluster, tour::IMAGE};

/// How many times each is measured.
const TURNS: usize = 3;
/// How much is streamed.
const BYTES: u64 = 1 << 30;
/// The docker command line over two encrypted hops of HAProxy.
const HAPROXY: &str = "env DOCKER_HOST=tcp://127.0.0.1:2501 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/etc/osier/pki docker";
/// The hops: with TLS and client certificates on both, as between client, manager and agent.
const HOPS: &str = "defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend outer
  bind 127.0.0.1:2501 ssl crt /root/pair.pem ca-file /etc/osier/pki/ca.pem verify required
  default_backend inner
backend inner
  server hop 127.0.0.1:2502 ssl crt /root/pair.pem ca-file /etc/osier/pki/ca.pem verify required verifyhost localhost
frontend engine
  bind 127.0.0.1:2502 ssl crt /root/pair.pem ca-file /etc/osier/pki/ca.pem verify required
  default_backend dockerd
backend dockerd
  server engine unix@/var/run/docker.sock
";

pub(crate) fn measure() -> Result<Vec<Row>> {
    let cluster = lab::cluster(1)?;
    let prepare = format!(
        "set -e; cd /root; head -c {BYTES} /dev/urandom > blob; tar -c blob | docker import - bench/blob; rm blob; \
         docker save bench/blob > blob.tar; \
         docker run --name bench-logs --network none {IMAGE} sh -c 'yes $(printf %01000d 0) | head -c {BYTES}' > /dev/null"
    );
    cluster.on(MASTER, &prepare)?;
    lab::install(&cluster, MASTER, "haproxy")?;
    let hops = format!(
        "set -e; systemctl stop haproxy; \
         umask 077; cat /etc/osier/pki/cert.pem /etc/osier/pki/key.pem > /root/pair.pem; \
         printf %s '{HOPS}' > /root/hops.cfg; haproxy -D -f /root/hops.cfg; {HAPROXY} version"
    );
    cluster.on(MASTER, &hops)?;
    let mut rows = Vec::new();
    for (arguments, what) in [
        ("save bench/blob", "docker save of 1 GiB, its rate over the engine's own"),
        ("load -i /root/blob.tar", "docker load of 1 GiB, its rate over the engine's own"),
        ("logs bench-logs", "docker logs of 1 GiB, their rate over the engine's own"),
    ] {
        let [direct, proxied, through] = times(&cluster, arguments)?.map(|mut times| quantile(&mut times, 0.5));
        let mut row = |what, ratio: f64, promise, least| {
            rows.push(Row { what, result: format!("{ratio:.2} ×"), promise, holds: ratio >= least });
        };
        row(what, direct / through, "≥ 0.8 ×", 0.8);
        row("the same, over two hops of HAProxy", proxied / through, "≥ 1 ×", 1.0);
    }
    Ok(rows)
}

/// What a command takes directly, through HAProxy and through the manager, in nanoseconds.
fn times(cluster: &Cluster, arguments: &str) -> Result<[Vec<f64>; 3]> {
    let script = format!(
        "set -e; now() {{ date +%s%N; }}; for i in $(seq {TURNS}); do a=$(now); docker {arguments} > /dev/null; b=$(now); \
         {HAPROXY} {arguments} > /dev/null; c=$(now); {MANAGER} {arguments} > /dev/null; d=$(now); \
         echo $((b-a)) $((c-b)) $((d-c)); done"
    );
    let measured = cluster.on(MASTER, &script)?;
    let mut times: [Vec<f64>; 3] = Default::default();
    for line in measured.lines() {
        let turn: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        ensure!(turn.len() == times.len(), "'{line}' is not three times");
        times.iter_mut().zip(turn).for_each(|(list, time)| list.push(time));
    }
    Ok(times)
}
