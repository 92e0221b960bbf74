//! The public keys that sign a source of packages, as the text that apt takes.
//!
//! Must not know where the file lies on a host, nor whether the keys are good: apt verifies with them. A binary file becomes
//! ASCII armor (RFC 9580, section 6), for that is what goes through JSON.

use base64::{Engine as _, engine::general_purpose::STANDARD};

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";
/// Characters in a line of armor.
const WIDTH: usize = 64;

/// Why a file holds no public keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// Something else.
    #[error("it holds no OpenPGP public key, neither armored nor binary")]
    Other,
    /// A secret key, which has no business on hosts.
    #[error("it holds a secret key; 'gpg --export KEY' writes the public one")]
    Secret,
}

/// The keys of a file as armored text.
pub(crate) fn armored(file: &[u8]) -> Result<String, KeyError> {
    let text = std::str::from_utf8(file).unwrap_or_default();
    if text.contains("-----BEGIN PGP PRIVATE KEY") {
        return Err(KeyError::Secret);
    }
    if let Some(at) = text.find(BEGIN) {
        return if text[at..].contains(END) { Ok(text.replace("\r\n", "\n")) } else { Err(KeyError::Other) };
    }
    // The first byte of a packet names its kind: 6 is a public key, 5 a secret one.
    match file.first() {
        Some(0x98..=0x9b | 0xc6) => Ok(armor(file)),
        Some(0x94..=0x97 | 0xc5) => Err(KeyError::Secret),
        _ => Err(KeyError::Other),
    }
}

fn armor(bytes: &[u8]) -> String {
    let data = STANDARD.encode(bytes);
    let sum = STANDARD.encode(&crc24(bytes).to_be_bytes()[1..]);
    let mut text = format!("{BEGIN}\n\n");
    let mut rest = data.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(WIDTH));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text + &format!("={sum}\n{END}\n")
}

/// The checksum of armor (RFC 9580, section 6.1.1).
fn crc24(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x00b7_04ce, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 16, |crc, _| {
            let shifted = crc << 1;
            (if shifted & 0x0100_0000 == 0 { shifted } else { shifted ^ 0x0186_4cfb }) & 0x00ff_ffff
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_told_from_all_else() {
        // The check value of CRC-24/OPENPGP.
        assert_eq!(crc24(b"123456789"), 0x0021_cf02);
        let armored_key = format!("{BEGIN}\r\n\r\nmA==\r\n{END}\r\n");
        assert_eq!(armored(armored_key.as_bytes()).unwrap(), format!("{BEGIN}\n\nmA==\n{END}\n"));
        let binary = [&[0x99][..], &[7; 99]].concat();
        let text = armored(&binary).unwrap();
        let body: String = text.lines().skip(2).take_while(|l| !l.starts_with('=')).collect();
        assert_eq!(STANDARD.decode(body).unwrap(), binary);
        assert!(text.lines().all(|l| l.len() <= WIDTH) && text.ends_with(&format!("{END}\n")));
        for other in [&b"deb http://x"[..], b"", BEGIN.as_bytes(), &[0x1f, 0x8b]] {
            assert_eq!(armored(other), Err(KeyError::Other));
        }
        assert_eq!(armored(&[0x95, 1]), Err(KeyError::Secret));
        assert_eq!(armored(b"-----BEGIN PGP PRIVATE KEY BLOCK-----"), Err(KeyError::Secret));
    }

    proptest! {
        #[test]
        fn any_file_is_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = armored(&bytes);
        }
    }
}
