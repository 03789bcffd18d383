//! Measures a server's store on real Markdown: a first sync in pages, then a history of small
//! edits, one round each; size against git's pack of the same revisions, work against plain
//! inserts.
//!
//! `cargo run --release -p crucible-store --example history_size -- FOLDER [EDITS]`

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crucible_core::hash::ContentHash;
use crucible_core::id::{DeviceId, NoteId, ReplicaId, UserId, VaultId, VersionId};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Author, Kind, Live, State, Version};
use crucible_core::version_vector::{Dot, VersionVector};
use crucible_proto::limits::{PACK_RAW_AIM, PAGE_NOTES_MAX, PAGE_RAW_AIM};
use crucible_proto::zip;
use crucible_store::server_repo::{Origin, ServerRepo, Vaults};
use crucible_store::server_vault::{ServerVault, ServerVaults};
use crucible_sync::repo::{Batch, Body, Pack, Repo};
use crucible_sync::staged::Staged;

type Outcome<T> = Result<T, Box<dyn Error>>;

const VAULT: VaultId = VaultId::from_bytes([7; 16]);
const REPLICA: ReplicaId = ReplicaId::from_bytes([1; 16]);

fn main() -> Outcome<()> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = arguments.next().ok_or("which folder of Markdown?")?;
    let edits = match arguments.next() {
        Some(count) => count.to_str().ok_or("how many edits?")?.parse()?,
        None => 2000,
    };
    let mut out = std::io::stdout();
    let work = tempfile::tempdir()?;
    let mut notes = read_notes(Path::new(&folder))?;
    let raw: usize = notes.iter().map(|note| note.text.len()).sum();
    writeln!(out, "{} notes, {raw} bytes, {edits} edits", notes.len())?;

    let vaults = ServerVaults::new(work.path());
    let mut vault = vaults.create(&VAULT)?;
    let mut git = Git::begin(&work.path().join("git"))?;
    let mut clock = 0;

    let first = first_sync(&mut vault, &mut notes, &mut clock)?;
    git.commit(notes.iter())?;
    let plain = plain_inserts(work.path(), notes.len())?;
    writeln!(out, "first sync: {:.1} ms in {} commits", first.commit_ms, first.commits)?;
    writeln!(out, "  engine's part (deltas, tree): {:.1} ms", first.stage_ms)?;
    writeln!(out, "  plain INSERTs of as many rows: {plain:.1} ms")?;
    let base = settled_bytes(&mut vault, &vaults, work.path())?;

    let mut random = 1;
    let mut spent = Spent::default();
    for round in 0..edits {
        let index = (next(&mut random) as usize) % notes.len();
        edit(&mut notes[index].text, &mut random, round);
        spent.add(&one_edit(&mut vault, &mut notes[index], &mut clock)?);
        git.commit([&notes[index]].into_iter())?;
    }
    writeln!(out, "edits: {:.3} ms a commit", spent.commit_ms / f64::from(edits.max(1)))?;
    let ours = settled_bytes(&mut vault, &vaults, work.path())?;
    let swept_ms = cpu_ms()?;
    vault.gc(u64::MAX)?;
    writeln!(out, "gc: {:.0} ms", cpu_ms()? - swept_ms)?;
    let collected = settled_bytes(&mut vault, &vaults, work.path())?;
    let findings = vault.check()?.findings;
    writeln!(out, "check: {} findings", findings.len())?;
    let (pack, index) = git.finish()?;
    let ratio = |one: u64, other: u64| one as f64 / other as f64;
    writeln!(out, "ours: {ours} bytes, {base} of them before the edits")?;
    writeln!(out, "  {:.0} bytes an edit", ratio(ours - base, u64::from(edits.max(1))))?;
    writeln!(out, "git: pack {pack}, index {index} bytes")?;
    write!(out, "{}", by_table(&vaults)?)?;
    writeln!(out, "ours / git's pack: {:.3}", ratio(ours, pack))?;
    writeln!(out, "ours / git's pack and index: {:.3}", ratio(ours, pack + index))?;
    writeln!(out, "ours after gc / git's pack: {:.3}", ratio(collected, pack))?;
    Ok(())
}

struct Note {
    path: VaultPath,
    text: String,
    head: Option<(VersionId, ContentHash, VersionVector)>,
}

/// Processor time, by who spent it.
#[derive(Default)]
struct Spent {
    commits: u32,
    commit_ms: f64,
    stage_ms: f64,
}

impl Spent {
    fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.commit_ms += other.commit_ms;
        self.stage_ms += other.stage_ms;
    }
}

fn read_notes(folder: &Path) -> Outcome<Vec<Note>> {
    let mut notes = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in fs::read_dir(&at)? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md")
                && let Ok(text) = fs::read_to_string(&path)
            {
                let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
                notes.push(Note { path: VaultPath::new(&name)?, text, head: None });
            }
        }
    }
    notes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(notes)
}

fn first_sync(vault: &mut ServerVault, notes: &mut [Note], clock: &mut u64) -> Outcome<Spent> {
    let mut spent = Spent::default();
    let mut rest = notes;
    while !rest.is_empty() {
        let mut raw = 0;
        let fits = rest.iter().take(PAGE_NOTES_MAX).take_while(|note| {
            raw += note.text.len();
            raw <= PAGE_RAW_AIM + note.text.len()
        });
        let count = fits.count();
        let (page, later) = rest.split_at_mut(count);
        spent.add(&commit_page(vault, page, clock)?);
        rest = later;
    }
    Ok(spent)
}

fn commit_page(vault: &mut ServerVault, page: &mut [Note], clock: &mut u64) -> Outcome<Spent> {
    let began = cpu_ms()?;
    let mut staged = Staged::new(vault);
    let mut from = 0;
    while from < page.len() {
        let mut raw = Vec::new();
        let begin = from;
        let mut places = Vec::new();
        while from < page.len() && raw.len() < PACK_RAW_AIM {
            places.push(raw.len() as u32);
            raw.extend_from_slice(page[from].text.as_bytes());
            from += 1;
        }
        let frame = zip::zip(&raw);
        let pack = staged.put_pack(Pack { raw_bytes: raw.len() as u32, frame });
        for (note, offset) in page[begin..from].iter_mut().zip(places) {
            let version = version(note, clock);
            let bytes = note.text.as_bytes().into();
            staged.put_content(hash(&version), bytes, Body::Packed { pack, offset })?;
            note.head = Some((version.id(), hash(&version), version.clock.clone()));
            staged.put_version(version)?;
        }
    }
    let batch = staged.finish()?;
    let stage_ms = cpu_ms()? - began;
    commit(vault, &batch, stage_ms)
}

fn one_edit(vault: &mut ServerVault, note: &mut Note, clock: &mut u64) -> Outcome<Spent> {
    let began = cpu_ms()?;
    let base = note.head.as_ref().map(|head| head.1);
    let version = version(note, clock);
    let mut staged = Staged::new(vault);
    staged.put_new_content(hash(&version), note.text.as_bytes().into(), base.as_ref())?;
    note.head = Some((version.id(), hash(&version), version.clock.clone()));
    staged.put_version(version)?;
    let batch = staged.finish()?;
    let stage_ms = cpu_ms()? - began;
    commit(vault, &batch, stage_ms)
}

fn commit(vault: &mut ServerVault, batch: &Batch, stage_ms: f64) -> Outcome<Spent> {
    let origin = Origin {
        user: UserId::from_bytes([1; 16]),
        device: DeviceId::from_bytes([2; 32]),
        received_ms: 1_700_000_000_000 + vault.seq()?.0 * 60_000,
        address: "192.0.2.7:50000".to_owned(),
        others: Vec::new(),
    };
    let began = cpu_ms()?;
    vault.commit_from(batch, &origin)?;
    Ok(Spent { commits: 1, commit_ms: cpu_ms()? - began, stage_ms })
}

fn version(note: &Note, clock: &mut u64) -> Version {
    *clock += 1;
    let mut seen = note.head.as_ref().map(|head| head.2.clone()).unwrap_or_default();
    seen.observe(Dot { replica: REPLICA, counter: *clock });
    Version {
        note: NoteId::derive(&VAULT, &note.path, 0),
        parents: note.head.iter().map(|head| head.0).collect(),
        clock: seen,
        stamp: Stamp::new(1_700_000_000_000 + *clock * 60_000, 0, REPLICA),
        author: Author::Replica(REPLICA),
        state: State::Live(Live {
            path: note.path.clone(),
            kind: Kind::Note,
            content: ContentHash::of_text(&note.text),
            bytes: note.text.len() as u64,
            keys: Default::default(),
            tags: Default::default(),
        }),
    }
}

fn hash(version: &Version) -> ContentHash {
    version.live().expect("every version here is live").content
}

/// An edit as people make them: words added to a sentence, a sentence gone, a line at the end.
fn edit(text: &mut String, random: &mut u64, round: u32) {
    let ends: Vec<_> = text.match_indices(". ").map(|(at, _)| at).collect();
    match (next(random) % 4, ends.is_empty()) {
        (0, _) | (_, true) => {
            writeln!(text, "\nAdded in round {round}: see also {:x}.", next(random))
                .expect("writing to a string cannot fail");
        }
        (1, false) if ends.len() > 1 => {
            let at = (next(random) as usize) % (ends.len() - 1);
            text.replace_range(ends[at]..ends[at + 1], "");
        }
        _ => {
            let at = ends[(next(random) as usize) % ends.len()];
            let words = ["as noted", "in most cases", "on older versions", "by default"];
            let words = words[(next(random) as usize) % words.len()];
            text.insert_str(at, &format!(", {words} ({:x})", next(random) % 4096));
        }
    }
}

fn next(random: &mut u64) -> u64 {
    *random =
        random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *random >> 33
}

/// The size of the database once its log is written back.
fn settled_bytes(vault: &mut ServerVault, vaults: &ServerVaults, other: &Path) -> Outcome<u64> {
    // The last connection that closes writes the log back.
    let empty = ServerVaults::new(other.join("empty")).create(&VAULT)?;
    drop(std::mem::replace(vault, empty));
    let size = fs::metadata(vaults.folder(&VAULT).join("vault.db"))?.len();
    *vault = vaults.open(&VAULT)?.ok_or("the vault is gone")?;
    Ok(size)
}

/// What each table and index takes: pages, and bytes used in them.
fn by_table(vaults: &ServerVaults) -> Outcome<String> {
    let conn = rusqlite::Connection::open(vaults.folder(&VAULT).join("vault.db"))?;
    let mut select = conn.prepare(
        "SELECT name, sum(pgsize), sum(payload), sum(ncell) FROM dbstat
         GROUP BY name ORDER BY 2 DESC LIMIT 20",
    )?;
    let mut rows = select.query([])?;
    let mut table = String::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let (pages, payload, cells): (i64, i64, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
        writeln!(table, "  {name:20} {pages:>10} bytes, {payload:>10} used, {cells:>8} rows")?;
    }
    let free: i64 = conn.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    writeln!(table, "  free pages: {free}")?;
    Ok(table)
}

/// What SQLite needs at the least: one table, one row a note, one transaction.
fn plain_inserts(folder: &Path, rows: usize) -> Outcome<f64> {
    let mut conn = rusqlite::Connection::open(folder.join("plain.db"))?;
    conn.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (id BLOB, body BLOB)")?;
    let began = cpu_ms()?;
    let tx = conn.transaction()?;
    {
        let mut insert = tx.prepare("INSERT INTO t VALUES (?1, ?2)")?;
        for row in 0..rows {
            insert.execute((row.to_be_bytes().repeat(4), [0; 64]))?;
        }
    }
    tx.commit()?;
    Ok(cpu_ms()? - began)
}

/// Processor time of this thread.
fn cpu_ms() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns: f64 = text.split(' ').next().ok_or("schedstat is empty")?.parse()?;
    Ok(ns / 1e6)
}

/// The same revisions as a git history, one commit a round.
struct Git {
    folder: PathBuf,
    import: std::process::Child,
    commits: u64,
}

impl Git {
    fn begin(folder: &Path) -> Outcome<Self> {
        Command::new("git").args(["init", "-q"]).arg(folder).status()?;
        let import = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(["fast-import", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()?;
        Ok(Self { folder: folder.to_owned(), import, commits: 0 })
    }

    fn commit<'n>(&mut self, notes: impl Iterator<Item = &'n Note>) -> Outcome<()> {
        let time = 1_700_000_000 + self.commits * 60;
        self.commits += 1;
        let mut stream = format!(
            "commit refs/heads/main\ncommitter A Person <a.person@example.org> {time} +0000\n\
             data 4\nsync\n"
        )
        .into_bytes();
        for note in notes {
            let Note { path, text, .. } = note;
            write!(stream, "M 100644 inline {path}\ndata {}\n{text}\n", text.len())?;
        }
        let pipe = self.import.stdin.as_mut().ok_or("git has no input")?;
        Ok(pipe.write_all(&stream)?)
    }

    /// Packs from nothing, as `git gc` packs loose objects; sizes of pack and index.
    fn finish(mut self) -> Outcome<(u64, u64)> {
        drop(self.import.stdin.take());
        self.import.wait()?;
        let run = |arguments: &[&str]| {
            Command::new("git").arg("-C").arg(&self.folder).args(arguments).status()
        };
        run(&["repack", "-adfq"])?;
        run(&["gc", "-q"])?;
        let (mut pack, mut index) = (0, 0);
        for entry in fs::read_dir(self.folder.join(".git/objects/pack"))? {
            let entry = entry?;
            match entry.path().extension().and_then(|extension| extension.to_str()) {
                Some("pack") => pack += entry.metadata()?.len(),
                Some("idx") => index += entry.metadata()?.len(),
                _ => {}
            }
        }
        Ok((pack, index))
    }
}
