//! Lines that come from many sources at once, shown as one in the order of their times.
//!
//! Must not know where they come from. `osier-fleet` decides which is next; the clock is here.

use osier_fleet::Merger;
use std::time::Duration;
use tokio::{sync::mpsc, time::Instant};

/// How long a line waits for sources that are quiet, where they are followed.
const GRACE: Duration = Duration::from_millis(500);

/// Something that a source says.
#[derive(Debug)]
pub enum Said<T> {
    /// A line and its time, in any unit.
    Line(usize, i128, T),
    /// It has nothing more to say.
    End(usize),
}

/// Shows the lines of so many sources in the order of their times, until nobody can say anything more. Where they are followed,
/// one that is quiet holds up the others for half a second at most, and more may come.
pub async fn merged<T>(
    mut said: mpsc::Receiver<Said<T>>,
    sources: usize,
    follow: bool,
    mut show: impl FnMut(usize, T),
) {
    let start = Instant::now();
    let mut merger = if follow { Merger::following(sources, GRACE) } else { Merger::new(sources) };
    loop {
        while let Some((source, line)) = merger.pop(start.elapsed()) {
            show(source, line);
        }
        let timeout = merger.timeout().map(|t| start + t);
        let wait = async {
            match timeout {
                Some(timeout) => tokio::time::sleep_until(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            one = said.recv() => match one {
                Some(Said::Line(source, time, line)) => merger.push(source, time, line, start.elapsed()),
                Some(Said::End(source)) => merger.end(source),
                None => break,
            },
            () = wait => {}
        }
    }
    merger.end_all();
    while let Some((source, line)) = merger.pop(start.elapsed()) {
        show(source, line);
    }
}
