//! `GET /containers/json?all=1` over 1,000 fake engines with 30 containers each. The baseline is the same number of bytes
//! from a server that has them ready.

use crate::{
    Row,
    fakes::{self, ENGINES, Manager, get},
    quantile,
};
use anyhow::Result;
use osier_engine::{
    Body, Hijacker, full,
    server::{Handler, Listener, serve},
};
use std::{future::pending, net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;

/// How many times the list is fetched; p99 of fewer says nothing.
const FETCHES: usize = 200;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let runtime = fakes::runtime()?;
    let manager = Manager::start(&runtime.block_on(fakes::engines(ENGINES))?)?;
    let (body, _, _) = manager.get("/containers/json?all=1")?;
    let baseline = runtime.block_on(ready_made(body))?;

    let (mut whole, mut first, mut plain, mut limited) = (vec![], vec![], vec![], vec![]);
    for _ in 0..FETCHES {
        let (_, first_byte, end) = manager.get("/containers/json?all=1")?;
        whole.push(end.as_secs_f64());
        first.push(first_byte.as_secs_f64());
        plain.push(get(baseline, "/")?.2.as_secs_f64());
        limited.push(manager.get("/containers/json?all=1&limit=100")?.2.as_secs_f64());
    }
    let rss = manager.resident_mib()?;
    let (p99, first, limited) = (quantile(&mut whole, 0.99), quantile(&mut first, 0.99), quantile(&mut limited, 0.99));
    let ratio = quantile(&mut whole, 0.5) / quantile(&mut plain, 0.5);
    let row = |what, result, promise, holds| Row { what, result, promise, holds };
    Ok(vec![
        row(
            "30,000 rows of 1,000 engines, to the last byte",
            format!("p99 {:.0} ms, {ratio:.1} × ready-made", p99 * 1e3),
            "p99 ≤ 150 ms",
            p99 <= 0.150,
        ),
        row("30,000 rows, first byte", format!("p99 {:.1} ms", first * 1e3), "≤ 10 ms", first <= 0.010),
        row("30,000 rows, limit=100", format!("p99 {:.1} ms", limited * 1e3), "≤ 5 ms", limited <= 0.005),
        row("manager with 1,000 engines, resident", format!("{rss} MiB"), "≤ 300 MB", rss * 1048576 <= 300_000_000),
    ])
}

struct ReadyMade(Vec<u8>);

impl Handler for ReadyMade {
    async fn handle(&self, _: http::Request<Body>, _: Hijacker) -> http::Response<Body> {
        http::Response::new(full(self.0.clone()))
    }
}

async fn ready_made(body: Vec<u8>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(Listener::Tcp(listener), Arc::new(ReadyMade(body)), pending()));
    Ok(address)
}
