//! `http(s)://host:port/VAULT#CODE`: what one device prints and another one takes.

use std::fmt;

use crucible_node::config::parse_server;
use crucible_trust::name::VaultName;
use crucible_trust::pairing::PairingCode;

use crate::exit::{Exit, Failure, Outcome};

/// Where a vault is, and perhaps what opens it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinLink {
    /// `http(s)://host[:port]`
    pub server: String,
    /// What the vault is called there.
    pub vault: VaultName,
    /// Good once.
    pub code: Option<PairingCode>,
}

impl JoinLink {
    /// Reads a link as a person pasted it.
    ///
    /// # Errors
    /// Exit 2, saying what a link looks like; exit 12 for a code that cannot be one.
    pub fn parse(text: &str) -> Outcome<Self> {
        let wrong = |what: &str| {
            Failure::new(Exit::Usage, format!("{what} in the link")).hint(
                "it has the form http(s)://host:port/VAULT#CODE; `cru invite` on a device that \
                 is in prints one",
            )
        };
        let text = text.trim();
        let (place, code) = match text.split_once('#') {
            Some((place, code)) => (place, Some(code)),
            None => (text, None),
        };
        let Some((scheme, rest)) = place.split_once("://") else {
            return Err(wrong("there is no http:// or https://"));
        };
        let (authority, vault) = rest.split_once('/').unwrap_or((rest, ""));
        let server = parse_server(&format!("{scheme}://{authority}"))
            .ok_or_else(|| wrong("there is no http(s)://host:port"))?;
        let vault = vault.trim_end_matches('/');
        if code.is_some_and(|code| code.starts_with("pair=")) {
            return Err(Failure::new(Exit::Usage, "that address is for a browser").hint(
                "`cru join` takes the line that `cru up` prints below it, or one of `cru invite`",
            ));
        }
        if vault.is_empty() {
            return Err(wrong("the name of the vault is missing"));
        }
        let vault = VaultName::new(vault).map_err(|error| wrong(&error.to_string()))?;
        let code = code.map(str::parse::<PairingCode>).transpose().map_err(|_| {
            Failure::new(Exit::NotAllowed, "the code after # is none")
                .hint("it has eight letters and digits, like 7KQ2-M4XD; look again, or ask for a new one with `cru invite`")
        })?;
        Ok(Self { server, vault, code })
    }
}

impl fmt::Display for JoinLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.server, self.vault)?;
        match &self.code {
            Some(code) => write!(f, "#{code}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for JoinLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinLink({}/{})", self.server, self.vault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_survives_printing() {
        for text in ["http://127.0.0.1:4200/notes", "https://notes.example.org/Work.2#0123-4567"] {
            assert_eq!(JoinLink::parse(text).unwrap().to_string(), text);
        }
        let pasted = JoinLink::parse(" HTTP://Host:80/n/#o123 4567\n").unwrap();
        assert_eq!(pasted.to_string(), "http://host:80/n#0123-4567");
    }

    #[test]
    fn a_link_that_is_none_says_what_is_missing() {
        for (text, part) in [
            ("notes", "http://"),
            ("http://host", "name of the vault"),
            ("http:///notes", "host:port"),
            ("http://host/a b", "letter or digit"),
            ("http://host/a/b", "letter or digit"),
        ] {
            let failure = JoinLink::parse(text).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{text}");
            assert!(failure.message.contains(part), "{text}: {}", failure.message);
        }
        let failure = JoinLink::parse("http://host/n#nonsense!").unwrap_err();
        assert_eq!(failure.exit, Exit::NotAllowed);
    }

    #[test]
    fn debug_shows_no_code() {
        let link = JoinLink::parse("http://host/n#0123-4567").unwrap();
        assert!(!format!("{link:?}").contains("0123"));
    }
}
