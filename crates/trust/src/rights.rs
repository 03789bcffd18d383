//! What a token allows: rights as a lattice, and the question whether they allow a request.
//!
//! Invariant: [`Rights::meet`] is commutative, associative and idempotent, and permits a request
//! exactly when both sides do. Attenuation is a meet, so it can only narrow.

use std::collections::BTreeSet;

use crucible_core::vault_path::VaultPath;

use crate::name::VaultName;

/// How far a right reaches into a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// See everything, change nothing.
    Read,
    /// See and change.
    Write,
}

/// Everything of its kind, or only what is listed; an empty list is nothing at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Within<T: Ord> {
    /// No restriction.
    All,
    /// These alone.
    Only(BTreeSet<T>),
}

/// What may be done, where, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Reading or writing.
    pub access: Access,
    /// Whether vaults may be created (of the names in `vaults`); takes [`Access::Write`] too.
    pub create: bool,
    /// The vaults this reaches, out of those the user is a member of.
    pub vaults: Within<VaultName>,
    /// The folders this reaches; a request about a whole vault needs [`Within::All`].
    pub folders: Within<VaultPath>,
    /// The first millisecond at which this is over; `None` never ends.
    pub expires_ms: Option<u64>,
}

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Ask who the token belongs to and what it reaches; allowed until it expires.
    Identify,
    /// Read from a vault.
    Read,
    /// Change a vault.
    Write,
    /// Create a vault.
    Create,
}

/// One question to a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is to be done.
    pub op: Op,
    /// In which vault; `None` only for [`Op::Identify`].
    pub vault: Option<&'a VaultName>,
    /// At which path; `None` when the request is about the vault as a whole.
    pub path: Option<&'a VaultPath>,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
}

/// Why a valid token does not allow a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It was allowed until a moment that has passed.
    #[error("the token has expired")]
    Expired,
    /// The token is for other vaults.
    #[error("the token does not reach this vault")]
    Vault,
    /// The token is for folders inside the vault, and this is elsewhere or about all of it.
    #[error("the token is limited to some folders")]
    Folder,
    /// The token may read only, or may not create vaults.
    #[error("the token does not allow this kind of access")]
    Access,
    /// A caveat refused it in a way the fields of [`Rights`] do not show.
    #[error("the token's own caveats refuse this")]
    Caveat,
}

impl<T: Ord + Clone> Within<T> {
    /// Only this one.
    pub fn one(item: T) -> Self {
        Self::Only(BTreeSet::from([item]))
    }

    fn meet_by(&self, other: &Self, narrower: impl Fn(&T, &T) -> Option<T>) -> Self {
        match (self, other) {
            (Self::All, some) | (some, Self::All) => some.clone(),
            (Self::Only(ours), Self::Only(theirs)) => Self::Only(
                ours.iter().flat_map(|a| theirs.iter().filter_map(|b| narrower(a, b))).collect(),
            ),
        }
    }
}

impl Rights {
    /// Everything, for ever: what the root may hand out.
    pub const ALL: Self = Self {
        access: Access::Write,
        create: true,
        vaults: Within::All,
        folders: Within::All,
        expires_ms: None,
    };

    /// These rights in one vault alone, without creating it.
    #[must_use]
    pub fn of_vault(name: &VaultName, access: Access) -> Self {
        Self { access, create: false, vaults: Within::one(name.clone()), ..Self::ALL }
    }

    /// What both allow.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        Self {
            access: self.access.min(other.access),
            create: self.create && other.create,
            vaults: self.vaults.meet_by(&other.vaults, |a, b| (a == b).then(|| a.clone())),
            folders: self.folders.meet_by(&other.folders, deeper),
            expires_ms: match (self.expires_ms, other.expires_ms) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }

    /// Whether whatever these rights allow, `other` allows too.
    pub fn within(&self, other: &Self) -> bool {
        self.meet(other).normal() == self.clone().normal()
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`Denied`] names the first field that refuses; expiry is asked first.
    pub fn permit(&self, request: &Request<'_>) -> Result<(), Denied> {
        if self.expires_ms.is_some_and(|end| request.now_ms >= end) {
            return Err(Denied::Expired);
        }
        let allowed = match request.op {
            Op::Identify => return Ok(()),
            Op::Read => true,
            Op::Write => self.access == Access::Write,
            Op::Create => self.access == Access::Write && self.create,
        };
        let reaches = match (&self.vaults, request.vault) {
            (Within::All, _) => true,
            (Within::Only(names), Some(vault)) => names.contains(vault),
            (Within::Only(_), None) => false,
        };
        let inside = match (&self.folders, request.path) {
            (Within::All, _) => true,
            (Within::Only(folders), Some(path)) => folders.iter().any(|f| path.starts_with(f)),
            (Within::Only(_), None) => false,
        };
        match (reaches, inside, allowed) {
            (false, _, _) => Err(Denied::Vault),
            (_, false, _) => Err(Denied::Folder),
            (_, _, false) => Err(Denied::Access),
            (true, true, true) => Ok(()),
        }
    }

    /// Drops folders that lie below another one of the list.
    fn normal(mut self) -> Self {
        if let Within::Only(folders) = &mut self.folders {
            let all = folders.clone();
            folders.retain(|f| !all.iter().any(|other| f != other && f.starts_with(other)));
        }
        self
    }
}

fn deeper(a: &VaultPath, b: &VaultPath) -> Option<VaultPath> {
    match (a.starts_with(b), b.starts_with(a)) {
        (true, _) => Some(a.clone()),
        (_, true) => Some(b.clone()),
        _ => None,
    }
}
