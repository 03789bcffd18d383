//! Taking in what came to a vault since the index was last asked.
//!
//! Invariant: a step reads a bounded number of notes and bytes; position and rows move together.

use std::sync::Arc;

use crucible_core::id::{NoteId, RootHash};
use crucible_core::links::{self, Style};
use crucible_core::timestamp::Stamp;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::{Kind, Live, Version};
use crucible_sync::repo::{Repo, Seq};
use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};

use super::{Attempt, Failed, LINKS_MAX, TEXT_BYTES_MAX};
use crate::error::Fault;

/// Notes in one step.
const STEP_NOTES: usize = 2_000;
/// Bytes of text after which a step ends.
const STEP_BYTES: u64 = 8 << 20;
/// Longest line kept of a link, in characters.
const LINE_CHARS: usize = 240;

/// Where the index stands.
struct Follows {
    position: u64,
    root: Option<RootHash>,
}

/// One step; `true` when the index knows the vault as it is now.
pub fn step<R: Repo>(conn: &mut Connection, repo: &R) -> Attempt<bool, R> {
    repo.reading(|| {
        let (now, root) = (repo.seq().map_err(Failed::Repo)?, repo.root().map_err(Failed::Repo)?);
        let there = |follows: &Follows| follows.position == now.0 && follows.root == root;
        if there(&follows(conn)?) {
            return Ok(true);
        }
        let tx = match conn.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(tx) => tx,
            // Another request is at it.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let mut at = follows(&tx)?;
        if there(&at) {
            return Ok(true);
        }
        if at.position > now.0 || (at.position == now.0 && at.root != root) || forgot(repo, &at)? {
            // The vault was set back to a backup: what is here may never have been.
            tx.execute_batch(
                "DELETE FROM notes; DELETE FROM links;
                 INSERT INTO words (words) VALUES ('delete-all');",
            )?;
            at.position = 0;
        }
        let changed = repo.changed(Seq(at.position), now, STEP_NOTES).map_err(Failed::Repo)?;
        let mut is_rest_empty = changed.len() < STEP_NOTES;
        let mut read = 0;
        for (index, (seq, note)) in changed.iter().enumerate() {
            read += take_in(&tx, repo, note)?;
            at.position = seq.0;
            if read >= STEP_BYTES && index + 1 < changed.len() {
                is_rest_empty = false;
                break;
            }
        }
        if is_rest_empty {
            at.position = now.0;
        }
        tx.execute(
            "UPDATE follows SET position = ?1, root = ?2",
            (at.position as i64, root.as_ref().map(RootHash::as_bytes)),
        )?;
        tx.commit()?;
        Ok(is_rest_empty)
    })
}

fn follows(conn: &Connection) -> Result<Follows, Fault> {
    let row = conn.query_row("SELECT position, root FROM follows", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Option<[u8; 32]>>(1)?))
    })?;
    Ok(Follows { position: row.0 as u64, root: row.1.map(RootHash::from_bytes) })
}

/// Whether the vault has another past than the one that was followed.
fn forgot<R: Repo>(repo: &R, at: &Follows) -> Attempt<bool, R> {
    match &at.root {
        Some(root) => Ok(repo.seq_of_root(root).map_err(Failed::Repo)?.is_none()),
        None => Ok(false),
    }
}

/// Brings one note's rows to what it is now; returns how many bytes were read for it.
fn take_in<R: Repo>(conn: &Connection, repo: &R, note: &NoteId) -> Attempt<u64, R> {
    let mut find = conn.prepare_cached("SELECT k, content FROM notes WHERE id = ?1")?;
    let known: Option<(i64, [u8; 32])> =
        find.query_row([note.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let now = newest(repo, note)?;
    let live = now.as_ref().and_then(|version| version.live());
    if let Some((k, content)) = known {
        if let Some(live) = live
            && content == *live.content.as_bytes()
        {
            // Only renamed, or nothing: words and links of its text stay.
            let path = conn
                .prepare_cached("SELECT path FROM notes WHERE k = ?1")?
                .query_row([k], |row| row.get::<_, String>(0))?;
            if path == live.path.as_str() {
                return Ok(0);
            }
        }
        conn.prepare_cached("DELETE FROM words WHERE rowid = ?1")?.execute([k])?;
        conn.prepare_cached("DELETE FROM links WHERE source = ?1")?.execute([k])?;
        conn.prepare_cached("DELETE FROM notes WHERE k = ?1")?.execute([k])?;
    }
    let Some(live) = live else { return Ok(0) };
    let k = conn
        .prepare_cached("INSERT INTO notes (id, path, key, content) VALUES (?1, ?2, ?3, ?4)")?
        .insert((
            note.as_bytes(),
            live.path.as_str(),
            links::name_key(&live.path).as_str(),
            live.content.as_bytes(),
        ))?;
    if live.kind != Kind::Note {
        return Ok(0);
    }
    let text = text_of(repo, live)?;
    let text = text.as_deref().unwrap_or_default();
    let folder = live.path.parent();
    conn.prepare_cached("INSERT INTO words (rowid, title, folder, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute((
            k,
            links::title(&live.path),
            folder.as_ref().map_or("", VaultPath::as_str),
            text,
        ))?;
    put_links(conn, k, text)?;
    Ok(text.len() as u64)
}

fn put_links(conn: &Connection, source: i64, text: &str) -> Result<(), Fault> {
    let found = links::links(text);
    if found.is_empty() {
        return Ok(());
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut insert = conn.prepare_cached(
        "INSERT INTO links (source, key, style, target, line, text)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for link in found.iter().take(LINKS_MAX) {
        let line = lines.get(link.line - 1).copied().unwrap_or_default().trim();
        let line: String = line.chars().take(LINE_CHARS).collect();
        let style = match link.style {
            Style::Wiki => 0,
            Style::Markdown => 1,
        };
        let key = link.key();
        let at = link.line as i64;
        insert.execute((source, key.as_str(), style, &link.target, at, line))?;
    }
    Ok(())
}

/// The head of a note; of several that wait for bytes to be merged, the newest live one, which is
/// the one whose path counts.
pub fn newest<R: Repo>(repo: &R, note: &NoteId) -> Attempt<Option<Arc<Version>>, R> {
    let mut newest: Option<((bool, Stamp), Arc<Version>)> = None;
    for id in repo.heads(note).map_err(Failed::Repo)? {
        let Some(version) = repo.version(&id).map_err(Failed::Repo)? else { continue };
        let rank = (version.live().is_some(), version.stamp);
        if newest.as_ref().is_none_or(|(best, _)| rank > *best) {
            newest = Some((rank, version));
        }
    }
    Ok(newest.map(|(_, version)| version))
}

/// The text of a note that is not too large.
pub fn text_of<R: Repo>(repo: &R, live: &Live) -> Attempt<Option<String>, R> {
    if live.kind != Kind::Note || live.bytes > TEXT_BYTES_MAX {
        return Ok(None);
    }
    let bytes = repo.content(&live.content).map_err(Failed::Repo)?;
    Ok(bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()))
}
