//! Versions of the past, wherever they are: this device knows some, the server knows all.
//!
//! Invariant: what is shown as a version's bytes has the hash that the version names; a server
//! that is away makes a list shorter and says so, never wrong.

use std::collections::BTreeSet;
use std::io::Read;

use crucible_core::hash::{BlobHasher, ContentHash};
use crucible_core::id::{NoteId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Author, Kind, Version};
use crucible_node::actions::ActionError;
use crucible_node::api;
use crucible_node::http::Http;
use crucible_node::link::LinkError;
use crucible_store::error::StoreError;
use crucible_store::server_repo::{History, Op, Revision, RevisionQuery, Scope};
use crucible_store::sync_db::SyncDb;
use crucible_sync::replica::ReplicaStore;
use crucible_sync::repo::Repo;
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::output::plain;
use crate::resembling::{did_you_mean, resembling};
use crate::vault_folder::VaultFolder;

/// Fewest digits that name a version.
const DIGITS_MIN: usize = 4;
/// Revisions read at once from this device's own store.
const PAGE: usize = 500;

/// One version, as history tells it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which.
    pub version: VersionId,
    /// Of which note.
    pub note: NoteId,
    /// What it did: `create`, `edit`, `rename`, `delete`, `merge`, `restore`.
    pub op: String,
    /// Where the note was; `None` when it was deleted.
    pub path: Option<String>,
    /// The former name.
    pub from: Option<String>,
    /// Of its bytes.
    pub content: Option<ContentHash>,
    /// Whether it is text that can be merged.
    pub is_note: bool,
    /// How many bytes.
    pub bytes: Option<u64>,
    /// When it was made, by its maker's clock: milliseconds, and the count within.
    pub stamp: (u64, u16),
    /// The replica that made it, or `merge`.
    pub author: String,
    /// What it was made from.
    pub parents: Vec<VersionId>,
    /// Who brought it: id and address.
    pub user: Option<(String, String)>,
    /// With which device: id and name.
    pub device: Option<(String, String)>,
    /// Who else wrote it, in a live session: addresses.
    pub with: Vec<String>,
    /// The live session it was written in.
    pub session: Option<String>,
    /// When the server got it; `None` when it has not, or was not asked.
    pub received_ms: Option<u64>,
    /// Whether it is still to be sent.
    pub unsent: bool,
}

/// Everybody else, once each; the author's own other devices by what they are called.
fn co_authors(revision: &api::Revision) -> Vec<String> {
    let author = revision.user.as_ref().map(|user| &user.id);
    let name = |other: &api::CoAuthor| match Some(&other.user.id) == author {
        true => format!("{} on {}", other.user.shown(), other.device.shown()),
        false => other.user.shown().to_owned(),
    };
    let mut names: Vec<String> = revision.with.iter().map(name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl Entry {
    fn from_server(revision: api::Revision) -> Self {
        let named = |named: &api::Named| (named.id.clone(), named.shown().to_owned());
        Self {
            user: revision.user.as_ref().map(named),
            device: revision.device.as_ref().map(named),
            with: co_authors(&revision),
            session: revision.session,
            version: revision.version,
            note: revision.note,
            op: revision.op,
            path: revision.path,
            from: revision.from,
            is_note: revision.kind.as_deref() == Some("note"),
            content: revision.content,
            bytes: revision.bytes,
            stamp: (revision.stamp.ms, revision.stamp.count),
            author: revision.author,
            parents: revision.parents,
            received_ms: revision.received_ms,
            unsent: false,
        }
    }

    fn from_store(revision: &Revision, unsent: &BTreeSet<VersionId>) -> Self {
        let version = &revision.version;
        let live = version.live();
        Self {
            version: revision.id,
            note: version.note,
            op: op_name(revision.op).to_owned(),
            path: version.path().map(ToString::to_string),
            from: revision.from.as_ref().map(ToString::to_string),
            is_note: live.is_some_and(|live| live.kind == Kind::Note),
            content: live.map(|live| live.content),
            bytes: live.map(|live| live.bytes),
            stamp: (version.stamp.ms(), version.stamp.count()),
            author: author_name(version),
            parents: version.parents.clone(),
            user: None,
            device: None,
            with: Vec::new(),
            session: None,
            received_ms: None,
            unsent: unsent.contains(&revision.id),
        }
    }

    /// For scripts.
    pub fn as_json(&self) -> Value {
        let id = |named: &Option<(String, String)>| named.as_ref().map(|(id, _)| id.clone());
        let name = |named: &Option<(String, String)>| named.as_ref().map(|(_, name)| name.clone());
        json!({
            "version": self.version.to_string(),
            "note": self.note.to_string(),
            "op": self.op,
            "path": self.path,
            "from": self.from,
            "stamp": iso(self.stamp.0),
            "stamp_ms": self.stamp.0,
            "stamp_count": self.stamp.1,
            "author": self.author,
            "user": name(&self.user),
            "user_id": id(&self.user),
            "device": id(&self.device),
            "device_name": name(&self.device),
            "with": self.with,
            "session": self.session,
            "received_ms": self.received_ms,
            "kind": self.path.is_some().then_some(if self.is_note { "note" } else { "asset" }),
            "bytes": self.bytes,
            "content": self.content.map(|content| content.to_string()),
            "parents": self.parents.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }

    /// The path it had, or had before it was deleted.
    pub fn last_path(&self) -> &str {
        self.path.as_deref().or(self.from.as_deref()).unwrap_or("(deleted)")
    }
}

/// Whether a path is inside of a folder.
pub fn is_below(path: &str, folder: &VaultPath) -> bool {
    path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'))
}

/// A moment as RFC 3339 in UTC.
pub fn iso(ms: u64) -> String {
    let stamp = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(String::new, |stamp| format!("{stamp:.3}"))
}

fn op_name(op: Op) -> &'static str {
    match op {
        Op::Create => "create",
        Op::Edit => "edit",
        Op::Rename => "rename",
        Op::Delete => "delete",
        Op::Merge => "merge",
        Op::Restore => "restore",
    }
}

fn author_name(version: &Version) -> String {
    match version.author {
        Author::Replica(replica) => replica.to_string(),
        Author::Merge(_) => "merge".to_owned(),
    }
}

/// What this device and its server remember.
pub struct Past<'c> {
    folder: &'c VaultFolder,
    context: &'c Context,
    store: SyncDb,
    server: Server,
}

enum Server {
    NotAsked,
    There(Box<Http>),
    /// Away: said once.
    Away,
    /// It does not let this device in, and why: said once.
    Closed(Failure),
}

impl<'c> Past<'c> {
    /// Opens the past of a vault; the server is asked when it is needed.
    ///
    /// # Errors
    /// What the store says.
    pub fn open(folder: &'c VaultFolder, context: &'c Context) -> Outcome<Self> {
        Ok(Self { folder, context, store: folder.store()?, server: Server::NotAsked })
    }

    /// This device's store.
    pub fn store(&self) -> &SyncDb {
        &self.store
    }

    /// The versions of a note (by any name it had) or of the vault, newest first.
    ///
    /// # Errors
    /// What the store and the server say; a server that is away is no error.
    pub fn list(&mut self, path: Option<&VaultPath>, limit: usize) -> Outcome<Vec<Entry>> {
        let told = self.ask_server(|http, vault| {
            let scope = path.map_or(api::Scope::Vault, api::Scope::Path);
            let mut found = Vec::new();
            api::history(http, vault, scope, &mut |revision| {
                found.push(Entry::from_server(revision));
                found.len() < limit
            })?;
            Ok(found)
        })?;
        let Some(mut entries) = told else { return self.list_here(path, limit) };
        let known: BTreeSet<VersionId> = entries.iter().map(|entry| entry.version).collect();
        let mut unsent: BTreeSet<VersionId> = self.store.unsent()?.into_iter().collect();
        unsent.retain(|id| !known.contains(id));
        if !unsent.is_empty() {
            let here = self.list_here(path, usize::MAX)?;
            let mut new: Vec<Entry> =
                here.into_iter().filter(|entry| unsent.contains(&entry.version)).collect();
            new.append(&mut entries);
            entries = new;
        }
        entries.truncate(limit);
        Ok(entries)
    }

    /// The versions this device itself knows, newest first.
    ///
    /// # Errors
    /// What the store says.
    pub fn list_here(&self, path: Option<&VaultPath>, limit: usize) -> Outcome<Vec<Entry>> {
        let unsent: BTreeSet<VersionId> = self.store.unsent()?.into_iter().collect();
        let mut entries = Vec::new();
        let mut before = None;
        while entries.len() < limit {
            let scope = path.map_or(Scope::Vault, |path| Scope::Path(path.clone()));
            let page = self.store.revisions(&RevisionQuery { scope, before, limit: PAGE })?;
            before = page.last().map(|last| last.seq);
            let full = page.len() == PAGE;
            entries.extend(page.iter().map(|revision| Entry::from_store(revision, &unsent)));
            if !full {
                break;
            }
        }
        entries.truncate(limit);
        Ok(entries)
    }

    /// That no note was ever called so, with those that are called nearly so, or else a hint.
    pub fn never_was(&self, path: &VaultPath, otherwise: &str) -> Failure {
        let shown = plain(path.as_str());
        let failure = Failure::failed(format!("there is no note {shown}, and never was"));
        let Ok(entries) = self.list_here(None, usize::MAX) else { return failure.hint(otherwise) };
        let names = entries.iter().map(Entry::last_path).collect::<BTreeSet<_>>();
        let found = resembling(path.as_str(), names.into_iter());
        failure.hint(did_you_mean(&found).unwrap_or_else(|| otherwise.to_owned()))
    }

    /// The version of a note that `digits` begin the id of.
    ///
    /// # Errors
    /// Exit 1 when there is none, or more than one; exit 2 for what are no digits.
    pub fn find(&mut self, path: &VaultPath, digits: &str) -> Outcome<Entry> {
        let hex = digits.len() <= 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex || digits.len() < DIGITS_MIN {
            let message = format!("{digits:?} is no version");
            return Err(Failure::new(Exit::Usage, message)
                .hint(format!("`cru log '{path}'` lists them; their first 8 digits are enough")));
        }
        let digits = digits.to_ascii_lowercase();
        let fits = |entry: &Entry| entry.version.to_string().starts_with(&digits);
        let mut found: Vec<Entry> =
            self.list_here(Some(path), usize::MAX)?.into_iter().filter(fits).collect();
        if found.len() != 1 {
            found = self.list(Some(path), usize::MAX)?.into_iter().filter(fits).collect();
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(Failure::failed(format!("{} has no version {digits}", plain(path.as_str())))
                .hint(format!("`cru log '{path}'` lists them"))),
            _ => Err(Failure::failed(format!("several versions begin with {digits}"))
                .hint("give more of the digits")),
        }
    }

    /// The bytes of a version.
    ///
    /// # Errors
    /// Exit 13 when they are only on a server that is away; exit 14 when they are not those.
    pub fn bytes(&mut self, entry: &Entry) -> Outcome<Vec<u8>> {
        let mut bytes = Vec::new();
        self.bytes_to(entry, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Hands the bytes of a version to `sink` as they come.
    ///
    /// # Errors
    /// As [`Self::bytes`]; what came before an error may be in `sink` already.
    pub fn bytes_to(
        &mut self,
        entry: &Entry,
        sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Outcome<()> {
        let Some(content) = entry.content else {
            let message = format!("{} is deleted in this version", plain(entry.last_path()));
            return Err(Failure::failed(message).hint("take the version before it"));
        };
        if let Some(bytes) = self.store.content(&content)? {
            return sink(&bytes).during("writing");
        }
        if self.file_in_folder(&content, sink)? {
            return Ok(());
        }
        let version = entry.version;
        let mut hasher = BlobHasher::new();
        let is_note = entry.is_note;
        let mut text = Vec::new();
        let told = self.ask_server(|http, vault| {
            api::content(http, vault, &version, &mut |piece| {
                hasher.update(piece);
                if is_note {
                    text.extend_from_slice(piece);
                    return Ok(());
                }
                sink(piece)
            })
        })?;
        if let (None, Server::Closed(failure)) = (&told, &self.server) {
            return Err(failure.clone());
        }
        if told.is_none() {
            let message = format!("the bytes of {} are on the server alone", version.short());
            return Err(Failure::new(Exit::Unreachable, message).hint("try again when it is back"));
        }
        let arrived = match is_note {
            true => std::str::from_utf8(&text).ok().map(ContentHash::of_text),
            false => Some(hasher.finish()),
        };
        if arrived != Some(content) {
            let message = format!("the server gave other bytes for version {}", version.short());
            return Err(Failure::new(Exit::Integrity, message)
                .hint("`cru server check` looks at the server's data"));
        }
        sink(&text).during("writing")
    }

    /// Large files stand in the folder itself.
    fn file_in_folder(
        &self,
        content: &ContentHash,
        sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Outcome<bool> {
        let files = self.store.files()?;
        for row in files.iter().filter(|row| row.content == *content && row.kind == Kind::Asset) {
            let path = self.folder.root.join(row.disk_path.as_str());
            // Gone or changed since: then it is not what is looked for.
            let Ok(mut file) = std::fs::File::open(path) else { continue };
            let mut bytes = Vec::new();
            if file.read_to_end(&mut bytes).is_ok() && ContentHash::of_blob(&bytes) == *content {
                sink(&bytes).during("writing")?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Asks the server; `None` when there is none, or it is away.
    fn ask_server<T>(
        &mut self,
        question: impl FnOnce(&mut Http, &str) -> Result<T, LinkError>,
    ) -> Outcome<Option<T>> {
        if self.folder.server().is_none() {
            return Ok(None);
        }
        if let Server::NotAsked = self.server {
            match self.folder.http(self.context) {
                Ok(http) => self.server = Server::There(Box::new(http)),
                Err(failure) => return self.closed(failure).map(|()| None),
            }
        }
        let Server::There(http) = &mut self.server else { return Ok(None) };
        match question(http, &self.folder.config.vault) {
            Ok(answer) => Ok(Some(answer)),
            Err(LinkError::Unreachable { place, .. }) => {
                let message = format!("{place} is away: this is what this device itself knows");
                self.context.output.warn(message);
                self.server = Server::Away;
                Ok(None)
            }
            Err(error) => self.closed(error.into()).map(|()| None),
        }
    }

    /// What a device still knows that is not let in any more is told, and that it is not all. A
    /// token in CRU_TOKEN was named for this very question: then it is the answer that counts.
    fn closed(&mut self, failure: Failure) -> Outcome<()> {
        if failure.exit != Exit::NotAllowed || self.context.token.is_some() {
            return Err(failure);
        }
        self.context
            .output
            .warn(format!("{}: this is what this device itself knows", failure.message));
        self.server = Server::Closed(failure);
        Ok(())
    }
}

/// Gets bytes of versions from the server for actions on the vault.
pub struct Fetcher<'c> {
    folder: &'c VaultFolder,
    context: &'c Context,
    http: Option<Http>,
    refused: Option<Failure>,
}

impl<'c> Fetcher<'c> {
    /// Connects with the first question.
    pub fn new(folder: &'c VaultFolder, context: &'c Context) -> Self {
        Self { folder, context, http: None, refused: None }
    }

    /// The bytes of a version, or `None` when the server does not give them; whoever asks
    /// verifies them, and [`Self::explained`] has the reason.
    pub fn bytes(&mut self, version: &VersionId) -> Option<Vec<u8>> {
        match self.asked(version) {
            Ok(bytes) => Some(bytes),
            Err(failure) => {
                self.refused = Some(failure);
                None
            }
        }
    }

    fn asked(&mut self, version: &VersionId) -> Outcome<Vec<u8>> {
        if self.folder.server().is_none() {
            return Err(Failure::failed("this vault has no server that could have kept them"));
        }
        let http = match &mut self.http {
            Some(http) => http,
            none => none.insert(self.folder.http(self.context)?),
        };
        let mut bytes = Vec::new();
        api::content(http, &self.folder.config.vault, version, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// What an action failed with; where bytes were missing, with the reason they did not come.
    pub fn explained(&mut self, error: ActionError<StoreError>) -> Failure {
        match (&error, self.refused.take()) {
            (ActionError::NoBytes(_), Some(why)) => {
                Failure { message: format!("{error}: {}", why.message), ..why }
            }
            _ => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_in_utc_with_their_milliseconds() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(1_790_000_000_123), "2026-09-21T14:13:20.123Z");
    }
}
