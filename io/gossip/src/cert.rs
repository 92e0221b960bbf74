//! Which member a certificate belongs to.
//!
//! Must not know how certificates are checked; that has happened when this is asked.

use osier_model::config::Member;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The member whose name is the certificate's common name.
pub(crate) fn member<'a>(chain: Option<&[CertificateDer<'_>]>, members: &'a [Member]) -> Result<&'a Member, String> {
    let leaf = chain.and_then(|chain| chain.first()).ok_or("it showed no certificate")?;
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| "its certificate cannot be read")?;
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or("");
    let member = members.iter().find(|member| member.name.as_str() == name);
    member.ok_or_else(|| format!("its certificate is for '{name}', which is not a member"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn random_certificates_are_nobodys(noise in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(member(Some(&[CertificateDer::from(noise)]), &[]).is_err());
        }
    }
}
