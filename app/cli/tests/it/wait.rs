//! Waiting for what other programs do: until a condition holds, or else with a word about what was there instead.

use std::{
    fmt::Debug,
    process::{Child, Command, ExitStatus},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How long a condition may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked at; the programs that are looked at tell nobody.
const LOOK: Duration = Duration::from_millis(20);

/// Whether something holds, and if not, what was seen.
pub(crate) trait Condition {
    fn unmet(self) -> Option<String>;
}

impl Condition for bool {
    fn unmet(self) -> Option<String> {
        (!self).then(|| "it does not hold".to_owned())
    }
}

impl<E: Debug> Condition for Result<(), E> {
    fn unmet(self) -> Option<String> {
        self.err().map(|seen| format!("{seen:?}"))
    }
}

/// Whether what is seen is what is wanted.
pub(crate) fn equal<A: PartialEq<B> + Debug, B: Debug>(seen: A, wanted: B) -> Result<(), String> {
    if seen == wanted { Ok(()) } else { Err(format!("{seen:?} and not {wanted:?}")) }
}

/// Waits until a condition holds.
pub(crate) async fn until<C: Condition>(what: &str, mut condition: impl AsyncFnMut() -> C) {
    let start = Instant::now();
    let mut looks = tokio::time::interval(LOOK);
    while let Some(seen) = condition().await.unmet() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}: {seen}");
        looks.tick().await;
    }
}

/// As [`until`], where nothing else goes on.
pub(crate) fn poll<C: Condition>(what: &str, mut condition: impl FnMut() -> C) {
    let start = Instant::now();
    while let Some(seen) = condition().unmet() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}: {seen}");
        thread::sleep(LOOK);
    }
}

/// Waits for the end of a program; one that goes on is killed, and there is nothing to tell of it.
pub(crate) fn end(process: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let pid = process.id().to_string();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || tell.send(process.wait()));
        let ended = told.recv_timeout(limit);
        if ended.is_err() {
            let _ = Command::new("kill").args(["-s", "KILL", &pid]).status();
        }
        ended.ok().map(Result::unwrap)
    })
}
