//! The cluster's certificates: a CA on the operator's machine, one certificate per node, one per client, the mutual-TLS
//! configurations made of them, and other statements that the CA signs.
//!
//! Must not know which port or protocol the TLS is for. Keys are ECDSA P-256 (what Go's and Python's TLS take without
//! asking), PKCS #8 in PEM; every certificate may act as server and client, because agents and managers are both.

mod issue;
mod load;
mod seal;
mod unverified;

pub use issue::{Authority, Issued, Subject, days_left, serial};
pub use load::Identity;
pub use seal::Verifier;
pub use unverified::{KeyPair, public_client};

/// Making, reading or using a certificate failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct Error {
    doing: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Error {
    pub(crate) fn new<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        doing: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self { doing: doing.into(), source: source.into() }
    }
}
