//! Hosts in batches, one after another, as Ansible's `serial` makes them.
//!
//! Must not know the hosts: a batch is a range of their places.

use std::{ops::Range, str::FromStr};

/// The sizes of batches: numbers of hosts or shares of all, one after another; the last one holds for the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serial(Vec<Size>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Hosts(usize),
    Percent(u8),
}

/// A text is no list of sizes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither a number of hosts (from 1) nor a share of them (1% to 100%)")]
pub struct SerialError(String);

impl FromStr for Serial {
    type Err = SerialError;

    /// Reads `3`, `30%`, or several with commas between them: `1,5,50%`.
    fn from_str(text: &str) -> Result<Self, SerialError> {
        let size = |word: &str| {
            let word = word.trim();
            let read = match word.strip_suffix('%') {
                Some(share) => share.trim_end().parse().ok().filter(|p| (1..=100).contains(p)).map(Size::Percent),
                None => word.parse().ok().filter(|n| *n > 0).map(Size::Hosts),
            };
            read.ok_or_else(|| SerialError(word.to_owned()))
        };
        text.split(',').map(size).collect::<Result<_, _>>().map(Self)
    }
}

impl Serial {
    /// The places of `hosts` hosts in batches. A share is rounded down, but never to nobody.
    pub fn batches(&self, hosts: usize) -> Vec<Range<usize>> {
        let (mut batches, mut start) = (Vec::new(), 0);
        let mut sizes = self.0.iter();
        let mut size = hosts;
        while start < hosts {
            size = sizes.next().map_or(size, |size| match size {
                Size::Hosts(n) => *n,
                Size::Percent(share) => (hosts * usize::from(*share) / 100).max(1),
            });
            let end = start.saturating_add(size).min(hosts);
            batches.push(start..end);
            start = end;
        }
        batches
    }
}

/// The places of `hosts` hosts in the batches that are wished for; without a wish, in one.
pub fn batches(serial: Option<&Serial>, hosts: usize) -> Vec<Range<usize>> {
    serial.map_or_else(|| std::iter::once(0..hosts).collect(), |serial| serial.batches(hosts))
}

/// Whether the next batch is worked on after one of which so many hosts failed: not where all did.
pub fn goes_on(batch: usize, failed: usize) -> bool {
    failed < batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sizes(serial: &str, hosts: usize) -> Vec<usize> {
        serial.parse::<Serial>().unwrap().batches(hosts).into_iter().map(|b| b.len()).collect()
    }

    #[test]
    fn batches_are_as_ansible_makes_them() {
        assert_eq!(sizes("2", 5), [2, 2, 1]);
        assert_eq!(sizes("30%", 10), [3, 3, 3, 1]);
        assert_eq!(sizes("30%", 2), [1, 1], "never nobody");
        assert_eq!(sizes("1,5,10", 20), [1, 5, 10, 4]);
        assert_eq!(sizes("1, 50%", 5), [1, 2, 2]);
        assert_eq!(sizes("100", 3), [3]);
        assert_eq!(sizes("1", 0), [0_usize; 0]);
    }

    #[test]
    fn what_is_no_size_is_refused_with_its_word() {
        for (text, word) in
            [("0", "0"), ("0%", "0%"), ("101%", "101%"), ("-1", "-1"), ("1,,2", ""), ("x", "x"), ("1,y", "y")]
        {
            assert_eq!(text.parse::<Serial>(), Err(SerialError(word.into())), "{text}");
        }
    }

    #[test]
    fn only_a_batch_that_failed_wholly_stops_the_run() {
        assert_eq!([goes_on(2, 0), goes_on(2, 1), goes_on(2, 2), goes_on(1, 1)], [true, true, false, false]);
    }

    proptest! {
        #[test]
        fn every_host_is_in_one_batch(sizes in prop::collection::vec("[1-9][0-9]{0,2}|[1-9][0-9]?%", 1..4), hosts in 0_usize..300) {
            let batches = sizes.join(",").parse::<Serial>().unwrap().batches(hosts);
            let places: Vec<usize> = batches.iter().cloned().flatten().collect();
            prop_assert_eq!(places, (0..hosts).collect::<Vec<_>>());
            prop_assert!(batches.iter().all(|b| !b.is_empty()));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = text.parse::<Serial>().map(|s| s.batches(7));
        }
    }
}
