//! Reads everything and proves what must hold; repairs nothing.
//!
//! Every finding is one broken promise with the thing it is about. Memory grows with the number
//! of versions, not with their bytes.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crucible_core::ancestry::VersionRead;
use crucible_core::hash::ContentHash;
use crucible_core::heads;
use crucible_core::id::{NoteId, RootHash, VersionId};
use crucible_core::merkle::{Change, Leaf, MemoryTree, update};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Version;
use crucible_sync::repo::Repo;
use rusqlite::{Connection, Row};

use crate::blob_store::BlobStore;
use crate::contents::{self, Content, Decoded, Form};
use crate::error::{Fault, StoreError};
use crate::server_vault::ServerVault;
use crate::sync_db::SyncDb;
use crate::vault_db::{SELECT_VERSION, Seen, VaultDb};
use crate::write_batch::{decode_conflict, decode_heads};

/// What was read, and what does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Versions read.
    pub versions: u64,
    /// Contents decoded and hashed.
    pub contents: u64,
    /// Blobs hashed.
    pub blobs: u64,
    /// Conflict records read.
    pub conflicts: u64,
    /// Whatever does not hold; empty for a sound store.
    pub findings: Vec<Finding>,
}

/// One promise that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// SQLite finds its own pages damaged.
    Pages(String),
    /// A part of the tables cannot be read to its end, and what rests on it was not looked at.
    Unreadable(&'static str),
    /// A version's row gives another version, or none.
    Version(VersionId, &'static str),
    /// A note's heads, newest version or life do not follow from its versions.
    Note(NoteId, &'static str),
    /// Bytes that do not decode, or have another hash.
    Content(ContentHash),
    /// A head names bytes that are not stored.
    Missing(ContentHash),
    /// A stored large asset has another hash.
    Blob(ContentHash),
    /// The tree is not the tree over the heads.
    Tree(String),
    /// A conflict record does not decode.
    Conflict(u64),
    /// A count beside the tables is wrong.
    Count(&'static str),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pages(what) => write!(f, "SQLite: {what}"),
            Self::Unreadable(what) => write!(f, "{what} cannot be read to the end"),
            Self::Version(id, what) => write!(f, "version {}: {what}", id.short()),
            Self::Note(id, what) => write!(f, "note {}: {what}", id.short()),
            Self::Content(hash) => write!(f, "content {} is damaged", hash.short()),
            Self::Missing(hash) => write!(f, "content {} of a head is missing", hash.short()),
            Self::Blob(hash) => write!(f, "blob {} is damaged", hash.short()),
            Self::Tree(what) => write!(f, "tree: {what}"),
            Self::Conflict(position) => write!(f, "conflict record {position} does not decode"),
            Self::Count(what) => write!(f, "the count of {what} is wrong"),
        }
    }
}

impl ServerVault {
    /// Reads everything and proves what must hold.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read at all.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        self.db.check()
    }
}

impl SyncDb {
    /// Reads everything and proves what must hold. Bytes of heads that are only in the folder
    /// (large assets) are not missed.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read at all.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        let (report, in_folder) = self.db.reading(|| (self.db.check(), self.contents_of_files()));
        let (mut report, in_folder) = (report?, in_folder?);
        report.findings.retain(
            |finding| !matches!(finding, Finding::Missing(hash) if in_folder.contains(hash)),
        );
        Ok(report)
    }

    fn contents_of_files(&self) -> Result<HashSet<ContentHash>, StoreError> {
        self.db.read(|conn, _| {
            let mut select = conn.prepare("SELECT content FROM files")?;
            let hashes = select.query_map([], |row| Ok(ContentHash::from_bytes(row.get(0)?)))?;
            Ok(hashes.collect::<Result<_, _>>()?)
        })
    }
}

/// A note as its versions say it is.
#[derive(Default)]
struct Derived {
    /// Versions that are no version's parent, by position.
    leaves: HashMap<u64, Leafy>,
    newest: u64,
}

struct Leafy {
    id: VersionId,
    stamp: Stamp,
    live: Option<(VaultPath, ContentHash)>,
}

/// A version that is nobody's parent and yet no head.
struct Doubt {
    note: NoteId,
    heads: Vec<VersionId>,
    version: VersionId,
}

impl VersionRead for VaultDb {
    type Error = StoreError;

    fn version(&self, id: &VersionId) -> Result<Option<Arc<Version>>, StoreError> {
        Repo::version(self, id)
    }
}

impl VaultDb {
    /// All of it at one moment: a writer in another process does not show half of a commit.
    pub(crate) fn check(&self) -> Result<CheckReport, StoreError> {
        let mut report = self.reading(|| self.check_database())?;
        self.check_blobs(&mut report)?;
        Ok(report)
    }

    fn check_database(&self) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport::default();
        let notes = self.read(|tx, _| {
            let checked = check_pages(tx, &mut report);
            self.or_unreadable("pages", checked, &mut report)?;
            let checked = check_versions(tx, &mut report);
            let derived = self.or_unreadable("versions", checked, &mut report)?;
            let checked = derived
                .map(|derived| check_notes(tx, derived, &*self.blobs, &mut report))
                .transpose();
            let notes = self.or_unreadable("notes", checked, &mut report)?.flatten();
            let checked = check_contents(tx, &mut report);
            self.or_unreadable("contents", checked, &mut report)?;
            let checked = check_conflicts(tx, &mut report);
            self.or_unreadable("conflicts", checked, &mut report)?;
            Ok(notes)
        })?;
        if let Some((leaves, doubts)) = notes {
            let checked = self.check_against_notes(&leaves, doubts, &mut report);
            match checked {
                Err(StoreError::Damaged { .. }) => {
                    report.findings.push(Finding::Unreadable("the tree"));
                }
                checked => checked?,
            }
        }
        Ok(report)
    }

    /// What could be read; damage on the way becomes a finding, anything else ends the check.
    fn or_unreadable<T>(
        &self,
        part: &'static str,
        checked: Result<T, Fault>,
        report: &mut CheckReport,
    ) -> Result<Option<T>, Fault> {
        match checked {
            Err(fault) if fault.is_damage(&self.path) => {
                report.findings.push(Finding::Unreadable(part));
                Ok(None)
            }
            checked => checked.map(Some),
        }
    }

    fn check_against_notes(
        &self,
        leaves: &[Change],
        doubts: Vec<Doubt>,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        for doubt in doubts {
            // A version that is no head adds nothing to those: the law of `core::heads`.
            if heads::add(self, &doubt.heads, doubt.version)? != doubt.heads {
                report.findings.push(Finding::Note(doubt.note, "a version is hidden"));
            }
        }
        self.check_tree(leaves, report)
    }

    fn check_blobs(&self, report: &mut CheckReport) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.blobs.list(after.as_ref(), 1000)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.hash);
            for blob in page {
                report.blobs += 1;
                if !self.blobs.verify(&blob.hash)? {
                    report.findings.push(Finding::Blob(blob.hash));
                }
            }
        }
    }

    /// Builds the tree anew from the heads and holds the stored one against it.
    fn check_tree(&self, changes: &[Change], report: &mut CheckReport) -> Result<(), StoreError> {
        let mut wrong = |what: String| report.findings.push(Finding::Tree(what));
        let stored: u64 = self.read(|conn, _| {
            let count: i64 = conn.query_row("SELECT count(*) FROM nodes", [], |row| row.get(0))?;
            Ok(count as u64)
        })?;
        let built = match update(&MemoryTree::new(), None, changes) {
            Ok(built) => built,
            Err(error) => {
                wrong(error.to_string());
                return Ok(());
            }
        };
        if self.root()?.unwrap_or(RootHash::empty()) != built.root {
            wrong("its root is not the root over the heads".to_owned());
        }
        let mut found = 0;
        for (hash, body) in &built.added {
            match self.node(hash)? {
                Some(stored) if stored == *body => found += 1,
                Some(_) => wrong(format!("node {} has another body", hash.short())),
                // The root of nothing is not kept.
                None if built.root == RootHash::empty() => {}
                None => wrong(format!("node {} is missing", hash.short())),
            }
        }
        if found < stored {
            wrong(format!("{} nodes belong to no tree", stored - found));
        }
        Ok(())
    }
}

fn check_pages(conn: &Connection, report: &mut CheckReport) -> Result<(), Fault> {
    let mut select = conn.prepare("PRAGMA integrity_check")?;
    let rows = select.query_map([], |row| row.get::<_, String>(0))?;
    for line in rows.filter(|line| line.as_deref() != Ok("ok")) {
        report.findings.push(Finding::Pages(line?));
    }
    Ok(())
}

fn check_versions(
    conn: &Connection,
    report: &mut CheckReport,
) -> Result<HashMap<NoteId, Derived>, Fault> {
    let mut seen = Seen::uncached();
    let mut notes: HashMap<NoteId, Derived> = HashMap::new();
    let mut select =
        conn.prepare(&format!("{SELECT_VERSION} WHERE v.rest IS NOT NULL ORDER BY v.seq"))?;
    let mut rows = select.query([])?;
    let mut known = 0u64;
    let mut positions: HashMap<VersionId, (u64, u64)> = HashMap::new();
    while let Some(row) = rows.next()? {
        known += 1;
        let (seq, id) = (row.get::<_, i64>(0)? as u64, VersionId::from_bytes(row.get(1)?));
        let Ok(stored) = seen.version(conn, row) else {
            report.findings.push(Finding::Version(id, "its row does not decode"));
            continue;
        };
        let version = stored.version;
        check_version(&id, &version, &positions, report);
        let note = notes.entry(version.note).or_default();
        for parent in &version.parents {
            if let Some((at, _)) = positions.get(parent) {
                note.leaves.remove(at);
            }
        }
        note.newest = seq;
        let live = version.live().map(|live| (live.path.clone(), live.content));
        note.leaves.insert(seq, Leafy { id, stamp: version.stamp, live });
        positions.insert(id, (seq, version.stamp.ticks()));
    }
    report.versions = known;
    let sql = "SELECT count(*) FROM versions WHERE rest IS NOT NULL";
    let all: i64 = conn.query_row(sql, [], |row| row.get(0))?;
    if all as u64 != known {
        // The join lost rows that name no note.
        report.findings.push(Finding::Count("versions with a note"));
    }
    Ok(notes)
}

fn check_version(
    id: &VersionId,
    version: &Version,
    positions: &HashMap<VersionId, (u64, u64)>,
    report: &mut CheckReport,
) {
    let mut hold = |holds: bool, what| {
        if !holds {
            report.findings.push(Finding::Version(*id, what));
        }
    };
    hold(version.id() == *id, "its row gives another id");
    hold(positions.get(id).is_none(), "it is stored twice");
    for (_, ticks) in version.parents.iter().filter_map(|parent| positions.get(parent)) {
        hold(*ticks < version.stamp.ticks(), "its stamp is not after its parent's");
    }
}

fn check_notes(
    conn: &Connection,
    mut derived: HashMap<NoteId, Derived>,
    blobs: &dyn BlobStore,
    report: &mut CheckReport,
) -> Result<(Vec<Change>, Vec<Doubt>), Fault> {
    let mut select =
        conn.prepare("SELECT id, newest, heads, live FROM notes WHERE newest IS NOT NULL")?;
    let mut rows = select.query([])?;
    let (mut leaves, mut doubts) = (Vec::new(), Vec::new());
    let mut live_notes = 0;
    let forgotten: i64 = conn.query_row("SELECT forgotten FROM vault", [], |row| row.get(0))?;
    let forgotten = forgotten as u64;
    while let Some(row) = rows.next()? {
        let id = NoteId::from_bytes(row.get(0)?);
        let note = derived.remove(&id).unwrap_or_default();
        let heads = decode_heads(row.get(2)?)?;
        let live: bool = row.get(3)?;
        live_notes += u64::from(live);
        let mut hold = |holds: bool, what| {
            if !holds {
                report.findings.push(Finding::Note(id, what));
            }
        };
        hold(row.get::<_, i64>(1)? as u64 == note.newest, "another version is its newest");
        let known: Vec<_> = heads.iter().filter_map(|seq| note.leaves.get(seq)).collect();
        hold(known.len() == heads.len() && !heads.is_empty(), "a head is no head");
        hold(known.iter().any(|leaf| leaf.live.is_some()) == live, "its life is not its heads'");
        for (_, hash) in known.iter().filter_map(|leaf| leaf.live.as_ref()) {
            if !contents::is_here(conn, hash)? && blobs.size(hash)?.is_none() {
                report.findings.push(Finding::Missing(*hash));
            }
        }
        let ids = ids_of(&known);
        // What replaced an old version may have been forgotten.
        let left_out = note.leaves.iter().filter(|(seq, _)| !heads.contains(seq));
        for (_, leaf) in left_out.filter(|(seq, _)| **seq > forgotten) {
            doubts.push(Doubt { note: id, heads: ids.clone(), version: leaf.id });
        }
        leaves.push(Change { note: id, old: None, new: Some(leaf_of(&id, &known)) });
    }
    for id in derived.keys() {
        report.findings.push(Finding::Note(*id, "it has versions but no row"));
    }
    let (seq, live): (i64, i64) =
        conn.query_row("SELECT seq, live FROM vault", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let last: Option<i64> =
        conn.query_row("SELECT max(seq) FROM versions", [], |row| row.get(0))?;
    if live as u64 != live_notes {
        report.findings.push(Finding::Count("live notes"));
    }
    if last.unwrap_or(0) > seq {
        report.findings.push(Finding::Count("positions"));
    }
    Ok((leaves, doubts))
}

fn ids_of(heads: &[&Leafy]) -> Vec<VersionId> {
    let mut ids: Vec<_> = heads.iter().map(|head| head.id).collect();
    ids.sort_unstable();
    ids
}

/// A note's place in the tree is the path of its newest live head.
fn leaf_of(note: &NoteId, heads: &[&Leafy]) -> Leaf {
    let ids = ids_of(heads);
    let placed = heads.iter().filter_map(|head| Some((head, head.live.as_ref()?)));
    match placed.max_by_key(|(head, _)| (head.stamp, head.id)) {
        Some((_, (path, _))) => Leaf::live(path.clone(), note, &ids),
        None => Leaf::tombstone(note, &ids),
    }
}

fn check_contents(conn: &Connection, report: &mut CheckReport) -> Result<(), Fault> {
    let mut decoded = Decoded::default();
    let mut select = conn.prepare(&format!("SELECT {} FROM contents", contents::COLUMNS))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let hash = ContentHash::from_bytes(row.get(1)?);
        let sound = match contents::from_row(row).map_err(Fault::from) {
            Ok(content) if content.form == Form::Elsewhere => continue,
            Ok(content) => is_sound(conn, &mut decoded, content),
            Err(fault) => Err(fault),
        };
        report.contents += 1;
        let sound = match sound {
            Err(Fault::Damaged(_)) => false,
            sound => sound?,
        };
        if !sound {
            report.findings.push(Finding::Content(hash));
        }
    }
    Ok(())
}

fn is_sound(conn: &Connection, decoded: &mut Decoded, content: Content) -> Result<bool, Fault> {
    let (hash, bytes) = (content.hash, content.bytes);
    let raw = decoded.decode(conn, content)?;
    Ok(raw.is_some_and(|raw| raw.len() == bytes && contents::has_hash(&raw, &hash)))
}

fn check_conflicts(conn: &Connection, report: &mut CheckReport) -> Result<(), Fault> {
    let mut select = conn.prepare("SELECT position, id, body FROM conflicts")?;
    let row = |row: &Row<'_>| {
        Ok((row.get::<_, i64>(0)? as u64, row.get::<_, [u8; 16]>(1)?, row.get::<_, Vec<u8>>(2)?))
    };
    for row in select.query_map([], row)? {
        let (position, id, body) = row?;
        report.conflicts += 1;
        if !decode_conflict(&body).is_ok_and(|conflict| *conflict.id.as_bytes() == id) {
            report.findings.push(Finding::Conflict(position));
        }
    }
    Ok(())
}
