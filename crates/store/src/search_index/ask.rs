//! Questions to the index: words, and links.
//!
//! Invariant: what a person types is never read as a query language: every word travels quoted.

use std::collections::BTreeMap;

use crucible_core::id::NoteId;
use crucible_core::links::{self, Style};
use crucible_core::vault_path::VaultPath;
use crucible_sync::repo::Repo;
use rusqlite::{Connection, OptionalExtension};

use super::follow::{newest, text_of};
use super::{Attempt, Backlink, Hit, LINKS_MAX, NoteLinks, Part};
use crate::error::Fault;

/// Words of one question; more are left out.
const TERMS_MAX: usize = 16;
/// Words in a piece of text that is shown.
const PIECE_WORDS: u8 = 24;
/// Characters of a text that are shown where no word was found in it.
const BEGINNING_CHARS: usize = 160;
/// Bytes of text looked through for pieces to show; of what comes later the beginning is shown.
const PIECES_BYTES: usize = 8 << 20;
/// Around what was found, in a piece: no text has them, for they are taken out before.
const OPEN: char = '\u{1}';
/// Behind it.
const CLOSE: char = '\u{2}';

/// A question in the form of FTS5; `None` when it has no word.
pub fn terms(question: &str) -> Option<String> {
    let mut terms = Vec::new();
    for (index, piece) in question.split('"').enumerate() {
        let has_word = |text: &str| text.chars().any(char::is_alphanumeric);
        // Between an opening and a closing quote.
        if index % 2 == 1 {
            terms.extend(has_word(piece).then(|| format!("\"{}\"", clean(piece))));
        } else {
            let words = piece.split_whitespace().filter(|word| has_word(word));
            terms.extend(words.map(|word| format!("\"{}\"*", clean(word))));
        }
    }
    terms.truncate(TERMS_MAX);
    (!terms.is_empty()).then(|| terms.join(" AND "))
}

fn clean(text: &str) -> String {
    text.replace('\0', " ")
}

/// The notes that answer, those with the words in their name first.
pub fn hits<R: Repo>(
    conn: &Connection,
    repo: &R,
    terms: &str,
    limit: usize,
) -> Attempt<Vec<Hit>, R> {
    let mut rows = ranked(conn, &format!("{{title}} : ({terms})"), limit)?;
    for row in ranked(conn, terms, limit)? {
        if rows.len() < limit && !rows.iter().any(|(k, _, _)| *k == row.0) {
            rows.push(row);
        }
    }
    let mut pieces = Pieces::new(terms)?;
    let mut hits = Vec::with_capacity(rows.len());
    for (_, note, path) in rows {
        let Ok(path) = VaultPath::new(&path) else {
            return Err(Fault::Damaged("paths in the search index are paths").into());
        };
        let text = match newest(repo, &note)?.as_ref().and_then(|version| version.live()) {
            Some(live) => text_of(repo, live)?,
            None => None,
        };
        let parts = pieces.of(&text.unwrap_or_default())?;
        hits.push(Hit { path, parts });
    }
    Ok(hits)
}

fn ranked(
    conn: &Connection,
    query: &str,
    limit: usize,
) -> Result<Vec<(i64, NoteId, String)>, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT n.k, n.id, n.path FROM words JOIN notes n ON n.k = words.rowid
         WHERE words MATCH ?1 ORDER BY bm25(words, 10.0, 4.0, 1.0), n.path LIMIT ?2",
    )?;
    let rows = select.query_map((query, limit as i64), |row| {
        Ok((row.get(0)?, NoteId::from_bytes(row.get(1)?), row.get(2)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Cuts pieces out of texts with the very rules by which words are found: a small index of the
/// texts shown, in memory, for the one on the disk holds no texts.
struct Pieces<'t> {
    conn: Connection,
    terms: &'t str,
    left: usize,
}

impl<'t> Pieces<'t> {
    fn new(terms: &'t str) -> Result<Self, Fault> {
        let conn = Connection::open_in_memory()?;
        conn.execute_batch(
            "CREATE VIRTUAL TABLE piece USING fts5(
                body, tokenize = 'unicode61 remove_diacritics 2'
            );",
        )?;
        Ok(Self { conn, terms, left: PIECES_BYTES })
    }

    fn of(&mut self, text: &str) -> Result<Vec<Part>, Fault> {
        if text.len() <= self.left {
            self.left -= text.len();
            let body = text.replace([OPEN, CLOSE], " ");
            self.conn.execute("DELETE FROM piece", [])?;
            self.conn.execute("INSERT INTO piece (body) VALUES (?1)", [body])?;
            let mut select = self.conn.prepare_cached(
                "SELECT snippet(piece, 0, char(1), char(2), '…', ?2) FROM piece
                 WHERE piece MATCH ?1",
            )?;
            // Some of the words may stand in the name alone: any of them is worth showing.
            let any = self.terms.replace(" AND ", " OR ");
            let found: Option<String> =
                select.query_row((any, PIECE_WORDS), |row| row.get(0)).optional()?;
            if let Some(found) = found {
                return Ok(parts(&found));
            }
        }
        let beginning: String = text.chars().take(BEGINNING_CHARS).collect();
        let is_empty = beginning.trim().is_empty();
        Ok(if is_empty { Vec::new() } else { vec![Part { text: beginning, is_hit: false }] })
    }
}

fn parts(marked: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut push = |text: &str, is_hit| {
        if !text.is_empty() {
            parts.push(Part { text: text.to_owned(), is_hit });
        }
    };
    for (index, piece) in marked.split(OPEN).enumerate() {
        match piece.split_once(CLOSE) {
            Some((hit, rest)) if index > 0 => {
                push(hit, true);
                push(rest, false);
            }
            _ => push(piece, false),
        }
    }
    parts
}

/// The links to and from the note at `path`.
pub fn links(conn: &Connection, path: &VaultPath) -> Result<NoteLinks, Fault> {
    let mut find = conn.prepare_cached("SELECT k FROM notes WHERE path = ?1 ORDER BY id")?;
    let Some(k) = find.query_row([path.as_str()], |row| row.get::<_, i64>(0)).optional()? else {
        return Ok(NoteLinks::default());
    };
    Ok(NoteLinks { back: back(conn, path)?, outgoing: outgoing(conn, k, path)? })
}

fn back(conn: &Connection, path: &VaultPath) -> Result<Vec<Backlink>, Fault> {
    let key = links::name_key(path);
    // All that these links could mean has the same key.
    let candidates = named(conn, key.as_str())?;
    let mut select = conn.prepare_cached(
        "SELECT n.path, l.style, l.target, l.line, l.text
         FROM links l JOIN notes n ON n.k = l.source
         WHERE l.key = ?1 ORDER BY n.path, l.line, l.k",
    )?;
    let mut rows = select.query([key.as_str()])?;
    let mut found: Vec<Backlink> = Vec::new();
    while let Some(row) = rows.next()? {
        let source = vault_path(&row.get::<_, String>(0)?)?;
        let target: String = row.get(2)?;
        let meant = links::resolve(&source, style(row.get(1)?), &target, &candidates);
        if meant != Some(path) || source == *path {
            continue;
        }
        let line = row.get::<_, i64>(3)? as u64;
        // Two links in one line are shown once.
        if found.last().is_some_and(|last| last.line == line && last.path == source) {
            continue;
        }
        found.push(Backlink { path: source, line, text: row.get(4)? });
        if found.len() == LINKS_MAX {
            break;
        }
    }
    Ok(found)
}

fn outgoing(
    conn: &Connection,
    k: i64,
    path: &VaultPath,
) -> Result<Vec<(String, Option<VaultPath>)>, Fault> {
    let mut select =
        conn.prepare_cached("SELECT key, style, target FROM links WHERE source = ?1 ORDER BY k")?;
    let mut rows = select.query([k])?;
    let mut candidates: BTreeMap<String, Vec<VaultPath>> = BTreeMap::new();
    let mut found: Vec<(String, Option<VaultPath>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (key, target): (String, String) = (row.get(0)?, row.get(2)?);
        if found.iter().any(|(known, _)| *known == target) {
            continue;
        }
        if !candidates.contains_key(&key) {
            candidates.insert(key.clone(), named(conn, &key)?);
        }
        let meant = links::resolve(path, style(row.get(1)?), &target, &candidates[&key]);
        found.push((target, meant.cloned()));
    }
    Ok(found)
}

/// Every note with this key, in the order of paths.
fn named(conn: &Connection, key: &str) -> Result<Vec<VaultPath>, Fault> {
    let mut select = conn.prepare_cached("SELECT path FROM notes WHERE key = ?1 ORDER BY path")?;
    let mut rows = select.query([key])?;
    let mut paths = Vec::new();
    while let Some(row) = rows.next()? {
        paths.push(vault_path(&row.get::<_, String>(0)?)?);
    }
    Ok(paths)
}

fn vault_path(path: &str) -> Result<VaultPath, Fault> {
    VaultPath::new(path).map_err(|_| Fault::Damaged("paths in the search index are paths"))
}

fn style(number: i64) -> Style {
    if number == 0 { Style::Wiki } else { Style::Markdown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_words_and_phrases_and_nothing_else() {
        let asked = |question| terms(question).unwrap_or_default();
        assert_eq!(asked("plan  for may"), r#""plan"* AND "for"* AND "may"*"#);
        assert_eq!(asked(r#"a "two words" b"#), r#""a"* AND "two words" AND "b"*"#);
        assert_eq!(asked("NEAR(x) -y title:z *"), r#""NEAR(x)"* AND "-y"* AND "title:z"*"#);
        assert_eq!(asked(r#"open "phrase"#), r#""open"* AND "phrase""#);
        assert_eq!(asked(r#" - " " "" * "#), "");
        assert_eq!(asked(&"w ".repeat(40)).matches("AND").count(), TERMS_MAX - 1);
    }

    #[test]
    fn a_piece_is_taken_apart_at_its_marks() {
        let shown = parts("…a \u{1}b\u{2} c \u{1}d\u{2}");
        let shown: Vec<_> = shown.iter().map(|part| (part.text.as_str(), part.is_hit)).collect();
        assert_eq!(shown, [("…a ", false), ("b", true), (" c ", false), ("d", true)]);
    }
}
