//! The shared text of a session; the one file that names the CRDT library.
//!
//! Invariants: the library's document stays *detached* (attached, each import walks its graph:
//! 0.65 to 2.5 ms instead of 1 to 2 µs); everything it took is also in its log, so a document that
//! foreign bytes broke is built anew without them; **what is given out was taken by another
//! document first** (the mirror), as clients will take it; only the host seeds, with peers that no
//! client may use; nothing here gives out shallow snapshots.
//!
//! Foreign bytes can panic the library (loro#1046, #1068, #1118): every call that sees them is
//! guarded, and what panicked is thrown away whole. Some abort the process, which no guard stops:
//! whoever takes bytes from strangers keeps documents in a process of their own
//! (`docs/decisions/0015`). And some are taken without a word, and what the library then makes of
//! them is what it cannot read itself (one changed bit in 400): hence the mirror.

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crucible_core::text_diff::edits;
use loro::{ContainerID, ContainerType, EncodedBlobMode, ExportMode, ID, LoroDoc, VersionVector};

use crate::limits::{DOCUMENT_BYTES_MAX, IMPORTS_MAX, UPDATE_BYTES_MAX};

#[cfg(test)]
mod tests;

/// Who writes, for the CRDT: every connection has one of its own.
pub type Peer = u64;

/// The name of the one container of a session's document.
pub const CONTAINER: &str = "text";

/// Peers from here on are the host's: the first seeds, each later one brings one edit from outside.
pub const HOST_PEERS: Range<Peer> = (u64::MAX - u32::MAX as u64)..u64::MAX;

/// Pieces that one edit from outside replaces, times the length of the text: what it costs the
/// library. 2^28 take a fifth of a second.
const EDIT_STEPS_MAX: usize = 1 << 28;

/// What came since the last look is taken by an attached mirror up to this size, in bytes: typing,
/// not a whole text with all lines changed, which takes the attached library minutes.
const ATTACHED_BYTES_MAX: usize = 16 << 10;

/// A state of the document: which edits of whom are in it. Encoded as the library's version vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocVersion(Vec<u8>);

impl DocVersion {
    /// From bytes of a peer; `None` when they are no version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let decoded = guarded(|| VersionVector::decode(bytes).ok())??;
        Some(Self(decoded.encode()))
    }

    /// The bytes of the wire and of the store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The version that has what each of these has; `None` for none at all.
    pub fn join(versions: &[Self]) -> Option<Self> {
        let (first, others) = versions.split_first()?;
        let mut vector = first.vector();
        others.iter().for_each(|version| vector.merge(&version.vector()));
        Some(Self::of(&vector))
    }

    fn of(vector: &VersionVector) -> Self {
        Self(vector.encode())
    }

    fn vector(&self) -> VersionVector {
        VersionVector::decode(&self.0).expect("it was encoded by this library")
    }
}

/// Why an update was not taken. The document is what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No update of this library, or not one it can read.
    #[error("the update cannot be read")]
    Malformed,
    /// A snapshot where only edits are taken.
    #[error("only updates are taken, no snapshots")]
    NotAnUpdate,
    /// More than [`UPDATE_BYTES_MAX`].
    #[error("the update is larger than {UPDATE_BYTES_MAX} bytes")]
    TooLarge,
    /// Edits in the name of a peer that is not the sender's.
    #[error("the update writes in the name of another peer")]
    ForeignPeer,
    /// It touches something else than the note's text.
    #[error("the update touches something else than the text")]
    ForeignContainer,
    /// It brings other edits than its head says.
    #[error("the update is not what it says")]
    Misleading,
    /// It follows edits that are not here; the sender should join again by version.
    #[error("the update follows edits that are not here")]
    Gap,
    /// The library panicked over it.
    #[error("the update broke the document, which was built anew without it")]
    Panicked,
    /// The text would be longer than [`DOCUMENT_BYTES_MAX`].
    #[error("the note would be longer than {DOCUMENT_BYTES_MAX} bytes")]
    TooLong,
}

/// Why stored bytes are no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored document cannot be read")]
pub struct Unreadable;

/// What an update brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Whose edits were new; empty when all of it was known.
    pub peers: BTreeSet<Peer>,
}

/// When to look at the text after an import. An edit beyond the end of the text is taken by an
/// import and breaks only the look; a look costs 0.3 to 2.5 ms where many write at once (measured),
/// an import 10 µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// At once: what would break it is refused before anybody hears of it.
    Now,
    /// With the next [`Document::look`].
    Later,
}

/// Who brought an update, as the caller numbers them.
pub type Sender = u64;

/// The sender of what a document made itself.
pub const OURS: Sender = u64::MAX;

/// What the document was built from, in order: a snapshot and every update taken since.
#[derive(Debug, Clone)]
struct Log {
    snapshot: Arc<[u8]>,
    updates: Vec<(Sender, Arc<[u8]>)>,
}

/// The text of a session, with the history that lets everybody's edits meet.
#[derive(Debug)]
pub struct Document {
    doc: LoroDoc,
    /// What a client has that was there from the beginning: it never saw foreign bytes, only what
    /// `doc` made of them, and with each look it is attached, as clients are. `None` when not even
    /// that can be had; then nothing is given out.
    mirror: Option<LoroDoc>,
    log: Log,
    /// So many of the log's updates have been looked at, here and in the mirror.
    looked: usize,
    /// So many are in the mirror.
    mirrored: usize,
    /// The last update that the mirror took, and what it followed.
    newest: Option<(VersionVector, Vec<u8>)>,
    /// Who brought what a look broke over, until somebody asks.
    poisoners: BTreeSet<Sender>,
    /// At most this long: the text at the last count, and all bytes that came since.
    bytes_at_most: usize,
}

impl Document {
    /// A new document with this text, written by the host. Two documents seeded alike are still
    /// two: their edits must never meet (the note would stand there twice).
    pub fn seed(text: &str) -> Self {
        let doc = LoroDoc::new();
        doc.set_peer_id(HOST_PEERS.start).expect("a fresh document takes any peer");
        doc.get_text(CONTAINER).insert(0, text).expect("0 is in every text");
        doc.commit();
        let snapshot = exported(&doc, ExportMode::Snapshot).expect("it is its own text alone");
        Self::open(&snapshot).expect("its own snapshot is readable")
    }

    /// A document from [`Self::snapshot`].
    ///
    /// # Errors
    /// [`Unreadable`] when the bytes are anything else.
    pub fn open(snapshot: &[u8]) -> Result<Self, Unreadable> {
        let log = Log { snapshot: snapshot.into(), updates: Vec::new() };
        let doc = guarded(|| log.replay()).flatten().ok_or(Unreadable)?;
        let bytes_at_most = guarded(|| current_text(&doc)).ok_or(Unreadable)?.len();
        let mut document = Self {
            doc,
            mirror: None,
            log,
            looked: 0,
            mirrored: 0,
            newest: None,
            poisoners: BTreeSet::new(),
            bytes_at_most,
        };
        document.mirror_anew(Look::Later);
        Ok(document)
    }

    /// Which edits it holds.
    pub fn version(&self) -> DocVersion {
        DocVersion::of(&self.doc.oplog_vv())
    }

    /// Takes an update from a client. `is_senders` says in whose name it may bring new edits.
    /// Known edits change nothing, whoever brings them.
    ///
    /// # Errors
    /// [`Refusal`]; the document is then as before.
    pub fn import(
        &mut self,
        sender: Sender,
        update: &[u8],
        is_senders: impl Fn(Peer) -> bool,
        look: Look,
    ) -> Result<Imported, Refusal> {
        if update.len() > UPDATE_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        if look == Look::Now {
            // What breaks the look after this import is then this import.
            self.look();
        }
        let before = self.doc.oplog_vv();
        let new = new_edits(update, &before)?;
        if new.iter().any(|edits| HOST_PEERS.contains(&edits.peer) || !is_senders(edits.peer)) {
            return Err(Refusal::ForeignPeer);
        }
        if new.is_empty() {
            return Ok(Imported { peers: BTreeSet::new() });
        }
        self.take(sender, update, (&before, &new), look).inspect_err(|_| self.rebuild())?;
        if look == Look::Now {
            if !self.mirrors(look) {
                self.log.updates.pop();
                self.begin_anew();
                return Err(Refusal::Panicked);
            }
            self.looked = self.log.updates.len();
        }
        if self.log.updates.len() >= IMPORTS_MAX {
            // Without one, the log is long for longer.
            let _ = self.snapshot();
        }
        Ok(Imported { peers: new.iter().map(|edits| edits.peer).collect() })
    }

    /// Imports and looks at what came; after an error the document is to be built anew.
    fn take(
        &mut self,
        sender: Sender,
        update: &[u8],
        (before, new): (&VersionVector, &[Edits]),
        look: Look,
    ) -> Result<(), Refusal> {
        let imported = guarded(|| self.doc.import(update)).ok_or(Refusal::Panicked)?;
        let status = imported.map_err(|_| Refusal::Malformed)?;
        if status.pending.is_some() {
            return Err(Refusal::Gap);
        }
        // Its head may say something else than what is in it.
        let mut said = before.clone();
        said.extend(new.iter().map(|edits| (edits.peer, edits.counters.end)));
        if self.doc.oplog_vv() != said {
            return Err(Refusal::Misleading);
        }
        let text = ContainerID::new_root(CONTAINER, ContainerType::Text);
        let strays = guarded(|| {
            let touched = |edits: &Edits| {
                let first = ID::new(edits.peer, edits.counters.start);
                self.doc.get_changed_containers_in(first, edits.counters.len())
            };
            new.iter().any(|edits| touched(edits).iter().any(|id| *id != text))
        });
        if strays.ok_or(Refusal::Panicked)? {
            return Err(Refusal::ForeignContainer);
        }
        self.bytes_at_most += update.len();
        if self.bytes_at_most > DOCUMENT_BYTES_MAX {
            let text = guarded(|| current_text(&self.doc)).ok_or(Refusal::Panicked)?;
            self.bytes_at_most = text.len();
            if text.len() > DOCUMENT_BYTES_MAX {
                return Err(Refusal::TooLong);
            }
        }
        if look == Look::Now {
            guarded(|| looked_at(&self.doc)).ok_or(Refusal::Panicked)?.ok_or(Refusal::Malformed)?;
        }
        self.log.updates.push((sender, update.into()));
        Ok(())
    }

    /// Looks at the text, here and in the mirror. What breaks either is taken out again, with all
    /// that builds on it; who brought it is in [`Self::poisoners`].
    pub fn look(&mut self) {
        let taken = self.log.updates.len();
        if self.looked == taken && self.mirrored == taken {
            return;
        }
        if guarded(|| looked_at(&self.doc)).flatten().is_some() && self.mirrors(Look::Now) {
            self.looked = taken;
        } else {
            self.sift();
        }
    }

    /// Lets the mirror take what it lacks, if it can. With a look, the document has been looked at,
    /// and the mirror then has to show the same. It is attached for that: so it takes edits by their
    /// places in the text, as clients do, where what was mangled may break or leave another text.
    fn mirrors(&mut self, look: Look) -> bool {
        let taken = self.log.updates.len();
        let Some(mirror) = &self.mirror else { return false };
        if self.mirrored == taken && (look == Look::Later || self.looked == taken) {
            return true;
        }
        let doc = &self.doc;
        let took = guarded(|| {
            let had = mirror.oplog_vv();
            let update = exported(doc, ExportMode::updates(&had))?;
            match look {
                Look::Now if update.len() <= ATTACHED_BYTES_MAX => mirror.checkout_to_latest(),
                _ => mirror.detach(),
            }
            let status = mirror.import(&update).ok()?;
            let whole = status.pending.is_none() && mirror.oplog_vv() == doc.oplog_vv();
            let alike = look == Look::Later || {
                mirror.checkout_to_latest();
                shown(mirror) == shown(doc)
            };
            (whole && alike).then_some((had, update))
        });
        self.newest = took.flatten();
        if self.newest.is_none() {
            self.mirror = None;
            return false;
        }
        self.mirrored = taken;
        true
    }

    /// A mirror of what the log has.
    fn mirror_anew(&mut self, look: Look) {
        let whole = Log { snapshot: Arc::clone(&self.log.snapshot), updates: Vec::new() };
        let old = std::mem::replace(&mut self.mirror, guarded(|| whole.replay()).flatten());
        guarded(|| drop(old));
        self.mirrored = 0;
        self.mirrors(look);
    }

    /// Takes what was not looked at again, one by one, without what breaks.
    fn sift(&mut self) {
        let unproven = self.log.updates.split_off(self.looked);
        self.begin_anew();
        for (sender, update) in unproven {
            let imported = guarded(|| self.doc.import(&update).ok());
            let whole = imported.flatten().is_some_and(|status| status.pending.is_none());
            let good = whole && guarded(|| looked_at(&self.doc)).flatten().is_some();
            self.log.updates.push((sender, update));
            // Where there is no mirror any more, this update is not the cause.
            if good && (self.mirror.is_none() || self.mirrors(Look::Now)) {
                self.looked = self.log.updates.len();
            } else {
                self.log.updates.pop();
                self.poisoners.insert(sender);
                self.begin_anew();
            }
        }
    }

    /// Document and mirror of what the log has.
    fn begin_anew(&mut self) {
        self.rebuild();
        self.looked = 0;
        guarded(|| looked_at(&self.doc));
        self.mirror_anew(Look::Now);
        self.looked = self.log.updates.len();
    }

    /// Who brought what broke the document after it had been taken; told once. Then the others
    /// may have edits that are not here any more: they need another document.
    pub fn poisoners(&mut self) -> BTreeSet<Sender> {
        std::mem::take(&mut self.poisoners)
    }

    /// [`Self::poisoners`] with these numbers only; the others stay to be asked for.
    pub fn poisoners_among(&mut self, senders: Range<Sender>) -> BTreeSet<Sender> {
        let all = std::mem::take(&mut self.poisoners);
        let (among, others) = all.into_iter().partition(|sender| senders.contains(sender));
        self.poisoners = others;
        among
    }

    /// Gives senders that were numbered from `first` on for one turn the numbers they keep.
    pub fn rename_senders(&mut self, first: Sender, kept: impl Iterator<Item = Sender>) {
        let kept: Vec<_> = kept.collect();
        for (sender, _) in self.log.updates.iter_mut().rev() {
            let Some(name) = sender.checked_sub(first).and_then(|at| kept.get(at as usize)) else {
                break;
            };
            *sender = *name;
        }
    }

    /// Takes an update that was taken before, from the journal after a crash; looked at later.
    ///
    /// # Errors
    /// [`Unreadable`] when it is none; the document is then as before.
    pub fn replay(&mut self, sender: Sender, update: &[u8]) -> Result<(), Unreadable> {
        let imported = guarded(|| self.doc.import(update).ok());
        match imported.flatten() {
            Some(status) if status.pending.is_none() => {
                self.log.updates.push((sender, update.into()));
                self.bytes_at_most += update.len();
                Ok(())
            }
            _ => {
                self.rebuild();
                Err(Unreadable)
            }
        }
    }

    /// All that came after `before`, the version at the last call, as the mirror took it.
    ///
    /// # Errors
    /// [`Unreadable`] when no client could take it.
    pub fn news(&mut self, before: &DocVersion) -> Result<Vec<u8>, Unreadable> {
        self.bring_to_mirror();
        match self.newest.take() {
            Some((had, update)) if had == before.vector() => Ok(update),
            _ => self.updates_since(before),
        }
    }

    /// Everything that is not in `known`, as one update.
    ///
    /// # Errors
    /// [`Unreadable`] when no client could take it.
    pub fn updates_since(&mut self, known: &DocVersion) -> Result<Vec<u8>, Unreadable> {
        self.given(ExportMode::updates(&known.vector()))
    }

    fn bring_to_mirror(&mut self) {
        if !self.mirrors(Look::Later) {
            self.sift();
        }
    }

    /// What the mirror gives.
    fn given(&mut self, mode: ExportMode<'_>) -> Result<Vec<u8>, Unreadable> {
        self.bring_to_mirror();
        let mirror = self.mirror.as_ref().ok_or(Unreadable)?;
        guarded(|| exported(mirror, mode)).flatten().ok_or(Unreadable)
    }

    /// The text with all edits in it.
    pub fn text(&mut self) -> String {
        self.look();
        let text = current_text(&self.doc);
        self.bytes_at_most = text.len();
        text
    }

    /// Makes `text` of what the document was at `at`, and lets that meet everything that came
    /// since: words written after `at` are not touched by an edit whose author had not seen them.
    /// Returns the update that did it and the version whose text is exactly `text`.
    ///
    /// # Errors
    /// [`Unreadable`] when `at` is not in this document's past.
    pub fn edit_at(
        &mut self,
        at: &DocVersion,
        text: &str,
    ) -> Result<(Vec<u8>, DocVersion), Unreadable> {
        self.look();
        let past = at.vector();
        if !self.doc.oplog_vv().includes_vv(&past) {
            return Err(Unreadable);
        }
        let fork = self.doc.fork_at(&self.doc.vv_to_frontiers(&past)).map_err(|_| Unreadable)?;
        self.doc.detach();
        fork.set_peer_id(self.next_host_peer()).expect("the fork has nothing uncommitted");
        let container = fork.get_text(CONTAINER);
        let before = container.to_string();
        let (mut read, mut at) = (0, 0);
        for Replaced { gone, new } in replaced(&before, text) {
            at += before[read..gone.start].chars().count();
            read = gone.end;
            container.delete(at, before[gone].chars().count()).expect("it is in the text");
            container.insert(at, &text[new.clone()]).expect("it is in the text");
            at += text[new].chars().count();
        }
        fork.commit();
        let update = exported(&fork, ExportMode::updates(&past)).ok_or(Unreadable)?;
        self.replay(OURS, &update)?;
        self.looked = self.log.updates.len();
        self.mirrors(Look::Later);
        Ok((update, DocVersion::of(&fork.oplog_vv())))
    }

    /// The first peer of the host's that has written nothing yet: where two edits start at
    /// different versions, one peer could not have made both.
    fn next_host_peer(&self) -> Peer {
        let vector = self.doc.oplog_vv();
        let last = vector.keys().copied().filter(|peer| HOST_PEERS.contains(peer)).max();
        last.map_or(HOST_PEERS.start, |last| last + 1)
    }

    /// The whole document in one piece; what it was built from is forgotten in its favour.
    ///
    /// # Errors
    /// [`Unreadable`] when no client could take it; the document stays what it was.
    pub fn snapshot(&mut self) -> Result<Arc<[u8]>, Unreadable> {
        self.look();
        if !self.log.updates.is_empty() {
            let snapshot = self.given(ExportMode::Snapshot)?;
            let log = Log { snapshot: snapshot.into(), updates: Vec::new() };
            let replayed =
                guarded(|| log.replay().filter(|doc| current_text(doc) == current_text(&self.doc)));
            let fresh = replayed.flatten().ok_or(Unreadable)?;
            let old = std::mem::replace(&mut self.doc, fresh);
            guarded(|| drop(old));
            self.log = log;
            self.looked = 0;
            self.mirror_anew(Look::Later);
        }
        Ok(Arc::clone(&self.log.snapshot))
    }

    /// Builds the document anew from what it took, and throws the old one away.
    fn rebuild(&mut self) {
        let fresh = self.log.replay().expect("all of it was taken before");
        let old = std::mem::replace(&mut self.doc, fresh);
        // A document that panicked may panic again as it goes; nothing of it is needed.
        guarded(|| drop(old));
    }
}

impl Log {
    fn replay(&self) -> Option<LoroDoc> {
        let doc = LoroDoc::new();
        // Attached, a snapshot brings its state along; detached, the first look at the text would
        // play all of history (minutes for 4 MB).
        doc.import(&self.snapshot).ok()?;
        doc.detach();
        for (_, update) in &self.updates {
            doc.import(update).ok()?;
        }
        Some(doc)
    }
}

/// Bytes of a text that became bytes of another.
struct Replaced {
    gone: Range<usize>,
    new: Range<usize>,
}

/// What is to be replaced to make `after` of `before`: words, so that what others type meanwhile
/// never ends up inside a word; larger pieces where so many words of a long text are others that
/// it would take too long.
fn replaced(before: &str, after: &str) -> Vec<Replaced> {
    let mut grown = 0_isize;
    let mut pieces: Vec<_> = edits(before, after)
        .into_iter()
        .map(|edit| {
            let start = edit.at.start.strict_add_signed(grown);
            grown += edit.text.len() as isize - edit.at.len() as isize;
            Replaced { gone: edit.at, new: start..start + edit.text.len() }
        })
        .collect();
    let pieces_max = EDIT_STEPS_MAX / before.len().max(after.len()).max(1);
    let mut near = 1;
    while pieces.len() > pieces_max.max(1) {
        near *= 4;
        pieces.dedup_by(|next, last| {
            let joins = next.gone.start - last.gone.end < near;
            if joins {
                (last.gone.end, last.new.end) = (next.gone.end, next.new.end);
            }
            joins
        });
    }
    pieces
}

/// Edits of one peer, by their counters.
struct Edits {
    peer: Peer,
    counters: Range<i32>,
}

/// Which edits of an update are not in `known`, without importing it.
fn new_edits(update: &[u8], known: &VersionVector) -> Result<Vec<Edits>, Refusal> {
    let decoded = guarded(|| LoroDoc::decode_import_blob_meta(update, true));
    let meta = decoded.ok_or(Refusal::Malformed)?.map_err(|_| Refusal::Malformed)?;
    if meta.mode != EncodedBlobMode::Updates {
        return Err(Refusal::NotAnUpdate);
    }
    let mut new = Vec::new();
    for (peer, end) in meta.partial_end_vv.iter() {
        let have = known.get(peer).copied().unwrap_or(0);
        let start = meta.partial_start_vv.get(peer).copied().unwrap_or(0);
        if start > have {
            return Err(Refusal::Gap);
        }
        if *end > have {
            new.push(Edits { peer: *peer, counters: have..*end });
        }
    }
    Ok(new)
}

/// Brings the text up to what was imported, and the document back to detached.
fn looked_at(doc: &LoroDoc) -> Option<()> {
    doc.checkout(&doc.oplog_frontiers()).ok()?;
    doc.detach();
    Some(())
}

/// The text that a document is at.
fn shown(doc: &LoroDoc) -> String {
    doc.get_text(CONTAINER).to_string()
}

fn current_text(doc: &LoroDoc) -> String {
    doc.checkout_to_latest();
    let text = shown(doc);
    doc.detach();
    text
}

fn exported(doc: &LoroDoc, mode: ExportMode<'_>) -> Option<Vec<u8>> {
    let bytes = doc.export(mode).ok();
    // Some exports attach it again.
    doc.detach();
    bytes
}

/// `None` when it panicked.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}
