//! How a range is cut into chunks: arithmetic only, no ownership.

use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

/// The most chunks a range is cut into.
const MOST_CHUNKS: u64 = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    range: Ipv4Net,
    /// Addresses in each chunk, a power of two.
    chunk: u64,
    chunks: u32,
}

impl Layout {
    pub(crate) fn new(range: Ipv4Net) -> Self {
        let size = 1_u64 << (32 - u32::from(range.prefix_len()));
        let chunks = size.min(MOST_CHUNKS);
        Self { range: range.trunc(), chunk: size / chunks, chunks: chunks as u32 }
    }

    pub(crate) fn range(&self) -> Ipv4Net {
        self.range
    }

    pub(crate) fn chunks(&self) -> u32 {
        self.chunks
    }

    /// The chunk that `address` lies in, if it lies in the range at all.
    pub(crate) fn chunk_of(&self, address: Ipv4Addr) -> Option<u32> {
        let offset = u32::from(address).checked_sub(u32::from(self.range.network()))?;
        self.range.contains(&address).then_some((u64::from(offset) / self.chunk) as u32)
    }

    /// First and last address of `count` chunks from `first` on, which must lie in the range.
    pub(crate) fn bounds(&self, first: u32, count: u32) -> RangeInclusive<Ipv4Addr> {
        let base = u64::from(u32::from(self.range.network()));
        let low = base + u64::from(first) * self.chunk;
        let high = low + u64::from(count) * self.chunk - 1;
        Ipv4Addr::from(low as u32)..=Ipv4Addr::from(high as u32)
    }

    /// All addresses of a chunk, in order.
    pub(crate) fn addresses(&self, chunk: u32) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let bounds = self.bounds(chunk, 1);
        (u32::from(*bounds.start())..=u32::from(*bounds.end())).map(Ipv4Addr::from)
    }

    /// Whether this is the range's network or broadcast address.
    pub(crate) fn is_edge(&self, address: Ipv4Addr) -> bool {
        address == self.range.network() || address == self.range.broadcast()
    }

    /// How many addresses a chunk has, network and broadcast addresses not counted.
    pub(crate) fn capacity(&self, chunk: u32) -> u64 {
        let bounds = self.bounds(chunk, 1);
        let edges = [self.range.network(), self.range.broadcast()];
        let distinct = if edges[0] == edges[1] { &edges[..1] } else { &edges[..] };
        self.chunk - distinct.iter().filter(|edge| bounds.contains(*edge)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(range: &str) -> Layout {
        Layout::new(range.parse().unwrap())
    }

    #[test]
    fn small_ranges_have_chunks_of_one_and_large_ones_1024_chunks() {
        for (range, chunks, size) in
            [("10.1.1.0/24", 256, 1), ("10.1.0.0/22", 1024, 1), ("10.1.0.0/16", 1024, 64), ("0.0.0.0/0", 1024, 1 << 22)]
        {
            let layout = layout(range);
            assert_eq!((layout.chunks, layout.chunk), (chunks, size), "{range}");
        }
    }

    #[test]
    fn every_address_lies_in_the_chunk_that_lists_it() {
        let layout = layout("10.1.8.0/20");
        let all: Vec<_> = (0..layout.chunks()).flat_map(|c| layout.addresses(c).map(move |a| (a, c))).collect();
        assert_eq!(all.len(), 4096);
        assert!(all.iter().all(|(address, chunk)| layout.chunk_of(*address) == Some(*chunk)));
        assert_eq!(layout.chunk_of([10, 1, 24, 0].into()), None);
        assert_eq!(layout.chunk_of([10, 0, 255, 255].into()), None);
    }

    #[test]
    fn edges_do_not_count_as_capacity() {
        let total = |range: &str| {
            let layout = layout(range);
            (0..layout.chunks()).map(|c| layout.capacity(c)).sum::<u64>()
        };
        assert_eq!(
            (total("10.1.1.0/24"), total("10.0.0.0/8"), total("10.0.0.0/31"), total("10.0.0.1/32")),
            (254, (1 << 24) - 2, 0, 0)
        );
    }
}
