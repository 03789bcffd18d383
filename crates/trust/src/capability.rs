//! Capability tokens: biscuits of one fixed vocabulary, behind our own types.
//!
//! Invariant: a token that verifies consists of the user, the device and checks of the five forms
//! written by `caveats`, in every block. Whatever a holder appends offline can therefore only
//! narrow, costs a bounded and small amount of work to evaluate, and can be read back as
//! [`Rights`]. A request is allowed when both the rights and the biscuit's own logic say so.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use biscuit_auth::builder::{BlockBuilder, fact, int, string};
use biscuit_auth::error::{Format, Token as BiscuitError};
use biscuit_auth::{
    Algorithm, Authorizer, AuthorizerBuilder, AuthorizerLimits, Biscuit, KeyPair, PrivateKey,
    UnverifiedBiscuit,
};
use crucible_core::hash::{Domain, hex, keyed, unhex};
use crucible_core::id::{DeviceId, UserId};
use crucible_core::vault_path::VaultPath;

use crate::key::{PublicKey, SecretKey};
use crate::name::VaultName;
use crate::rights::{Access, Denied, Op, Request, Rights, Within};

/// Longest token in characters; fits the header limits of every proxy, holds some 30 caveats.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// Most blocks of one token: the first and fifteen attenuations.
pub const BLOCKS_MAX: usize = 16;
/// Facts and iterations are the limits. The library also has a wall-clock limit, by default of
/// 1 ms, under which a busy machine refuses valid tokens; the vocabulary makes it needless.
const LIMITS: AuthorizerLimits =
    AuthorizerLimits { max_facts: 64, max_iterations: 8, max_time: Duration::from_secs(3600) };

/// Why text is no token, or not one of this root.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Longer than [`TOKEN_BYTES_MAX`], or of more than [`BLOCKS_MAX`] blocks.
    #[error("the token is too long")]
    TooLong,
    /// Not base 64 of a biscuit.
    #[error("the token is malformed")]
    Malformed(#[source] Box<BiscuitError>),
    /// Signed by another root, or changed since.
    #[error("the token was not issued here")]
    Signature,
    /// A biscuit, properly signed, that says something this release does not know.
    #[error("the token has a caveat that this release does not know")]
    Vocabulary,
}

/// Why a token cannot be attenuated.
#[derive(Debug, thiserror::Error)]
pub enum AttenuateError {
    /// It is no token, or the result would be [`VerifyError::TooLong`].
    #[error(transparent)]
    Token(#[from] VerifyError),
    /// Its holder sealed it.
    #[error("the token is sealed")]
    Sealed,
}

/// A bearer token as text. Whoever has it has the rights in it: it is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(String);

/// The name of a token in lists and logs; says nothing about its secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; 32]);

/// Whom a token speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The person.
    pub user: UserId,
    /// Their device.
    pub device: DeviceId,
}

/// What an allowed request may count on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who asks.
    pub subject: Subject,
    /// The token as it was issued, whatever was appended since.
    pub token: TokenId,
    /// All it allows.
    pub rights: Rights,
}

/// A token whose signatures were checked.
#[derive(Clone)]
pub struct Capability {
    biscuit: Biscuit,
    subject: Subject,
    rights: Rights,
    ids: Vec<TokenId>,
}

impl Token {
    /// Takes text as it came in a header or a file. Only its length and alphabet are checked.
    ///
    /// # Errors
    /// [`VerifyError::TooLong`], [`VerifyError::Vocabulary`] for characters outside base 64.
    pub fn parse(text: &str) -> Result<Self, VerifyError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(VerifyError::TooLong);
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=');
        if text.is_empty() || !text.bytes().all(plain) {
            return Err(VerifyError::Vocabulary);
        }
        Ok(Self(text.to_owned()))
    }

    /// The secret text, to send or to store in a file of mode 0600.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// A token that allows what both this one and `rights` allow; needs no key and no server.
    /// `seed` is 32 random bytes.
    ///
    /// # Errors
    /// [`AttenuateError`]; nothing is checked against a root here.
    pub fn attenuate(&self, rights: &Rights, seed: [u8; 32]) -> Result<Self, AttenuateError> {
        let biscuit = UnverifiedBiscuit::from_base64(&self.0).map_err(refusal)?;
        if biscuit.block_count() >= BLOCKS_MAX {
            return Err(VerifyError::TooLong.into());
        }
        let block = BlockBuilder::new()
            .code(caveats(rights).concat())
            .expect("caveats are written in biscuit's own language");
        let narrowed =
            biscuit.append_with_keypair(&biscuit_key(&seed), block).map_err(|e| match e {
                BiscuitError::AppendOnSealed => AttenuateError::Sealed,
                other => refusal(other).into(),
            })?;
        Ok(Self::parse(&narrowed.to_base64().map_err(refusal)?)?)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl TokenId {
    /// Wraps bytes from storage.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({})", hex(&self.0[..5]))
    }
}

impl Capability {
    /// Issues a token under a root key. `seed` is 32 random bytes, never used twice.
    pub fn issue(root: &SecretKey, subject: Subject, rights: &Rights, seed: [u8; 32]) -> Self {
        let code = format!("{}{}", identity(subject), caveats(rights).concat());
        let biscuit = Biscuit::builder()
            .code(code)
            .expect("the vocabulary is written in biscuit's own language")
            .build_with_key_pair(
                &biscuit_key(&root.to_seed()),
                biscuit_auth::datalog::SymbolTable::new(),
                &biscuit_key(&seed),
            )
            .expect("signing with an Ed25519 key in memory cannot fail");
        Self::read(biscuit).expect("what is issued is of the vocabulary")
    }

    /// Checks every signature of a token, from `root` on, and that it is of the vocabulary.
    /// Whether it has expired is asked by [`Self::authorize`].
    ///
    /// # Errors
    /// [`VerifyError`]; the work is bounded by [`TOKEN_BYTES_MAX`].
    pub fn verify(token: &Token, root: &PublicKey) -> Result<Self, VerifyError> {
        let root = biscuit_auth::PublicKey::from_bytes(&root.to_bytes(), Algorithm::Ed25519)
            .expect("a checked Ed25519 key is one for biscuit too");
        Self::read(Biscuit::from_base64(&token.0, root).map_err(refusal)?)
    }

    fn read(biscuit: Biscuit) -> Result<Self, VerifyError> {
        if biscuit.block_count() > BLOCKS_MAX {
            return Err(VerifyError::TooLong);
        }
        if biscuit.external_public_keys().iter().any(Option::is_some) {
            return Err(VerifyError::Vocabulary);
        }
        let source = biscuit.print_block_source(0).map_err(refusal)?;
        let (subject, checks) = parse_identity(&source).ok_or(VerifyError::Vocabulary)?;
        let mut rights = parse_caveats(checks).ok_or(VerifyError::Vocabulary)?;
        for index in 1..biscuit.block_count() {
            let source = biscuit.print_block_source(index).map_err(refusal)?;
            let block = parse_caveats(&source).ok_or(VerifyError::Vocabulary)?;
            rights = rights.meet(&block);
        }
        let ids = biscuit
            .revocation_identifiers()
            .iter()
            .map(|id| TokenId(keyed(Domain::Token, &[id])))
            .collect();
        Ok(Self { biscuit, subject, rights, ids })
    }

    /// Asks whether the token allows a request. Revocation is not known here: ask the list of
    /// [`Self::ids`] first.
    ///
    /// # Errors
    /// [`Denied`] says why not.
    pub fn authorize(&self, request: &Request<'_>) -> Result<Grant, Denied> {
        self.rights.permit(request)?;
        let mut authorizer = self.authorizer(request).map_err(|_| Denied::Caveat)?;
        authorizer.authorize_with_limits(LIMITS).map_err(|_| Denied::Caveat)?;
        Ok(Grant { subject: self.subject, token: self.id(), rights: self.rights.clone() })
    }

    fn authorizer(&self, request: &Request<'_>) -> Result<Authorizer, BiscuitError> {
        let now = i64::try_from(request.now_ms).unwrap_or(i64::MAX);
        let mut builder = AuthorizerBuilder::new()
            .set_limits(LIMITS)
            .fact(fact("time", &[int(now)]))?
            .fact(fact("operation", &[string(op_name(request.op))]))?;
        if let Some(vault) = request.vault {
            builder = builder.fact(fact("namespace", &[string(&vault.folded())]))?;
        }
        if let Some(path) = request.path {
            builder = builder.fact(fact("path", &[string(&escape(path.as_str()))]))?;
        }
        builder.policy("allow if true")?.build(&self.biscuit)
    }

    /// The token as text.
    pub fn token(&self) -> Token {
        Token(self.biscuit.to_base64().expect("a biscuit in memory encodes"))
    }

    /// The name of the token as it was issued.
    pub fn id(&self) -> TokenId {
        self.ids[0]
    }

    /// One id for the token and one for each attenuation; it is revoked if any of them is.
    pub fn ids(&self) -> &[TokenId] {
        &self.ids
    }

    /// Whom it speaks for.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// All it allows.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capability")
            .field("id", &self.id())
            .field("subject", &self.subject)
            .field("rights", &self.rights)
            .finish()
    }
}

fn biscuit_key(seed: &[u8; 32]) -> KeyPair {
    let key = PrivateKey::from_bytes(seed, Algorithm::Ed25519);
    KeyPair::from(&key.expect("any 32 bytes are an Ed25519 seed"))
}

fn refusal(error: BiscuitError) -> VerifyError {
    match error {
        BiscuitError::Format(Format::Signature(_) | Format::SealedSignature) => {
            VerifyError::Signature
        }
        other => VerifyError::Malformed(Box::new(other)),
    }
}

// The vocabulary. Names are taken from the symbols every biscuit library predefines, which
// travel as one byte each.

fn op_name(op: Op) -> &'static str {
    match op {
        Op::Identify => "query",
        Op::Read => "read",
        Op::Write => "write",
        Op::Create => "create",
    }
}

fn identity(subject: Subject) -> String {
    format!("user(hex:{});\nclient(hex:{});\n", subject.user, subject.device)
}

/// One line for every field of `rights` that restricts.
fn caveats(rights: &Rights) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(end) = rights.expires_ms {
        // Datalog's integers are signed; the year 292 million is the same as never.
        let end = i64::try_from(end).unwrap_or(i64::MAX);
        lines.push(format!("check if time($t), $t < {end};\n"));
    }
    if let Some(ops) = match (rights.access, rights.create) {
        (Access::Read, _) => Some(r#" or operation("read")"#),
        (Access::Write, false) => Some(r#" or operation("read") or operation("write")"#),
        (Access::Write, true) => None,
    } {
        lines.push(format!("check if operation(\"query\"){ops};\n"));
    }
    if let Within::Only(names) = &rights.vaults {
        let names: String =
            names.iter().map(|n| format!(" or namespace(\"{}\")", n.folded())).collect();
        lines.push(format!("check if operation(\"query\"){names};\n"));
    }
    if let Within::Only(folders) = &rights.folders {
        // No folder at all is told apart from no vault at all by a path that nothing has.
        let none = if folders.is_empty() { " or path(\"\")" } else { "" };
        let folders: String = folders
            .iter()
            .map(|folder| escape(folder.as_str()))
            .map(|f| format!(" or path(\"{f}\") or path($p), $p.starts_with(\"{f}/\")"))
            .collect();
        lines.push(format!("check if operation(\"query\"){none}{folders};\n"));
    }
    lines
}

fn parse_identity(source: &str) -> Option<(Subject, &str)> {
    let (user, rest) = source.strip_prefix("user(hex:")?.split_once(");\n")?;
    let (device, rest) = rest.strip_prefix("client(hex:")?.split_once(");\n")?;
    let subject = Subject {
        user: UserId::from_bytes(unhex(user)?),
        device: DeviceId::from_bytes(unhex(device)?),
    };
    source.starts_with(&identity(subject)).then_some((subject, rest))
}

fn parse_caveats(source: &str) -> Option<Rights> {
    source.split_inclusive('\n').try_fold(Rights::ALL, |rights, line| {
        let caveat = parse_caveat(line)?;
        // Exactly what we would have written: nothing hides in a line that parses.
        (caveats(&caveat) == [line]).then(|| rights.meet(&caveat))
    })
}

/// Reads one line; may be lax, since its caller compares with what the result is written as.
fn parse_caveat(line: &str) -> Option<Rights> {
    let all = Rights::ALL;
    if let Some(rest) = line.strip_prefix("check if time($t), $t < ") {
        let end = rest.strip_suffix(";\n")?.parse().ok()?;
        return Some(Rights { expires_ms: Some(end), ..all });
    }
    let rest = line.strip_prefix("check if operation(\"query\")")?;
    let quoted = || rest.split('"').skip(1).step_by(2);
    if rest.starts_with(" or operation(") {
        let access = if quoted().any(|op| op == "write") { Access::Write } else { Access::Read };
        return Some(Rights { access, create: false, ..all });
    }
    if rest.starts_with(" or path(\"\")") {
        return Some(Rights { folders: Within::Only(BTreeSet::new()), ..all });
    }
    if rest.starts_with(" or path(") {
        let folders = quoted().step_by(2).map(unescape).collect::<Option<_>>()?;
        return Some(Rights { folders: Within::Only(folders), ..all });
    }
    let vaults = quoted().map(|name| VaultName::new(name).ok()).collect::<Option<_>>()?;
    Some(Rights { vaults: Within::Only(vaults), ..all })
}

/// Paths may hold quotes and backslashes; biscuit prints them raw. Keeps prefixes prefixes.
fn escape(path: &str) -> String {
    path.replace('%', "%25").replace('"', "%22").replace('\\', "%5c")
}

fn unescape(path: &str) -> Option<VaultPath> {
    VaultPath::new(&path.replace("%5c", "\\").replace("%22", "\"").replace("%25", "%")).ok()
}

#[cfg(test)]
mod tests;
