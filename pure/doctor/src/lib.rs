//! What is wrong with the hosts of a cluster, and what to do about it: what was seen there becomes findings.
//!
//! Must not know how a host is asked, or how findings are shown.

mod findings;
mod redact;
mod seen;

pub use findings::{Finding, Level, diagnose};
pub use redact::redact;
pub use seen::{Seen, Service};
