//! What every command is given: how to say things, where one stands, and who one is.
//!
//! Built once by `main`, the only place that reads the environment.

use std::path::{Path, PathBuf};

use crucible_node::http::{Http, Origin};

use crate::exit::{During, Exit, Failure, Outcome};
use crate::home::{Credential, Home};
use crate::output::Output;
use crate::signals::Signals;
use crate::world;

/// What somebody without a token does.
pub const GET_TOKEN: &str = "`cru invite` on a device that is in prints a join line with a code: \
                             run that here; or set CRU_TOKEN";

/// What every command is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// How to say things.
    pub output: Output,
    /// Where one stands: -C, or the current folder.
    pub start: PathBuf,
    /// This device's key and tokens.
    pub home: Home,
    /// CRU_TOKEN, if it is set at all: wins over every token that is kept.
    pub token: Option<String>,
    /// Says yes to every question.
    pub yes: bool,
    /// How this machine is called.
    pub machine: String,
    /// Certificates to trust instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// Ctrl-C and SIGTERM.
    pub signals: Signals,
}

impl Context {
    /// A path of the command line, seen from where one stands.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.start.join(path)
    }

    /// The same without CRU_TOKEN: what is kept is what counts.
    #[must_use]
    pub fn with_kept_tokens(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// CRU_TOKEN, or else what `kept` finds among this device's own tokens.
    ///
    /// # Errors
    /// Exit 12 when there is neither; what `kept` says.
    pub fn token_for(
        &self,
        server: &str,
        kept: impl FnOnce(&Home) -> Outcome<Option<Credential>>,
    ) -> Outcome<String> {
        if let Some(token) = &self.token {
            return Ok(token.clone());
        }
        let kept = kept(&self.home)?.map(|credential| credential.token);
        kept.ok_or_else(|| {
            let message = format!("this device has no token for {server}");
            Failure::new(Exit::NotAllowed, message).hint(GET_TOKEN)
        })
    }

    /// Speaks to a server.
    ///
    /// # Errors
    /// When the file of certificates is none.
    pub fn http(&self, origin: Origin) -> Outcome<Http> {
        let roots_pem = match &self.ca_file {
            Some(file) => Some(std::fs::read(file).during(format!("reading {}", file.display()))?),
            None if origin.roots_pem.is_none() => self.home.trusted(&origin.url)?,
            None => origin.roots_pem.clone(),
        };
        if let Some(token) = &origin.token
            && (token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()))
        {
            let message = format!("the token for {} is empty or garbled", origin.url);
            return Err(Failure::new(Exit::NotAllowed, message)
                .hint("a token is one long word; look at CRU_TOKEN"));
        }
        Ok(Http::new(Origin { roots_pem, ..origin }, world::patience())?)
    }
}
