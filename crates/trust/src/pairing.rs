//! Pairing codes: what a person reads from one screen and types on another, once.
//!
//! Invariant: a code opens at most one door, for at most [`LIFETIME_MS`]; only its hash is kept.
//! Forty bits are enough because guesses are counted: the server allows a few a minute.

use std::fmt;
use std::str::FromStr;

use crucible_core::hash::{Domain, keyed};
use subtle::ConstantTimeEq;

/// How long a code is good, in milliseconds.
pub const LIFETIME_MS: u64 = 10 * 60 * 1000;

/// Crockford's base 32: no I, L, O (read as 1, 1, 0) and no U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const DIGITS: usize = 8;

/// Text that cannot be a pairing code, whichever codes exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pairing code has eight letters and digits, such as 7K2M-9QXB")]
pub struct ParseCodeError;

/// Why a code opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedeemError {
    /// No code like it is known: it is another one, or was swept out when it was over.
    #[error("the pairing code is wrong, or no longer good")]
    Wrong,
    /// Its ten minutes are over.
    #[error("the pairing code has expired")]
    Expired,
    /// Somebody used it before.
    #[error("the pairing code was used already")]
    Used,
}

/// A code in the clear: held for as long as it takes to show it or to check it.
#[derive(Clone, PartialEq, Eq)]
pub struct PairingCode([u8; DIGITS]);

/// A code at rest.
#[derive(Clone, Copy)]
pub struct CodeHash([u8; 32]);

/// An open door: a code somebody was shown, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invitation {
    /// Of the code.
    pub code: CodeHash,
    /// The first millisecond at which the code is no longer good.
    pub expires_ms: u64,
    /// When it was used, if it was.
    pub used_ms: Option<u64>,
}

impl PairingCode {
    /// The code of forty bits that the shell drew at random.
    pub fn from_entropy(entropy: [u8; 5]) -> Self {
        let bits = entropy.iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
        let mut digits = [0; DIGITS];
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = ALPHABET[(bits >> (5 * (DIGITS - 1 - at)) & 31) as usize];
        }
        Self(digits)
    }

    /// What is kept of it.
    pub fn hash(&self) -> CodeHash {
        CodeHash(keyed(Domain::PairingCode, &[&self.0]))
    }
}

impl FromStr for PairingCode {
    type Err = ParseCodeError;

    /// Reads what a person typed: case, dashes and spaces do not matter, nor do O for 0 and
    /// I or L for 1.
    fn from_str(text: &str) -> Result<Self, ParseCodeError> {
        let mut digits = [0; DIGITS];
        let mut count = 0;
        for typed in text.chars().filter(|c| !matches!(c, '-' | ' ')) {
            let digit = match typed.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            let digit = u8::try_from(digit).map_err(|_| ParseCodeError)?;
            if count == DIGITS || !ALPHABET.contains(&digit) {
                return Err(ParseCodeError);
            }
            digits[count] = digit;
            count += 1;
        }
        if count == DIGITS { Ok(Self(digits)) } else { Err(ParseCodeError) }
    }
}

impl fmt::Display for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::str::from_utf8(&self.0).expect("the alphabet is ASCII");
        let (left, right) = text.split_at(DIGITS / 2);
        write!(f, "{left}-{right}")
    }
}

impl fmt::Debug for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairingCode(…)")
    }
}

impl CodeHash {
    /// Wraps bytes from storage.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for CodeHash {
    /// Takes the same time wherever the two differ.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for CodeHash {}

impl fmt::Debug for CodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeHash(…)")
    }
}

impl Invitation {
    /// A fresh one, good from `now_ms` for [`LIFETIME_MS`].
    pub fn open(code: &PairingCode, now_ms: u64) -> Self {
        let expires_ms = now_ms.saturating_add(LIFETIME_MS);
        Self { code: code.hash(), expires_ms, used_ms: None }
    }

    /// Presents a code: the invitation after its use, to be stored before anything is granted.
    ///
    /// # Errors
    /// [`RedeemError`]; a wrong code is told apart first, so that a guess learns nothing else.
    pub fn redeem(&self, code: &PairingCode, now_ms: u64) -> Result<Self, RedeemError> {
        if self.code != code.hash() {
            return Err(RedeemError::Wrong);
        }
        if self.used_ms.is_some() {
            return Err(RedeemError::Used);
        }
        if now_ms >= self.expires_ms {
            return Err(RedeemError::Expired);
        }
        Ok(Self { used_ms: Some(now_ms), ..*self })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(byte: u8) -> PairingCode {
        PairingCode::from_entropy([byte; 5])
    }

    #[test]
    fn a_code_opens_once() {
        let fresh = Invitation::open(&code(3), 1_000);
        let used = fresh.redeem(&code(3), 2_000).unwrap();
        assert_eq!(used.used_ms, Some(2_000));
        assert_eq!(used.redeem(&code(3), 2_001), Err(RedeemError::Used));
    }

    #[test]
    fn a_code_is_good_for_ten_minutes_and_not_a_millisecond_longer() {
        let fresh = Invitation::open(&code(3), 1_000);
        assert!(fresh.redeem(&code(3), 1_000 + LIFETIME_MS - 1).is_ok());
        assert_eq!(fresh.redeem(&code(3), 1_000 + LIFETIME_MS), Err(RedeemError::Expired));
    }

    #[test]
    fn a_wrong_code_learns_nothing_about_the_right_one() {
        let fresh = Invitation::open(&code(3), 1_000);
        let used = fresh.redeem(&code(3), 2_000).unwrap();
        for invitation in [fresh, used] {
            assert_eq!(invitation.redeem(&code(4), u64::MAX), Err(RedeemError::Wrong));
        }
    }

    #[test]
    fn what_people_type_is_understood() {
        let shown = PairingCode::from_entropy([0x00, 0x44, 0x32, 0x14, 0xc7]);
        assert_eq!(shown.to_string(), "0123-4567");
        for typed in ["01234567", "o1234567", "0I23 4567", "ol23-4567", " 0123--4567 "] {
            assert_eq!(typed.parse(), Ok(shown.clone()), "{typed}");
        }
        for wrong in ["", "0123-456", "0123-45678", "0123-456U", "0123-456é", "0123_4567"] {
            assert_eq!(wrong.parse::<PairingCode>(), Err(ParseCodeError), "{wrong}");
        }
    }

    #[test]
    fn debug_shows_neither_code_nor_hash() {
        let shown = format!("{:?} {:?}", code(3), Invitation::open(&code(3), 0).code);
        assert_eq!(shown, "PairingCode(…) CodeHash(…)");
    }

    proptest! {
        #[test]
        fn every_code_survives_printing(entropy: [u8; 5]) {
            let code = PairingCode::from_entropy(entropy);
            prop_assert_eq!(code.to_string().parse(), Ok(code));
        }

        #[test]
        fn different_entropy_is_a_different_code(a: [u8; 5], b: [u8; 5]) {
            let same = PairingCode::from_entropy(a) == PairingCode::from_entropy(b);
            prop_assert_eq!(a == b, same);
        }
    }
}
