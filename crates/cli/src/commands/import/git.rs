//! Reading a git history: commits oldest first, and of each what it changed.
//!
//! The first commits whose every text the vault's history has are not brought in again; what they
//! left and nobody changed since is what the next ones go on from.

mod known;
mod read;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_sync::replica::ReplicaStore;

use super::{ASIDE_MAX, Place, Tally, aside, commit, put_counted};
use crate::exit::{During, Failure, Outcome};
use crate::output::{count, plain};
use crate::past::Past;
use crate::progress::Bar;
use crate::vault_folder::OpenVault;

use known::Known;
pub use read::is_repository;
use read::{Blobs, Commit, Tree, changes_of, git_bytes, git_output, uncommitted_in};
pub use told::History;

/// How a file begins that stands for one which `git lfs` keeps elsewhere (its specification).
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// A file of the history that stands in the vault now.
struct Standing {
    at: VaultPath,
    /// What this import wrote there last.
    bytes: Vec<u8>,
}

struct Importer<'i> {
    place: &'i Place,
    tally: &'i mut Tally,
    history: History,
    blobs: Blobs,
    /// By path in the repository.
    standing: HashMap<String, Standing>,
    /// Paths that somebody edited meanwhile: theirs from then on.
    left: BTreeSet<String>,
    /// Paths that this import has changed.
    touched: BTreeSet<String>,
}

/// Brings every commit in that did not come in before, then what the history left in the end.
pub fn import(
    from: &Path,
    place: &Place,
    past: &mut Past<'_>,
    vault: &mut OpenVault,
    bar: &Bar,
    tally: &mut Tally,
) -> Outcome<()> {
    let uncommitted = uncommitted_in(from)?;
    let no_head = git_bytes(from, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).is_err();
    if no_head {
        let files = match uncommitted.len() as u64 {
            0 => String::new(),
            files => {
                format!(", and {} not committed", count(files, "file that is", "files that are"))
            }
        };
        return Err(Failure::failed(format!("{} has no commits{files}", from.display()))
            .hint("commit its files first, or copy them into the vault"));
    }
    let listed =
        git_output(from, &["rev-list", "--reverse", "--topo-order", "--format=%H %at", "HEAD"])?;
    let commits: Vec<Commit<'_>> = listed.lines().filter_map(Commit::parse).collect();
    let Some(last) = commits.last() else {
        return Err(Failure::failed(format!("{} has no commits", from.display())));
    };
    let is_shallow = git_output(from, &["rev-parse", "--is-shallow-repository"])?.trim() == "true";
    let history = History { uncommitted, is_shallow, ..History::default() };
    let mut importer = Importer {
        place,
        tally,
        history,
        blobs: Blobs::open(from)?,
        standing: HashMap::new(),
        left: BTreeSet::new(),
        touched: BTreeSet::new(),
    };
    let known = importer.known_of(from, &commits, &Known::of(past)?, bar)?;
    importer.history.known = known as u64;
    if let Some(before) = known.checked_sub(1) {
        importer.stand_as(&Tree::of(from, commits[before].id)?)?;
    }
    let new = &commits[known..];
    for (done, Commit { id, at_ms }) in new.iter().enumerate() {
        bar.part("importing commits", done as u64, new.len() as u64);
        let changes = changes_of(from, id)?;
        if importer.apply(&changes)? {
            let meta = vault.replica.store().meta()?;
            let newest_ms = Stamp::from_ticks(meta.ticks, meta.replica).ms();
            importer.history.late += u64::from(newest_ms > *at_ms);
            commit(vault, *at_ms, bar)?;
        }
        importer.history.commits += 1;
    }
    // Branches that ran beside each other took turns: in the end it is as the last commit says.
    importer.settle(&Tree::of(from, last.id)?)?;
    importer.count();
    tally.history = Some(importer.history);
    Ok(())
}

impl Importer<'_> {
    /// How many of the first commits left nothing that is not in the vault's history.
    fn known_of(
        &mut self,
        from: &Path,
        commits: &[Commit<'_>],
        known: &Known,
        bar: &Bar,
    ) -> Outcome<usize> {
        if known.is_empty() {
            return Ok(0);
        }
        for (index, commit) in commits.iter().enumerate() {
            bar.part("looking for commits that are here", index as u64, commits.len() as u64);
            for (name, blob) in changes_of(from, commit.id)? {
                // What cannot come in is no reason for its commit to come again.
                let Ok(path) = self.place.path_for(&name) else { continue };
                let is_known = match blob {
                    None => known.has_left(&path),
                    Some(blob) => {
                        self.blobs.get(&blob)?.is_none_or(|bytes| known.has(&path, &bytes))
                    }
                };
                if !is_known {
                    return Ok(index);
                }
            }
        }
        Ok(commits.len())
    }

    /// Goes on from an earlier import: what it left and nobody changed since stands.
    fn stand_as(&mut self, tree: &Tree) -> Outcome<()> {
        for (name, blob) in &tree.files {
            let Ok(path) = self.place.path_for(name) else { continue };
            let Some(bytes) = self.blobs.get(blob)? else { continue };
            let beside = (1..ASIDE_MAX).map_while(|number| aside(&path, number));
            let beside = beside.take_while(|path| self.place.file(path).exists());
            let mut places = std::iter::once(path.clone()).chain(beside);
            let same = |path: &VaultPath| fs::read(self.place.file(path)).is_ok_and(|b| b == bytes);
            if let Some(at) = places.find(same) {
                self.standing.insert(name.clone(), Standing { at, bytes });
            }
        }
        Ok(())
    }

    /// Whether anything in the vault changed.
    fn apply(&mut self, changes: &BTreeMap<String, Option<String>>) -> Outcome<bool> {
        let mut changed = false;
        for (name, blob) in changes {
            self.touched.insert(name.clone());
            changed |= match blob {
                Some(blob) => self.write(name, blob)?,
                None => self.remove(name)?,
            };
        }
        Ok(changed)
    }

    fn settle(&mut self, tree: &Tree) -> Outcome<()> {
        for name in std::mem::take(&mut self.touched) {
            match tree.files.get(&name) {
                Some(blob) => self.write(&name, blob)?,
                None => self.remove(&name)?,
            };
            self.touched.insert(name);
        }
        for (name, what) in &tree.others {
            self.tally.skipped.push((name.clone(), (*what).to_owned()));
        }
        Ok(())
    }

    fn count(&mut self) {
        for name in &self.touched {
            if let Some(standing) = self.standing.get(name) {
                self.history.here += 1;
                self.history.pointers += u64::from(standing.bytes.starts_with(LFS_POINTER));
            } else if !self.left.contains(name) {
                self.history.gone += 1;
            }
        }
    }

    fn write(&mut self, name: &str, blob: &str) -> Outcome<bool> {
        if self.left.contains(name) {
            return Ok(false);
        }
        let Some(bytes) = self.blobs.get(blob)? else {
            self.tally.skipped.push((name.to_owned(), "it is too large, or no file".to_owned()));
            self.left.insert(name.to_owned());
            return Ok(false);
        };
        let Some(standing) = self.standing.get_mut(name) else {
            match put_counted(self.place, name, &bytes, self.tally)? {
                Some(at) => drop(self.standing.insert(name.to_owned(), Standing { at, bytes })),
                None => drop(self.left.insert(name.to_owned())),
            }
            return Ok(true);
        };
        if standing.bytes == bytes {
            return Ok(false);
        }
        let during = format!("writing {}", plain(standing.at.as_str()));
        if fs::read(self.place.file(&standing.at)).ok().as_ref() != Some(&standing.bytes) {
            return Ok(self.leave(name));
        }
        self.place.replace(&standing.at, &bytes).during(during)?;
        standing.bytes = bytes;
        Ok(true)
    }

    fn remove(&mut self, name: &str) -> Outcome<bool> {
        let Some(standing) = self.standing.get(name) else { return Ok(false) };
        let file = self.place.file(&standing.at);
        if fs::read(&file).ok().as_ref() != Some(&standing.bytes) {
            return Ok(self.leave(name));
        }
        fs::remove_file(&file).during(format!("removing {}", file.display()))?;
        self.standing.remove(name);
        Ok(true)
    }

    fn leave(&mut self, name: &str) -> bool {
        self.standing.remove(name);
        self.left.insert(name.to_owned());
        let reason = "somebody edited it while it was imported: it stays as it is";
        self.tally.skipped.push((name.to_owned(), reason.to_owned()));
        false
    }
}
