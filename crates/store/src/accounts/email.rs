//! `Email`: an address as a person's name on a server. Never written to, so only its shape matters.

use std::fmt;
use std::str::FromStr;

/// Longest address in bytes (RFC 5321).
const EMAIL_BYTES_MAX: usize = 254;

/// Text that cannot be an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an email address has the form name@host")]
pub struct EmailError;

/// An address: something, an `@`, something; no space, no control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Checks and keeps `text` as spelled.
    ///
    /// # Errors
    /// [`EmailError`]
    pub fn new(text: &str) -> Result<Self, EmailError> {
        let plain = |c: char| !c.is_control() && !c.is_whitespace();
        match text.rsplit_once('@') {
            Some((name, host))
                if !name.is_empty()
                    && !host.is_empty()
                    && text.len() <= EMAIL_BYTES_MAX
                    && text.chars().all(plain) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(EmailError),
        }
    }

    /// As spelled.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Email {
    type Err = EmailError;
    fn from_str(text: &str) -> Result<Self, EmailError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_two_sides_and_no_space() {
        for good in ["a@b", "anna.k+notes@example.org", "\u{fc}@\u{fc}.de", "a@b@c"] {
            assert!(Email::new(good).is_ok(), "{good}");
        }
        for bad in ["", "@", "a@", "@b", "a b@c", "a@b\n", &format!("{}@b", "a".repeat(300))] {
            assert!(Email::new(bad).is_err(), "{bad:?}");
        }
    }
}
