//! One established control connection: questions and answers in both directions, and signs of life.
//!
//! Must not know who dialled or how the peer proved who it is.

use crate::{
    core::Core,
    frame::{self, Frame, Kind},
};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

/// After this long without anything sent, a sign of life is, in clusters of few nodes.
const BEAT: Duration = Duration::from_secs(5);
/// What a node's signs of life leave between each other at least, over all its connections: a tenth of a second, which is
/// about 1 kB/s with all headers.
const BETWEEN: Duration = Duration::from_millis(100);
/// So many signs of life may be missed, and a little more, before a connection is given up.
const MISSED: u32 = 3;
/// The little more.
const GRACE: Duration = Duration::from_secs(1);
/// How long one frame may take to be written.
const WRITE: Duration = Duration::from_secs(10);
/// How many questions of one peer are worked on at a time; a peer that asks more is cut off.
const MOST_QUESTIONS: usize = 256;
/// How many frames wait to be written.
const QUEUE: usize = 64;

/// The sending side, shared by everybody who asks the peer something.
pub(crate) struct Connection {
    outgoing: mpsc::Sender<Frame>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>,
    next: AtomicU64,
    closed: Notify,
}

/// The connection ended before the answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection ended")]
pub(crate) struct Ended;

/// Answers the peer's questions.
pub(crate) trait Answer: Clone + Send + Sync + 'static {
    fn answer(&self, kind: Kind, question: Vec<u8>) -> impl Future<Output = Vec<u8>> + Send;
}

impl Connection {
    /// The connection and the queue that [`run`] writes from.
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<Frame>) {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let (next, closed) = (AtomicU64::new(1), Notify::new());
        (Arc::new(Self { outgoing, waiting: Mutex::default(), next, closed }), queue)
    }

    /// Asks the peer and waits for its answer, for ever if need be.
    pub(crate) async fn ask(&self, kind: Kind, payload: Vec<u8>) -> Result<Vec<u8>, Ended> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, answer);
        let _forget = Forget(self, id);
        self.outgoing.send(Frame { kind, id, payload }).await.map_err(|_| Ended)?;
        answered.await.map_err(|_| Ended)
    }

    pub(crate) fn close(&self) {
        self.closed.notify_one();
    }

    fn answered(&self, id: u64, payload: Vec<u8>) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(waiting) = waiting {
            // Whoever asked may have given up.
            let _ = waiting.send(payload);
        }
    }
}

/// Drops the place of an answer that nobody waits for any more.
struct Forget<'a>(&'a Connection, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// Runs a connection until it ends, and says why it did.
pub(crate) async fn run(
    stream: impl AsyncRead + AsyncWrite + Send,
    connection: Arc<Connection>,
    queue: mpsc::Receiver<Frame>,
    core: Arc<Core>,
    answerer: impl Answer,
) -> String {
    let (reader, writer) = tokio::io::split(stream);
    let beat = beat(core.others.len());
    let error = tokio::select! {
        error = read(reader, &connection, answerer, silence(beat)) => error,
        error = write(writer, queue, &core, beat) => error,
        () = connection.closed.notified() => "a newer connection took its place".into(),
    };
    connection.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    error
}

/// After how long without anything sent a sign of life is, with so many other nodes.
fn beat(others: usize) -> Duration {
    BEAT.max(BETWEEN * u32::try_from(others).unwrap_or(u32::MAX))
}

/// After how long without anything received a connection is given up.
fn silence(beat: Duration) -> Duration {
    beat * MISSED + GRACE
}

async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Frame>,
    core: &Core,
    beat: Duration,
) -> String {
    loop {
        let frame = match timeout(beat, queue.recv()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return "closed by this node".into(),
            Err(_) => Frame { kind: Kind::Beat, id: 0, payload: Vec::new() },
        };
        match timeout(WRITE, frame::write(&mut writer, &frame)).await {
            Ok(Ok(())) => core.count_frame(frame.size()),
            Ok(Err(error)) => return format!("cannot send: {error}"),
            Err(_) => return format!("cannot send within {WRITE:?}"),
        }
    }
}

async fn read(
    mut reader: impl AsyncRead + Unpin,
    connection: &Arc<Connection>,
    answerer: impl Answer,
    silence: Duration,
) -> String {
    let mut answers = JoinSet::new();
    loop {
        let frame = match timeout(silence, frame::read(&mut reader)).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return "closed by the peer".into(),
            Ok(Err(error)) => return format!("cannot receive: {error}"),
            Err(_) => return format!("nothing was heard for {silence:?}"),
        };
        while answers.try_join_next().is_some() {}
        match frame.kind {
            Kind::Hello | Kind::Beat => {}
            Kind::Reply => connection.answered(frame.id, frame.payload),
            Kind::Call | Kind::Sync if answers.len() >= MOST_QUESTIONS => {
                return "the peer asks too much at once".into();
            }
            Kind::Call | Kind::Sync => {
                let (answerer, outgoing) = (answerer.clone(), connection.outgoing.clone());
                answers.spawn(async move {
                    let payload = answerer.answer(frame.kind, frame.payload).await;
                    // The connection may have ended meanwhile.
                    let _ = outgoing.send(Frame { kind: Kind::Reply, id: frame.id, payload }).await;
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_become_rarer_as_nodes_become_more() {
        let seconds = |others| (beat(others).as_secs(), silence(beat(others)).as_secs());
        assert_eq!((seconds(2), seconds(50), seconds(199)), ((5, 16), (5, 16), (19, 60)));
        assert_eq!(seconds(999), (99, 300));
    }
}
