//! Whose output may be shown: host by host in their order, although they end in any.
//!
//! Must not know what the output is.

use std::ops::Range;

/// Sources that end in any order and are shown in theirs.
#[derive(Debug, Clone)]
pub struct Turns {
    ended: Vec<bool>,
    shown: usize,
}

impl Turns {
    /// So many sources, of which none has ended.
    pub fn new(sources: usize) -> Self {
        Self { ended: vec![false; sources], shown: 0 }
    }

    /// One has ended: all that can be shown now.
    pub fn end(&mut self, source: usize) -> Range<usize> {
        if let Some(ended) = self.ended.get_mut(source) {
            *ended = true;
        }
        let start = self.shown;
        self.shown += self.ended[start..].iter().take_while(|ended| **ended).count();
        start..self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_is_late_holds_up_those_behind() {
        let mut turns = Turns::new(3);
        assert_eq!([turns.end(2), turns.end(0), turns.end(1)], [0..0, 0..1, 1..3]);
    }

    proptest! {
        #[test]
        fn each_is_shown_once_and_in_order(order in Just((0..9_usize).collect::<Vec<_>>()).prop_shuffle()) {
            let mut turns = Turns::new(9);
            let shown: Vec<usize> = order.into_iter().flat_map(|source| turns.end(source)).collect();
            prop_assert_eq!(shown, (0..9).collect::<Vec<_>>());
        }
    }
}
