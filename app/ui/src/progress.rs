//! Progress of long work: a live line per item on a terminal, plain lines elsewhere.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// A group of items (hosts, steps) that report what they are doing.
pub struct Progress {
    live: Option<MultiProgress>,
    bars: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Progress {
    pub(crate) fn new(interactive: bool) -> Self {
        Self { live: interactive.then(MultiProgress::new), bars: Mutex::default() }
    }

    /// Says what `item` is doing now.
    pub fn doing(&self, item: &str, what: impl std::fmt::Display) {
        let Some(live) = &self.live else { return plain(item, &what) };
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bars.entry(item.to_owned()).or_insert_with(|| {
            let bar = live.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {wide_msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(item.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(what.to_string());
    }

    /// Ends `item` with its result, which stays on the screen.
    pub fn done(&self, item: &str, result: impl std::fmt::Display) {
        let Some(live) = &self.live else { return plain(item, &result) };
        let bar = self.bars.lock().unwrap_or_else(PoisonError::into_inner).remove(item);
        if let Some(bar) = bar {
            bar.finish_and_clear();
            live.remove(&bar);
        }
        let _ = live.println(format!("{item}: {result}"));
    }
}

fn plain(item: &str, what: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{item}: {what}");
}
