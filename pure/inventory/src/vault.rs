//! What is encrypted with ansible-vault: its envelope, and what its passwords open.
//!
//! Must not know where passwords come from, nor print one. Format: Ansible's `VaultAES256`, versions 1.1 and 1.2 ("Encrypting
//! content with Ansible Vault", "Ansible Vault payload format 1.1 - 1.2"). The label of 1.2 only says which password to try
//! first, so all are tried.

use aes::Aes256;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What everything that is encrypted begins with.
const MARK: &str = "$ANSIBLE_VAULT";
/// How often a password is hashed into keys.
const ROUNDS: u32 = 10_000;
/// A key for the cipher, one for the authentication code, and the counter's first value, in bytes.
const KEYS: usize = 32 + 32 + BLOCK;
/// A block of the cipher, in bytes.
const BLOCK: usize = 16;

/// Whether this text, a file's or a value's, is encrypted with ansible-vault.
pub fn is_encrypted(text: &str) -> bool {
    text.starts_with(MARK)
}

/// Why something encrypted cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// No password was given.
    #[error(
        "it is encrypted with ansible-vault; '--vault-password-file FILE' or '--ask-vault-password' gives the password"
    )]
    NoPassword,
    /// Every password given is another's, or what is encrypted was altered.
    #[error("it is encrypted with ansible-vault, and no password that was given opens it")]
    WrongPassword,
    /// It is none of ansible-vault's envelopes.
    #[error("it is not what ansible-vault writes: {0}")]
    Malformed(&'static str),
}

/// Passwords of ansible-vault. Clones share what was opened already, because it takes a while.
#[derive(Clone, Default)]
pub struct Vault {
    passwords: Arc<[Vec<u8>]>,
    opened: Arc<Mutex<BTreeMap<String, String>>>,
    /// The paths of files that were encrypted as a whole.
    files: Arc<Mutex<BTreeSet<String>>>,
}

impl Vault {
    /// Opens what any of these passwords opens.
    pub fn new(passwords: Vec<Vec<u8>>) -> Self {
        Self { passwords: passwords.into(), ..Self::default() }
    }

    /// The text of a whole file that is encrypted; what it says is not shown from now on.
    pub fn open_file(&self, path: &str, envelope: &str) -> Result<String, VaultError> {
        let text = self.open(envelope)?;
        locked(&self.files).insert(path.to_owned());
        Ok(text)
    }

    /// Whether the file at this path was encrypted as a whole.
    pub(crate) fn is_of(&self, path: &str) -> bool {
        locked(&self.files).contains(path)
    }

    /// The text that is encrypted in `envelope`, a whole file or a value.
    pub fn open(&self, envelope: &str) -> Result<String, VaultError> {
        if let Some(text) = locked(&self.opened).get(envelope) {
            return Ok(text.clone());
        }
        let sealed = Sealed::parse(envelope)?;
        if self.passwords.is_empty() {
            return Err(VaultError::NoPassword);
        }
        let bytes = self.passwords.iter().find_map(|p| sealed.open(p)).ok_or(VaultError::WrongPassword)?;
        let text = String::from_utf8(unpadded(bytes)?).map_err(|_| VaultError::Malformed("its text is not UTF-8"))?;
        locked(&self.opened).insert(envelope.to_owned(), text.clone());
        Ok(text)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({} passwords)", self.passwords.len())
    }
}

impl PartialEq for Vault {
    fn eq(&self, other: &Self) -> bool {
        self.passwords == other.passwords
    }
}

/// The parts of an envelope.
struct Sealed {
    salt: Vec<u8>,
    code: Vec<u8>,
    bytes: Vec<u8>,
}

impl Sealed {
    /// `$ANSIBLE_VAULT;VERSION;AES256[;LABEL]`, then in hexadecimal, over lines of any length, the three parts: each in
    /// hexadecimal again, a line each.
    fn parse(envelope: &str) -> Result<Self, VaultError> {
        let (header, body) = envelope.split_once('\n').ok_or(VaultError::Malformed("it has one line only"))?;
        let mut words = header.trim_end().split(';');
        if words.next() != Some(MARK) || !matches!(words.next(), Some("1.1" | "1.2")) {
            return Err(VaultError::Malformed("its first line names no version that is known (1.1, 1.2)"));
        }
        if words.next() != Some("AES256") {
            return Err(VaultError::Malformed("its cipher is not AES256"));
        }
        let hex = VaultError::Malformed("what follows its first line is not hexadecimal");
        let body: String = body.split_whitespace().collect();
        let text = from_hex(body.as_bytes()).ok_or(hex.clone())?;
        let mut parts = text.splitn(3, |&b| b == b'\n').map(from_hex);
        let mut part = || parts.next().flatten().ok_or(hex.clone());
        Ok(Self { salt: part()?, code: part()?, bytes: part()? })
    }

    /// What is inside, still padded, if this is the password.
    fn open(&self, password: &[u8]) -> Option<Vec<u8>> {
        let mut keys = [0; KEYS];
        pbkdf2::pbkdf2_hmac::<Sha256>(password, &self.salt, ROUNDS, &mut keys);
        let (cipher, rest) = keys.split_at(32);
        let (authentication, counter) = rest.split_at(32);
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(authentication).ok()?;
        mac.update(&self.bytes);
        mac.verify_slice(&self.code).ok()?;
        let mut bytes = self.bytes.clone();
        ctr::Ctr128BE::<Aes256>::new_from_slices(cipher, counter).ok()?.apply_keystream(&mut bytes);
        Some(bytes)
    }
}

/// Takes the padding of PKCS #7 off (RFC 5652, 6.3).
fn unpadded(mut bytes: Vec<u8>) -> Result<Vec<u8>, VaultError> {
    let padding = bytes.last().map_or(0, |&last| usize::from(last));
    let length = bytes.len().checked_sub(padding).filter(|_| (1..=BLOCK).contains(&padding));
    bytes.truncate(length.ok_or(VaultError::Malformed("its text is not padded"))?);
    Ok(bytes)
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Made by ansible-vault 2.19 with the password `correct horse`.
    pub(crate) const VALUE: &str = "$ANSIBLE_VAULT;1.1;AES256\n\
        32316339356530383730386234303262356466666535333662366566623363636266386637313164\n\
        3334623532323239373161303166643366626565323465380a323434356238663731643335643333\n\
        37653930636531323139396566363964393030323632366238386539313037383236323133643361\n\
        6236633732643739340a643236393465633761376564356532386530353833396365663231656130\n\
        32343530383264323166636636613162333735373561393630373937643437653336\n";
    const FILE: &str = "$ANSIBLE_VAULT;1.2;AES256;lab\n\
        31646332316330386566656530323562616438366335656136386665643932643365613034306666\n\
        6635363561306333336461656132356561383439363966640a376362396336653631373435373032\n\
        61383564323264323663613439373337333764343432386132396161653738653438333733663235\n\
        6636303331306133620a393938333264653337376634623261663338353631613134613861353961\n\
        61313138366664343332376638373838363935343965303037646365663263663239316638666566\n\
        3965306561626631353763353736623438336462376563313037\n";

    fn vault(passwords: &[&str]) -> Vault {
        Vault::new(passwords.iter().map(|p| p.as_bytes().to_vec()).collect())
    }

    #[test]
    fn what_ansible_encrypted_is_opened_by_its_password_alone() {
        let both = vault(&["other", "correct horse"]);
        assert_eq!(both.open(VALUE).unwrap(), "geheim {{ x }} ü");
        assert_eq!(both.open(&VALUE.replace('\n', "\r\n")).unwrap(), "geheim {{ x }} ü");
        assert_eq!(both.open(FILE).unwrap(), "a: 1\nansible_become_password: top\n");
        assert_eq!(vault(&["other"]).open(VALUE), Err(VaultError::WrongPassword));
        assert_eq!(vault(&[]).open(VALUE), Err(VaultError::NoPassword));
        let altered = VALUE.replace("7653336\n", "7653337\n");
        assert_eq!(both.open(&altered), Err(VaultError::WrongPassword));
        assert!(!format!("{both:?}").contains("horse"));
    }

    #[test]
    fn what_is_no_envelope_is_told_with_the_reason() {
        let why = |text: &str| vault(&["p"]).open(text).unwrap_err().to_string();
        assert!(why("$ANSIBLE_VAULT;1.1;AES256").contains("one line"));
        assert!(why("$ANSIBLE_VAULT;1.0;AES\n33\n").contains("version"));
        assert!(why("$ANSIBLE_VAULT;1.1;AES\n33\n").contains("cipher"));
        for body in ["", "3", "zz", "33", "330a33", "330a330a3"] {
            assert!(why(&format!("$ANSIBLE_VAULT;1.1;AES256\n{body}\n")).contains("hexadecimal"), "{body}");
        }
        assert_eq!(unpadded(vec![]).unwrap_err(), unpadded(vec![1, 17]).unwrap_err());
        assert_eq!((unpadded(vec![0]).is_err(), unpadded(vec![7, 1])), (true, Ok(vec![7])));
    }

    proptest! {
        #[test]
        fn any_text_is_taken(header in "(\\$ANSIBLE_VAULT;1\\.[12];AES256(;x)?\n)?", body in "([0-9a-f]{2}|0a|\n|.){0,90}") {
            let _ = vault(&["p"]).open(&format!("{header}{body}"));
        }
    }
}
