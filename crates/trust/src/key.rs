//! Ed25519 keys: the identity of a device, and the root of a server's capabilities.
//!
//! Invariant: a secret never appears in `Debug`, and is wiped when dropped. Seeds are arguments.

use std::fmt;
use std::str::FromStr;

use crucible_core::hash::{hex, unhex};
use crucible_core::id::DeviceId;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, spki::der::pem::LineEnding};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

/// Text that is no key.
#[derive(Debug, thiserror::Error)]
pub enum ParseKeyError {
    /// Not a PEM document with one PKCS#8 Ed25519 private key.
    #[error("this is not an Ed25519 private key in PEM")]
    Pem(#[source] ed25519_dalek::pkcs8::Error),
    /// Not 64 hex digits.
    #[error("a public key is 64 hex digits")]
    Hex,
    /// 32 bytes that are no point on the curve, or a point of small order.
    #[error("this is not a valid Ed25519 public key")]
    Point,
}

/// A signature does not belong to this key and message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not match")]
pub struct SignatureError;

/// The secret half of an identity.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of 32 bytes that the shell drew at random.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Reads [`Self::to_pem`].
    ///
    /// # Errors
    /// [`ParseKeyError::Pem`] for anything else.
    pub fn from_pem(pem: &str) -> Result<Self, ParseKeyError> {
        SigningKey::from_pkcs8_pem(pem).map(Self).map_err(ParseKeyError::Pem)
    }

    /// PKCS#8 in PEM, as OpenSSL reads it; belongs in a file of mode 0600 and nowhere else.
    pub fn to_pem(&self) -> String {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF);
        pem.expect("encoding 32 bytes as PKCS#8 cannot fail").to_string()
    }

    /// The seed, for storing in a database column or deriving the same key in another library.
    pub fn to_seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs `message`; callers prefix it with a domain string of their own.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().device().short())
    }
}

/// The public half of an identity; its bytes are the [`DeviceId`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Wraps the bytes of a key.
    ///
    /// # Errors
    /// [`ParseKeyError::Point`] for bytes that are no key, or a weak one that would verify
    /// signatures nobody made.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, ParseKeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| ParseKeyError::Point)?;
        if key.is_weak() { Err(ParseKeyError::Point) } else { Ok(Self(key)) }
    }

    /// The 32 bytes of the key.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The device that has this key.
    pub fn device(&self) -> DeviceId {
        DeviceId::from_bytes(self.to_bytes())
    }

    /// Checks a signature by the strict rules of RFC 8032, under which no signature can be
    /// turned into another of the same message.
    ///
    /// # Errors
    /// [`SignatureError`] says nothing about why, on purpose.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).map_err(|_| SignatureError)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.device().short())
    }
}

impl FromStr for PublicKey {
    type Err = ParseKeyError;
    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        Self::from_bytes(&unhex(text).ok_or(ParseKeyError::Hex)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_pem_and_its_public_half_survives_hex() {
        let key = SecretKey::from_seed([7; 32]);
        let again = SecretKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.to_seed(), key.to_seed());
        assert_eq!(key.public().to_string().parse::<PublicKey>().unwrap(), key.public());
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = SecretKey::from_seed([7; 32]);
        let shown = format!("{key:?}");
        assert!(!shown.contains(&hex(&[7; 5])), "{shown}");
        assert!(!shown.contains("7, 7"), "{shown}");
    }

    #[test]
    fn a_signature_is_of_one_message_by_one_key() {
        let key = SecretKey::from_seed([1; 32]);
        let signature = key.sign(b"message");
        assert_eq!(key.public().verify(b"message", &signature), Ok(()));
        assert_eq!(key.public().verify(b"massage", &signature), Err(SignatureError));
        let other = SecretKey::from_seed([2; 32]).public();
        assert_eq!(other.verify(b"message", &signature), Err(SignatureError));
    }

    #[test]
    fn weak_and_garbled_keys_are_refused() {
        assert!(matches!(PublicKey::from_bytes(&[0; 32]), Err(ParseKeyError::Point)));
        assert!(matches!("12".parse::<PublicKey>(), Err(ParseKeyError::Hex)));
        assert!(matches!(SecretKey::from_pem("-----BEGIN"), Err(ParseKeyError::Pem(_))));
    }
}
