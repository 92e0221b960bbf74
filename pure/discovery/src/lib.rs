//! Where a cluster's engines are said to be: discovery URLs, entries with ranges, durations, and who stays when an entry
//! vanishes.
//!
//! Must not know how a list is fetched or how an engine is asked. The grammar is classic Swarm's, with its defects mended:
//! a range that runs backwards or names too many engines is an error, and so is a second range in one entry.

mod duration;
mod entry;
mod options;
mod roster;
mod url;

pub use duration::{GoDuration, ParseDurationError};
pub use entry::{Entry, EntryError, parse_file, parse_list};
pub use options::{KeyValues, NotKeyValue};
pub use roster::{Standing, reconcile};
pub use url::{DiscoveryUrl, EtcdUrl, Scheme, TokenService, TokenUrl, UrlError};
