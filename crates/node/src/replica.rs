//! `Replica`: one folder, its store, and the round that brings both into step with another side.
//!
//! The order of a round is the order in which nothing can be lost: look at the folder and write
//! down what changed (`take_in`), send it and take in the answer (`exchange`),
//! bring the folder to what the heads say (`settle`). Exit is a promise: `Ok` means that
//! everything that was in the folder when the round began is stored on the other side.

use std::collections::BTreeMap;
use std::num::NonZero;

use crucible_core::id::{ReplicaId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_proto::message::PolicyRule;
use crucible_sync::mint::{self, Again};
use crucible_sync::policy::Policies;
use crucible_sync::replica::{FileRow, FileStat, ReplicaBatch, ReplicaMeta, ReplicaStore};
use crucible_sync::repo::Repo;
use crucible_sync::staged::{EngineError, Staged};
use crucible_vault::fs::{FileKind, FileSystem, Stat};
use crucible_vault::scan::{self, Cached, Root, Scan};
use crucible_vault::write::UniqueName;

use crate::error::SyncError;
use crate::link::Link;
use crate::mounts;
use crate::report::{Notice, Progress, Report};
use crate::round_log::Changed;
use crate::settle::Settled;
use crate::world::World;

/// Rounds after which two sides that still differ are a bug.
const ROUNDS_MAX: u32 = 3;

/// How this replica syncs.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What overlapping edits come to, first match wins.
    pub policies: Vec<PolicyRule>,
    /// The token allows reading only: edits stay here.
    pub read_only: bool,
    /// What a damaged store still told of the versions that files were made from, for the first
    /// contact of the one that took its place.
    pub bases: BTreeMap<VaultPath, VersionId>,
}

/// What this round may do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Go through with deletions the guard would ask about.
    pub allow_mass_delete: bool,
    /// Bring missing files back instead of deleting their notes; and where the other side would
    /// take so many away that the guard asks, keep those too.
    pub restore_missing: bool,
}

/// How the folder is looked through.
pub type Scanner<F> = fn(&F, &ScanRequest<'_>) -> Scan;

/// What a [`Scanner`] is given.
pub struct ScanRequest<'a> {
    rows: &'a BTreeMap<VaultPath, FileRow>,
    now_ns: i64,
    mounts: &'a [String],
    covered: &'a [String],
}

impl ScanRequest<'_> {
    fn with<C>(&self, cached: C) -> scan::Request<'_, C> {
        let Self { now_ns, mounts: known_mounts, covered, .. } = *self;
        scan::Request { cached, now_ns, known_mounts, covered, root: Root::Vault }
    }

    fn cached(&self, path: &str) -> Option<Cached> {
        let row = self.rows.get(path)?;
        Some(Cached {
            stat: to_stat(&row.stat),
            hash: row.content,
            kind: row.kind,
            scanned_at_ns: row.seen_ns,
        })
    }
}

/// Looks through the folder on this thread: for simulations.
pub fn scan_here<F: FileSystem>(fs: &F, request: &ScanRequest<'_>) -> Scan {
    let cached = |path: &str| request.cached(path);
    scan::scan(fs, &request.with(cached))
}

/// Looks through the folder on all cores.
pub fn scan_on_all_cores<F: FileSystem + Sync>(fs: &F, request: &ScanRequest<'_>) -> Scan {
    let cached = |path: &str| request.cached(path);
    let threads = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    scan::scan_parallel(fs, &request.with(cached), threads)
}

/// One folder in one vault.
pub struct Replica<F: FileSystem, S: ReplicaStore> {
    pub(crate) fs: F,
    pub(crate) store: S,
    pub(crate) settings: Settings,
    pub(crate) policies: Policies,
    scanner: Scanner<F>,
    recovered: bool,
}

/// What every step of a round works with.
pub(crate) struct Round<'w> {
    pub(crate) world: &'w mut dyn World,
    pub(crate) options: Options,
    pub(crate) progress: &'w mut dyn FnMut(Progress),
    pub(crate) report: Report,
    /// What was changed in the folder, for `undo`.
    pub(crate) changed: Vec<Changed>,
    /// What the guard would ask about on its way in comes back instead.
    pub(crate) undoes_losses: bool,
    /// That happened in this exchange.
    pub(crate) undid_losses: bool,
    /// What the last look at the folder found.
    pub(crate) scan: Option<Scan>,
    /// What is told of files that are not in place now.
    pub(crate) unplaced: Vec<Notice>,
}

impl<'w> Round<'w> {
    pub(crate) fn new(
        world: &'w mut dyn World,
        options: Options,
        progress: &'w mut dyn FnMut(Progress),
    ) -> Self {
        let (report, changed) = (Report::default(), Vec::new());
        let (undoes_losses, undid_losses) = (false, false);
        let (scan, unplaced) = (None, Vec::new());
        Self {
            world,
            options,
            progress,
            report,
            changed,
            undoes_losses,
            undid_losses,
            scan,
            unplaced,
        }
    }

    /// Tells that a file could not be written; taken back when it is tried again.
    pub(crate) fn tell_unplaced(&mut self, path: &VaultPath, reason: String) {
        let notice = Notice::NotPlaced { path: path.to_string(), reason };
        self.unplaced.push(notice.clone());
        self.report.notice(notice);
    }

    /// Takes back what was told: everything is tried again.
    pub(crate) fn forget_unplaced(&mut self) {
        let unplaced = std::mem::take(&mut self.unplaced);
        self.report.notices.retain(|notice| !unplaced.contains(notice));
    }
}

pub(crate) type Fallible<T, S> = Result<T, SyncError<<S as Repo>::Error>>;

impl<F: FileSystem, S: ReplicaStore> Replica<F, S> {
    /// Takes a folder and its store.
    ///
    /// # Errors
    /// The first policy whose glob is none.
    pub fn new(fs: F, store: S, settings: Settings, scanner: Scanner<F>) -> Result<Self, String> {
        let policies = Policies::new(&settings.policies)?;
        Ok(Self { fs, store, settings, policies, scanner, recovered: false })
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The folder.
    pub fn fs(&self) -> &F {
        &self.fs
    }

    /// Gives folder and store back.
    pub fn into_parts(self) -> (F, S) {
        (self.fs, self.store)
    }

    /// One round with the other side.
    ///
    /// # Errors
    /// [`SyncError`]; the next round begins where this one stopped.
    pub fn sync(
        &mut self,
        link: &mut dyn Link,
        world: &mut dyn World,
        options: Options,
        progress: &mut dyn FnMut(Progress),
    ) -> Fallible<Report, S> {
        let mut round = Round::new(world, options, progress);
        self.begin(&mut round)?;
        let was_joined = self.meta()?.joined;
        if !was_joined {
            self.exchange(link, &mut round, true)?;
            self.take_bases()?;
        }
        for attempt in 1..=ROUNDS_MAX {
            self.take_in(&mut round)?;
            let in_step = self.exchange(link, &mut round, self.settings.read_only)?;
            let settled = self.settle(Some(link), &mut round)?;
            let is_told = settled != Settled::LookAgain;
            let done = in_step && is_told && self.nothing_to_send(&mut round)?;
            // Whoever goes on writing is in step but for what they have written since.
            let overtaken = in_step && attempt == ROUNDS_MAX;
            if done || overtaken {
                if !done {
                    self.tell_overtaken(&mut round)?;
                }
                if was_joined {
                    self.remember_round(&mut round)?;
                }
                return self.finish(round, link);
            }
        }
        Err(SyncError::NotConverged { rounds: ROUNDS_MAX })
    }

    /// Versions what changed in the folder, with no other side.
    ///
    /// # Errors
    /// [`SyncError`].
    pub fn commit_local(
        &mut self,
        world: &mut dyn World,
        options: Options,
        progress: &mut dyn FnMut(Progress),
    ) -> Fallible<Report, S> {
        let mut round = Round::new(world, options, progress);
        self.begin(&mut round)?;
        self.take_in(&mut round)?;
        self.settle(None, &mut round)?;
        self.recovered = true;
        round.report.root = self.store.root().map_err(EngineError::Repo)?;
        round.report.unplaced = self.unplaced()?;
        Ok(round.report)
    }

    /// Files that are there and were made from what is the only head of their note now are edits
    /// of it, not texts that meet for the first time. Of all others nothing is believed.
    fn take_bases(&mut self) -> Fallible<(), S> {
        let mut files = Vec::new();
        for (path, id) in &self.settings.bases {
            let Some(version) = self.store.version(id).map_err(EngineError::Repo)? else {
                continue;
            };
            let is_head = self.store.heads(&version.note).map_err(EngineError::Repo)? == [*id];
            let is_placed = self.store.file_of(&version.note).map_err(EngineError::Repo)?.is_some();
            let is_file = self.fs.stat(path.as_str()).is_ok_and(|stat| stat.kind == FileKind::File);
            let Some(live) = version.live().filter(|live| live.path == *path) else { continue };
            if is_head && !is_placed && is_file {
                files.push(FileRow {
                    disk_path: path.clone(),
                    note: version.note,
                    version: *id,
                    content: live.content,
                    kind: live.kind,
                    stat: FileStat::default(),
                    seen_ns: 0,
                });
            }
        }
        self.commit(ReplicaBatch { files, ..ReplicaBatch::default() })
    }

    pub(crate) fn begin(&mut self, round: &mut Round<'_>) -> Fallible<(), S> {
        // A crash may have come between learning that this folder is a copy and acting on it.
        let meta = self.meta()?;
        if self.store.counter(&meta.replica).map_err(EngineError::Repo)? > meta.counter {
            self.count_anew(round)?;
        }
        let comes_up = !self.recovered;
        if comes_up {
            self.recover(round)?;
        }
        // Whatever stops this round may leave as much behind as a crash does.
        self.recovered = false;
        let mut meta = self.meta()?;
        meta.rounds += 1;
        self.commit(ReplicaBatch { meta: Some(meta), ..ReplicaBatch::default() })?;
        self.look_at_displaced(round)?;
        if comes_up { self.expire_trash(round) } else { Ok(()) }
    }

    /// Names the files that changed again and again while they were brought into step.
    fn tell_overtaken(&self, round: &mut Round<'_>) -> Fallible<(), S> {
        const NAMED_MAX: usize = 8;
        for note in self.store.unsettled().map_err(EngineError::Repo)?.iter().take(NAMED_MAX) {
            if let Some(row) = self.store.file_of(note).map_err(EngineError::Repo)? {
                let path = row.disk_path.to_string();
                let reason = "it changed while it was written; the next sync goes on".to_owned();
                let is_told = |notice: &Notice| match notice {
                    Notice::NotPlaced { path: told, .. } => *told == path,
                    _ => false,
                };
                if !round.unplaced.iter().any(is_told) {
                    round.report.notice(Notice::NotPlaced { path, reason });
                }
            }
        }
        Ok(())
    }

    fn nothing_to_send(&self, round: &mut Round<'_>) -> Fallible<bool, S> {
        let unsent = self.store.unsent().map_err(EngineError::Repo)?.len();
        if self.settings.read_only && unsent > 0 {
            round.report.notice(Notice::ReadOnly { unsent });
        }
        Ok(unsent == 0 || self.settings.read_only)
    }

    fn finish(&mut self, round: Round<'_>, link: &mut dyn Link) -> Fallible<Report, S> {
        self.recovered = true;
        let mut report = round.report;
        report.root = self.store.root().map_err(EngineError::Repo)?;
        report.unplaced = self.unplaced()?;
        report.traffic = link.traffic();
        Ok(report)
    }

    /// How many notes are not in the folder as they should be.
    fn unplaced(&self) -> Fallible<u64, S> {
        Ok(self.store.unsettled().map_err(EngineError::Repo)?.len() as u64)
    }

    pub(crate) fn meta(&self) -> Fallible<ReplicaMeta, S> {
        Ok(self.store.meta().map_err(EngineError::Repo)?)
    }

    pub(crate) fn commit(&mut self, batch: ReplicaBatch) -> Fallible<(), S> {
        if batch == ReplicaBatch::default() {
            return Ok(());
        }
        Ok(self.store.commit(&batch).map_err(EngineError::Repo)?)
    }

    /// All files by where they are.
    pub(crate) fn rows(&self) -> Fallible<BTreeMap<VaultPath, FileRow>, S> {
        let rows = self.store.files().map_err(EngineError::Repo)?;
        Ok(rows.into_iter().map(|row| (row.disk_path.clone(), row)).collect())
    }

    /// Scans the folder. What was on a disk that is not mounted now, or is hidden by one that was
    /// mounted over it, is unknown; unless what is missing is to come back.
    pub(crate) fn look_through(
        &mut self,
        rows: &BTreeMap<VaultPath, FileRow>,
        options: Options,
    ) -> Fallible<Scan, S> {
        let now_ns = self.fs.clock_ns().map_err(SyncError::Folder)?;
        if options.restore_missing {
            return Ok(self.scan(&ScanRequest { rows, now_ns, mounts: &[], covered: &[] }));
        }
        let mounts = mounts::known(&self.fs).map_err(SyncError::Folder)?;
        let request = ScanRequest { rows, now_ns, mounts: &mounts, covered: &[] };
        let scan = self.scan(&request);
        let covered = mounts::covered(rows, &mounts, &scan);
        if covered.is_empty() {
            return Ok(scan);
        }
        Ok(self.scan(&ScanRequest { covered: &covered, ..request }))
    }

    fn scan(&self, request: &ScanRequest<'_>) -> Scan {
        let mut scan = (self.scanner)(&self.fs, request);
        scan.spell_as(request.rows.keys());
        scan
    }

    /// Mints again what is unsent and known to nobody else: this folder is a copy, or its clock was
    /// wrong. `which` is oldest first and names all that is unsent and descends from it.
    pub(crate) fn mint_again(
        &mut self,
        world: &dyn World,
        which: &[VersionId],
        again: Again,
        change: impl FnOnce(&mut ReplicaMeta),
    ) -> Fallible<(), S> {
        let mut meta = self.meta()?;
        change(&mut meta);
        let mut staged = Staged::new(&self.store);
        let reminted = mint::remint(&mut staged, &mut meta, world.now_ms(), which, again)?;
        let repo = staged.finish()?;
        let renamed = |id: &mut VersionId| match reminted.get(id) {
            Some(new) => {
                *id = *new;
                true
            }
            None => false,
        };
        let mut files = self.store.files().map_err(EngineError::Repo)?;
        files.retain_mut(|row| renamed(&mut row.version));
        let mut displaced = self.store.displaced().map_err(EngineError::Repo)?;
        displaced.retain_mut(|bytes| renamed(&mut bytes.version));
        let mut placing = self.store.placing().map_err(EngineError::Repo)?;
        placing.retain_mut(|intention| intention.version.as_mut().is_some_and(renamed));
        let unsent = reminted.into_values().collect();
        let meta = Some(meta);
        self.commit(ReplicaBatch {
            repo,
            meta,
            unsent,
            files,
            displaced,
            placing,
            ..ReplicaBatch::default()
        })
    }

    /// Counts anew under a replica id that nobody has had: this folder is a copy of another.
    pub(crate) fn count_anew(&mut self, round: &mut Round<'_>) -> Fallible<(), S> {
        round.report.notice(Notice::Cloned);
        let id = ReplicaId::from_bytes(round.world.random());
        let mut meta = self.meta()?;
        mint::start_over(&mut meta, id);
        self.commit(ReplicaBatch { meta: Some(meta), ..ReplicaBatch::default() })
    }

    /// Mints again under a replica id that nobody has had what nobody else has.
    pub(crate) fn take_another_id(
        &mut self,
        which: &[VersionId],
        round: &mut Round<'_>,
    ) -> Fallible<(), S> {
        let id = ReplicaId::from_bytes(round.world.random());
        let start_over = |meta: &mut ReplicaMeta| mint::start_over(meta, id);
        self.mint_again(&*round.world, which, Again::OtherId, start_over)
    }
}

/// A name for a temporary file that nobody has had.
pub(crate) fn unique_name(world: &mut dyn World) -> UniqueName {
    let name = crucible_core::hash::hex(&world.random());
    UniqueName::new(&name).expect("hex digits are a name")
}

/// A file's marks as the store keeps them.
pub(crate) fn to_file_stat(stat: &Stat) -> FileStat {
    FileStat {
        bytes: stat.size,
        mtime_ns: stat.mtime_ns,
        ctime_ns: stat.ctime_ns,
        inode: stat.inode,
        device: stat.dev,
    }
}

/// The same as the file system tells them.
pub(crate) fn to_stat(stat: &FileStat) -> Stat {
    Stat {
        kind: FileKind::File,
        size: stat.bytes,
        mtime_ns: stat.mtime_ns,
        ctime_ns: stat.ctime_ns,
        inode: stat.inode,
        dev: stat.device,
        mode: 0,
    }
}
