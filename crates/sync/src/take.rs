//! Taking a side of a conflict: which change of the note does what a person asks for.
//!
//! Invariant: nothing is changed here, and a change that would undo words written since the merge
//! is refused. Who commits the change closes the record in the same batch.

use std::sync::Arc;

use crucible_core::conflict::{Clash, Conflict, Hunk};
use crucible_core::conflict_choice::{Choice, apply_choice};
use crucible_core::hash::ContentHash;
use crucible_core::id::{NoteId, VersionId};
use crucible_core::merkle::lookup;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Version;

use crate::mint::{Change, Found};
use crate::repo::Repo;
use crate::staged::{EngineError, Tree};

/// Which side of a conflict a person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// What is in the note already.
    Winner,
    /// What was set aside.
    Loser,
    /// Both.
    Both,
}

/// A change, with its bytes where it brings any that are not stored.
pub type Edit = (Change, Option<Vec<u8>>);

/// Gives the bytes of versions whose content is not kept here, or says `None`.
pub type FetchBytes<'f> = &'f mut dyn FnMut(&VersionId) -> Option<Vec<u8>>;

/// Why a side cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError<E: std::error::Error + Send + Sync + 'static> {
    /// The store.
    #[error(transparent)]
    Engine(#[from] EngineError<E>),
    /// The place was edited since, so taking the other side would undo those words.
    #[error("{path} was edited at this very place since")]
    EditedSince {
        /// Which note.
        path: VaultPath,
    },
    /// The note was deleted since, so there is nothing to put the side into.
    #[error("{path} was deleted since")]
    Deleted {
        /// Which note.
        path: VaultPath,
    },
    /// The bytes of a version are neither here nor to be had.
    #[error("the bytes of version {0} are not here")]
    NoBytes(VersionId),
    /// There is no such version here.
    #[error("there is no version {0} here")]
    NoVersion(VersionId),
    /// No free name was found for the second of two files.
    #[error("{path} exists")]
    Exists {
        /// Which name.
        path: VaultPath,
    },
}

type Taken<T, R> = Result<T, TakeError<<R as Repo>::Error>>;

/// The change that takes a side of an open conflict; `None` when the note says it already.
/// `is_free` may refuse further names for a copy than those that notes have.
///
/// # Errors
/// [`TakeError`].
pub fn edit_for<R: Repo>(
    repo: &R,
    conflict: &Conflict,
    take: Take,
    fetch: FetchBytes<'_>,
    is_free: &dyn Fn(&VaultPath) -> bool,
) -> Taken<Option<Edit>, R> {
    let of = Of { repo, conflict };
    Ok(match (take, &conflict.clash) {
        (Take::Winner, Clash::Body(_) | Clash::Key { .. }) => None,
        (Take::Winner, Clash::EditOverDelete | Clash::Path { .. } | Clash::Content) => None,
        (Take::Both, Clash::EditOverDelete | Clash::Path { .. }) => None,
        (_, Clash::Body(hunk) | Clash::Key { hunk, .. } | Clash::FirstContact(hunk)) => {
            of.chosen_text(hunk, take, fetch)?
        }
        (Take::Loser, Clash::EditOverDelete) => match of.unedited_head(fetch) {
            Ok(base) => Some((Change::Deleted { base }, None)),
            // Somebody has deleted it by hand.
            Err(TakeError::Deleted { .. }) => None,
            Err(error) => return Err(error),
        },
        (Take::Loser, Clash::Path { loser }) => {
            let base = of.live_head()?;
            Some((Change::Moved { base, path: loser.clone() }, None))
        }
        (Take::Loser, Clash::Content) => {
            let base = of.unedited_head(fetch)?;
            let head = of.version(&base)?;
            let path = head.path().unwrap_or(&conflict.path);
            let (found, bytes) = of.losing_file(path, fetch)?;
            Some((Change::Edited { base, path: None, found }, bytes))
        }
        (Take::Both, Clash::Content) => {
            let path = of.free_name(is_free)?;
            let (found, bytes) = of.losing_file(&path, fetch)?;
            Some((Change::Created { path, found }, bytes))
        }
    })
}

/// Whether a folder, or a note that counts, has this path.
///
/// # Errors
/// [`EngineError`].
pub fn is_taken_by<R: Repo>(
    repo: &R,
    path: &VaultPath,
    counts: impl Fn(&NoteId) -> bool,
) -> Result<bool, EngineError<R::Error>> {
    let Some(root) = repo.root().map_err(EngineError::Repo)? else { return Ok(false) };
    let at = lookup(&Tree(repo), &root, path)?;
    Ok(at.folder.is_some() || at.notes.iter().any(|(note, _)| counts(note)))
}

struct Of<'r, R> {
    repo: &'r R,
    conflict: &'r Conflict,
}

impl<R: Repo> Of<'_, R> {
    fn chosen_text(
        &self,
        hunk: &Hunk,
        take: Take,
        fetch: FetchBytes<'_>,
    ) -> Taken<Option<Edit>, R> {
        let path = self.conflict.path.clone();
        let edited_since = || TakeError::EditedSince { path: path.clone() };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
        let base = self.live_head()?;
        let merged =
            text(self.bytes_named(&self.conflict.merge, fetch)?).ok_or_else(edited_since)?;
        let current = text(self.bytes_of(&base, fetch)?).ok_or_else(edited_since)?;
        let choice = match take {
            Take::Winner => Choice::Winner,
            Take::Loser => Choice::Loser,
            Take::Both => Choice::Both,
        };
        let wanted = apply_choice(&merged, &current, hunk, choice).ok_or_else(edited_since)?;
        if wanted == current {
            return Ok(None);
        }
        let head = self.version(&base)?;
        let path = head.path().unwrap_or(&path);
        let found = Found::of(wanted.as_bytes(), path);
        Ok(Some((Change::Edited { base, path: None, found }, Some(wanted.into_bytes()))))
    }

    /// The losing version's file as one at `path`. Bytes that are stored already, as those of a
    /// large asset are on a server, are named only.
    fn losing_file(
        &self,
        path: &VaultPath,
        fetch: FetchBytes<'_>,
    ) -> Taken<(Found, Option<Vec<u8>>), R> {
        let loser = self.repo.version(&self.conflict.loser).map_err(EngineError::Repo)?;
        if let Some(live) = loser.as_ref().and_then(|version| version.live()) {
            let is_here = |hash: &ContentHash| {
                let inline = self.repo.has_inline(hash).map_err(EngineError::Repo)?;
                let stored = self.repo.has_content(hash).map_err(EngineError::Repo)?;
                Ok::<_, TakeError<R::Error>>(stored && !inline)
            };
            if is_here(&live.content)? {
                let found = Found { kind: live.kind, content: live.content, bytes: live.bytes };
                return Ok((found, None));
            }
        }
        let bytes = self.bytes_named(&self.conflict.loser, fetch)?;
        Ok((Found::of(&bytes, path), Some(bytes)))
    }

    fn free_name(&self, is_free: &dyn Fn(&VaultPath) -> bool) -> Taken<VaultPath, R> {
        let path = &self.conflict.path;
        let name = path.name();
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let dot = if extension.is_empty() { "" } else { "." };
        for number in 2..1_000 {
            let Ok(aside) = path.with_name(&format!("{stem} ({number}){dot}{extension}")) else {
                break;
            };
            if !is_taken_by(self.repo, &aside, |_| true)? && is_free(&aside) {
                return Ok(aside);
            }
        }
        Err(TakeError::Exists { path: path.clone() })
    }

    /// The note's head, if it holds what the merge made of it: nobody has written to it since.
    fn unedited_head(&self, fetch: FetchBytes<'_>) -> Taken<VersionId, R> {
        let head = self.live_head()?;
        let content = |version: &Version| version.live().map(|live| live.content);
        let merge = &self.conflict.merge;
        let then = match self.repo.version(merge).map_err(EngineError::Repo)? {
            Some(merge) => content(&merge),
            None => {
                let bytes = self.bytes_named(merge, fetch)?;
                Some(Found::of(&bytes, &self.conflict.path).content)
            }
        };
        if then == content(&*self.version(&head)?) {
            return Ok(head);
        }
        Err(TakeError::EditedSince { path: self.conflict.path.clone() })
    }

    /// The note's head; there is only one and it is live.
    fn live_head(&self) -> Taken<VersionId, R> {
        let heads = self.repo.heads(&self.conflict.note).map_err(EngineError::Repo)?;
        let [head] = heads.as_slice() else {
            return Err(TakeError::EditedSince { path: self.conflict.path.clone() });
        };
        match self.version(head)?.live() {
            Some(_) => Ok(*head),
            None => Err(TakeError::Deleted { path: self.conflict.path.clone() }),
        }
    }

    fn version(&self, id: &VersionId) -> Taken<Arc<Version>, R> {
        let version = self.repo.version(id).map_err(EngineError::Repo)?;
        version.ok_or(TakeError::NoVersion(*id))
    }

    /// The same for a version that a conflict names: a device that came later than the merge has
    /// the record and the head, but neither the merge nor its sides.
    fn bytes_named(&self, id: &VersionId, fetch: FetchBytes<'_>) -> Taken<Vec<u8>, R> {
        match self.repo.version(id).map_err(EngineError::Repo)? {
            Some(_) => self.bytes_of(id, fetch),
            None => fetch(id).ok_or(TakeError::NoBytes(*id)),
        }
    }

    fn bytes_of(&self, id: &VersionId, fetch: FetchBytes<'_>) -> Taken<Vec<u8>, R> {
        let version = self.version(id)?;
        let Some(live) = version.live() else { return Err(TakeError::NoBytes(*id)) };
        if let Some(bytes) = self.repo.content(&live.content).map_err(EngineError::Repo)? {
            return Ok(bytes.to_vec());
        }
        // A server that gives other bytes gives none.
        let is_that = |bytes: &Vec<u8>| Found::of(bytes, &live.path).content == live.content;
        fetch(id).filter(is_that).ok_or(TakeError::NoBytes(*id))
    }
}
