//! The loop that gives the mesh datagrams and time.

use crate::core::Core;
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, sleep_until};
use tracing::warn;

/// Datagrams longer than this are not ours; what exceeds the buffer is cut off and does not open.
const BUFFER: usize = 2048;
/// How many datagrams are taken before anything is sent.
const BATCH: usize = 64;
/// The pause after an error of the socket, so that a lasting one does not fill the log.
const PAUSE: Duration = Duration::from_millis(200);

/// Runs until it is dropped.
pub(crate) async fn run(core: Arc<Core>) {
    let mut buffer = [0; BUFFER];
    loop {
        let timeout = async {
            match core.next_timeout() {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = core.socket.readable() => {}
            () = timeout => {}
            () = core.wake.notified() => {}
        }
        // The socket first: after a pause of this process, answers that have arrived must not count as missing.
        let mut drained = false;
        for _ in 0..BATCH {
            match core.socket.try_recv_from(&mut buffer) {
                Ok((length, source)) => core.receive(source, &buffer[..length]),
                Err(error) => {
                    drained = true;
                    if error.kind() != std::io::ErrorKind::WouldBlock {
                        warn!(%error, "cannot receive datagrams");
                        sleep(PAUSE).await;
                    }
                    break;
                }
            }
        }
        if drained {
            core.tick();
        }
        core.flush();
    }
}
