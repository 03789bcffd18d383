//! The asking role of a round: what to send, and what an answer changes here.
//!
//! Nothing is sent that is not in the store as unsent, so that a crash or a lost answer sends the
//! same versions again; nothing counts as acknowledged before an answer says so.

use std::collections::BTreeSet;

use crucible_core::conflict::Conflict;
use crucible_core::hash::ContentHash;
use crucible_core::id::{NoteId, VersionId};
use crucible_core::merkle::Difference;
use crucible_core::timestamp::Hlc;
use crucible_core::vault_path::VaultPath;
use crucible_proto::message::{Cursor, Done, Have, PolicyRule, Round};

use crate::ahead::is_ahead;
use crate::guard::Loss;
use crate::mint::Minter;
use crate::pack::{Packer, Receiver, is_inline};
use crate::policy::Policies;
use crate::replica::{Displaced, FileRow, ReplicaBatch, ReplicaMeta, ReplicaStore};
use crate::repo::{Repo, Seq};
use crate::staged::{EngineError, Merging, Staged, root_after};
use crate::unpack::{Blobs, UnpackError, Unpacker};

/// How this round is to be asked.
#[derive(Debug, Clone, Default)]
pub struct Asking {
    /// See `Round::policies`.
    pub policies: Vec<PolicyRule>,
    /// See `Round::allow_mass_delete`.
    pub allow_mass_delete: bool,
    /// See `Round::whole`.
    pub whole: bool,
    /// Of what is unsent only so many are sent, the oldest; after a walk all are.
    pub at_most: Option<usize>,
    /// Where the pull goes on.
    pub cursor: Option<Cursor>,
    /// Pull only: unsent versions stay where they are (first contact, reading capability).
    pub pull_only: bool,
}

/// A request, and what it stands for here.
#[derive(Debug)]
pub struct Request {
    /// To send.
    pub round: Round,
    /// The versions in it.
    pub sent: Vec<VersionId>,
    /// Blobs that have to be there first, with the version that names each.
    pub blobs: Vec<(ContentHash, VersionId)>,
    /// Unsent versions stay here (a capability to read), so the roots cannot become equal.
    pub holds_back: bool,
}

type Fallible<T, S> = Result<T, EngineError<<S as Repo>::Error>>;

struct OtherSide<'o> {
    unsent: &'o BTreeSet<VersionId>,
    in_step_at: Option<Seq>,
    whole: bool,
}

impl Receiver for OtherSide<'_> {
    fn knows(&self, version: &VersionId) -> bool {
        !self.unsent.contains(version)
    }
    fn in_step_at(&self) -> Option<Seq> {
        self.in_step_at
    }
    fn wants_whole(&self) -> bool {
        self.whole
    }
}

/// The next request: as many unsent versions as make a page.
///
/// # Errors
/// [`EngineError`].
pub fn request<S: ReplicaStore>(store: &S, asking: &Asking) -> Fallible<Request, S> {
    let unsent =
        if asking.pull_only { Vec::new() } else { store.unsent().map_err(EngineError::Repo)? };
    request_with(store, asking, &unsent, Vec::new())
}

/// After a walk: tells what is here of notes that differ, and sends every version of them whose
/// content is still here, because the other side may have forgotten more than their heads: also
/// what a file or displaced bytes were last in step with, to which a merge made elsewhere need not
/// lead back here.
///
/// # Errors
/// [`EngineError`].
pub fn request_for<S: ReplicaStore>(
    store: &S,
    asking: &Asking,
    notes: &[NoteId],
) -> Fallible<Request, S> {
    let mut have = Vec::with_capacity(notes.len());
    let mut versions = Vec::new();
    let displaced = store.displaced().map_err(EngineError::Repo)?;
    for note in notes {
        let heads = store.heads(note).map_err(EngineError::Repo)?;
        if !asking.pull_only {
            let displaced: Vec<&Displaced> =
                displaced.iter().filter(|displaced| displaced.note == *note).collect();
            versions.extend(all_known(store, note, &heads, &displaced)?);
        }
        have.push(Have { note: *note, heads });
    }
    let asking = Asking { whole: true, cursor: None, ..asking.clone() };
    request_with(store, &asking, &versions, have)
}

/// The versions of a note that are here with their bytes, parents first: what `heads`, its file and
/// its displaced bytes descend from.
fn all_known<S: ReplicaStore>(
    store: &S,
    note: &NoteId,
    heads: &[VersionId],
    displaced: &[&Displaced],
) -> Fallible<Vec<VersionId>, S> {
    const VERSIONS_MAX: usize = 64;
    let row = store.file_of(note).map_err(EngineError::Repo)?;
    // A blob that lies nowhere here, any more or yet, cannot be sent.
    let has_file = |content: &ContentHash| {
        row.as_ref().is_some_and(|row| row.content == *content)
            || displaced.iter().any(|displaced| displaced.content == *content)
    };
    let mut open: Vec<VersionId> = displaced.iter().map(|displaced| displaced.version).collect();
    open.extend(row.as_ref().map(|row| row.version));
    // Taken from the end: heads come first where there are too many.
    open.extend(heads);
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if found.len() >= VERSIONS_MAX || !seen.insert(id) {
            continue;
        }
        let Some(version) = store.version(&id).map_err(EngineError::Repo)? else { continue };
        let is_here = match version.live() {
            Some(live) if is_inline(live) => {
                store.has_content(&live.content).map_err(EngineError::Repo)?
            }
            Some(live) => has_file(&live.content),
            None => true,
        };
        if is_here {
            found.push((version.stamp, id));
        }
        open.extend(&version.parents);
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, id)| id).collect())
}

fn request_with<S: ReplicaStore>(
    store: &S,
    asking: &Asking,
    versions: &[VersionId],
    have: Vec<Have>,
) -> Fallible<Request, S> {
    let meta = store.meta().map_err(EngineError::Repo)?;
    let staged = Staged::new(store);
    let set: BTreeSet<VersionId> = versions.iter().copied().collect();
    let in_step_at = match &meta.common_root {
        Some(root) => store.seq_of_root(root).map_err(EngineError::Repo)?,
        None => None,
    };
    let receiver = OtherSide { unsent: &set, in_step_at, whole: asking.whole };
    let mut packer = Packer::new(&staged, meta.vault, &receiver);
    let most = asking.at_most.filter(|_| have.is_empty()).unwrap_or(usize::MAX);
    let taken = packer.push_all(&versions[..versions.len().min(most)])?;
    let sent = versions[..taken].to_vec();
    let mut blobs = Vec::new();
    for id in &sent {
        let version = staged.known_version(id)?;
        if let Some(live) = version.live().filter(|live| !is_inline(live)) {
            blobs.push((live.content, *id));
        }
    }
    let round = Round {
        replica: meta.replica,
        common: meta.common_root,
        cursor: asking.cursor,
        push: packer.finish()?,
        more: taken < versions.len(),
        have,
        allow_mass_delete: asking.allow_mass_delete,
        whole: asking.whole,
        policies: asking.policies.clone(),
        conflicts_seen: meta.conflicts_seen,
        closed: if asking.pull_only {
            Vec::new()
        } else {
            store.closed_unsent().map_err(EngineError::Repo)?
        },
        walk: None,
    };
    let unsent = store.unsent().map_err(EngineError::Repo)?;
    let holds_back = asking.pull_only && !unsent.is_empty();
    Ok(Request { round, sent, blobs, holds_back })
}

/// What an answer changes here.
#[derive(Debug)]
pub struct Absorbed {
    /// To commit.
    pub batch: ReplicaBatch,
    /// Whether both sides have the same root now. Only said after the last page.
    pub in_step: bool,
    /// Versions that were new here.
    pub pulled: u64,
    /// Conflict records that were new here.
    pub conflicts: Vec<Conflict>,
    /// The replica id is in use by a copy of this folder: a new one has to be drawn.
    pub cloned: bool,
    /// Notes that were deleted or emptied there and live on ([`Losses::Undone`]); to be sent.
    pub kept: Vec<VaultPath>,
}

/// What becomes of notes that the other side deleted or emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Losses {
    /// They go here too.
    Followed,
    /// Those that have a file here come back, as new versions on top of what took them away. In
    /// the same transaction: a crash leaves no deletion to be followed by the next round.
    Undone {
        /// The wall clock, uncorrected.
        now_ms: u64,
    },
}

/// Works an answer into the store.
///
/// # Errors
/// [`UnpackError`]: what was sent is not to be believed, or refers to what is not here
/// ([`UnpackError::Unresolved`]: ask again with `whole`).
pub fn absorb<S: ReplicaStore>(
    store: &S,
    request: &Request,
    done: Done,
    policies: &Policies,
    losses: Losses,
) -> Result<Absorbed, UnpackError<S::Error>> {
    let mut meta = store.meta().map_err(EngineError::Repo)?;
    let mut staged = Staged::new(store);
    let in_step_at = match (&meta.common_root, request.round.have.is_empty()) {
        (Some(root), true) => store.seq_of_root(root).map_err(EngineError::Repo)?,
        _ => None,
    };
    let received =
        Unpacker { staged: &mut staged, vault: meta.vault, in_step_at, blobs: Blobs::Later }
            .unpack(done.pull)?;
    let pulled = count_new(store, &received)?;
    observe(&staged, &mut meta, &received, done.now_ms)?;
    let mut conflicts = Vec::new();
    let mut closed = Vec::new();
    for news in done.conflicts {
        let known = store.conflict(&news.conflict.id).map_err(EngineError::Repo)?.is_some();
        if news.closed {
            closed.push(news.conflict.id);
        } else if !known {
            conflicts.push(news.conflict.clone());
        }
        staged.put_conflicts([news.conflict]);
    }
    staged.close_conflicts(closed);
    let mut unsent = merge_here(&mut staged, &request.sent, policies)?;
    let files = match losses {
        Losses::Followed => Vec::new(),
        Losses::Undone { now_ms } => {
            bring_back(store, &mut staged, Minter::new(&mut meta, now_ms))?
        }
    };
    let kept = files.iter().map(|row| row.disk_path.clone()).collect();
    unsent.extend(files.iter().map(|row| row.version));
    let repo = staged.finish()?;
    let root = root_after(store, &repo).map_err(EngineError::Repo)?;
    let last = done.next.is_none() && !request.round.more;
    let in_step = last && (root == done.root || request.holds_back);
    meta.conflicts_seen = done.conflicts_seen;
    meta.pulled = done.next.filter(|_| request.round.have.is_empty()).map(|next| next.after);
    if in_step {
        meta.common_root = done.root;
        meta.pulled = None;
        meta.joined = true;
    }
    let cloned = done.counter > meta.counter;
    meta.acked_counter = meta.acked_counter.max(acked_counter(store, &meta, &request.sent)?);
    let batch = ReplicaBatch {
        repo,
        meta: Some(meta),
        unsent,
        files,
        acked: request.sent.clone(),
        closed_acked: request.round.closed.clone(),
        ..ReplicaBatch::default()
    };
    Ok(Absorbed { batch, in_step, pulled, conflicts, cloned, kept })
}

/// Versions that bring back what is deleted or emptied now and has a file here, as the rows of
/// those files.
fn bring_back<S: ReplicaStore>(
    store: &S,
    staged: &mut Staged<'_, S>,
    mut minter: Minter<'_>,
) -> Fallible<Vec<FileRow>, S> {
    let mut files = Vec::new();
    for note in staged.touched() {
        let Some(row) = store.file_of(&note).map_err(EngineError::Repo)? else { continue };
        let was = staged.known_version(&row.version)?;
        let heads = staged.heads(&note)?;
        let [head] = heads[..] else { continue };
        let now = staged.known_version(&head)?;
        // Of a note emptied here the row tells that; its version still has the words.
        let Some(live) = was.live() else { continue };
        if Loss::between(&[&*was], &[&*now]) != Loss::None {
            let version = minter.mint_back(staged, head, live.clone())?;
            files.push(FileRow { version, ..row });
        }
    }
    Ok(files)
}

/// Merges what has several heads here too; those merge versions are unsent until the other side
/// has them (it usually makes the very same ones). What was sent and is still beside another head
/// the other side could not merge: it has forgotten what both were made from.
fn merge_here<S: ReplicaStore>(
    staged: &mut Staged<'_, S>,
    sent: &[VersionId],
    policies: &Policies,
) -> Fallible<Vec<VersionId>, S> {
    let mut made = Vec::new();
    let policy = |path: &_| policies.overlap(path);
    let mut notes: BTreeSet<NoteId> = staged.touched().into_iter().collect();
    for id in sent {
        notes.insert(staged.known_version(id)?.note);
    }
    for note in notes {
        if let Merging::Merged(_) = staged.merge_heads(&note, &policy)? {
            made.extend(staged.heads(&note)?);
        }
    }
    Ok(made)
}

fn count_new<S: ReplicaStore>(store: &S, received: &[VersionId]) -> Fallible<u64, S> {
    let mut new = 0;
    for id in received {
        new += u64::from(store.version(id).map_err(EngineError::Repo)?.is_none());
    }
    Ok(new)
}

fn observe<S: ReplicaStore>(
    staged: &Staged<'_, S>,
    meta: &mut ReplicaMeta,
    received: &[VersionId],
    now_ms: u64,
) -> Fallible<(), S> {
    let mut clock = Hlc::new(meta.ticks);
    for id in received {
        let stamp = staged.known_version(id)?.stamp;
        // Of a clock that was wrong: what is written on top of it is later, and nothing else.
        if !is_ahead(stamp, now_ms) {
            clock.observe(stamp);
        }
    }
    meta.ticks = clock.last_ticks();
    Ok(())
}

fn acked_counter<S: ReplicaStore>(
    store: &S,
    meta: &ReplicaMeta,
    sent: &[VersionId],
) -> Fallible<u64, S> {
    let mut counter = 0;
    for id in sent {
        let version = store.version(id).map_err(EngineError::Repo)?;
        let dot = version.and_then(|version| version.dot());
        let own = dot.filter(|dot| dot.replica == meta.replica);
        counter = counter.max(own.map_or(0, |dot| dot.counter));
    }
    Ok(counter)
}

/// The notes of a walk's differences.
pub fn notes(differing: &[Difference]) -> impl Iterator<Item = NoteId> + '_ {
    differing.iter().map(|difference| difference.note)
}
