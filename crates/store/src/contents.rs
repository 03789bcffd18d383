//! Bytes of notes and small assets: packs as they came, deltas in chains of bounded cost.
//!
//! Invariant: reading any content decodes at most [`COST_MAX_KIB`] of raw bytes, or three times
//! its own size where that is more; a delta's base is there as long as the delta is; and what is
//! handed out has the hash it was asked by: a disk that changes a byte makes no merge wrong.

use std::collections::HashMap;
use std::sync::Arc;

use crucible_core::hash::ContentHash;
use crucible_proto::zip;
use crucible_sync::repo::{Body, NewContent, Pack, PackPlace};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::error::{Fault, intact, rule};
use crate::recent::Recent;
use crate::schema::PREFIX;

/// Raw KiB decoded to read a content, with [`LINK_KIB`] for each delta on the way.
const COST_MAX_KIB: u64 = 6 << 10;
/// What a link of a chain costs besides its bytes: a look-up and a decoder. Bounds chains of
/// small notes to 64 links.
const LINK_KIB: u64 = 96;
/// Raw bytes of packs and of contents remembered by one open database.
const PACK_CACHE_BYTES: usize = 16 << 20;
const CONTENT_CACHE_BYTES: usize = 8 << 20;

/// How a content is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// Not in this database: a blob, or forgotten.
    Elsewhere,
    /// In a pack, from this byte.
    Packed { pack: i64, at: usize },
    /// A frame over another content.
    Delta { base: i64, frame: Vec<u8> },
    /// A frame of its own.
    Whole(Vec<u8>),
}

/// A row of `contents`.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) k: i64,
    pub(crate) hash: ContentHash,
    pub(crate) bytes: usize,
    pub(crate) cost: u64,
    pub(crate) form: Form,
}

/// Decoded bytes used lately. Packs are keyed by an integer that is never used twice, contents
/// by their hash.
pub(crate) struct Decoded {
    packs: Recent<i64, Arc<Vec<u8>>>,
    contents: Recent<ContentHash, Arc<[u8]>>,
}

impl Default for Decoded {
    fn default() -> Self {
        Self { packs: Recent::new(PACK_CACHE_BYTES), contents: Recent::new(CONTENT_CACHE_BYTES) }
    }
}

impl Decoded {
    pub(crate) fn clear(&mut self) {
        self.packs.clear();
        self.contents.clear();
    }

    /// The bytes of `hash`, `None` when they are not in this database.
    pub(crate) fn read(
        &mut self,
        conn: &Connection,
        hash: &ContentHash,
    ) -> Result<Option<Arc<[u8]>>, Fault> {
        let Some(content) = find(conn, hash)? else { return Ok(None) };
        let raw = self.decode(conn, content)?;
        intact(raw.as_ref().is_none_or(|raw| has_hash(raw, hash)), "contents have their hash")?;
        Ok(raw)
    }

    /// The bytes of a row, `None` when they are elsewhere.
    pub(crate) fn decode(
        &mut self,
        conn: &Connection,
        content: Content,
    ) -> Result<Option<Arc<[u8]>>, Fault> {
        let mut chain = Vec::new();
        let mut at = content;
        let mut raw: Arc<[u8]> = loop {
            if let Some(raw) = self.contents.get(&at.hash, |raw| raw.len()) {
                break raw;
            }
            match at.form {
                Form::Delta { base, frame } => {
                    chain.push((at.hash, frame, at.bytes));
                    intact(chain.len() <= CHAIN_MAX, "chains of deltas are short")?;
                    at = by_k(conn, base)?;
                }
                Form::Whole(frame) => break self.keep(at.hash, unzip(&frame, at.bytes)?),
                Form::Packed { pack, at: from } => {
                    let raw = self.pack(conn, pack)?;
                    let part = raw.get(from..from.saturating_add(at.bytes));
                    break part.ok_or(Fault::Damaged("packs hold their contents"))?.into();
                }
                Form::Elsewhere => {
                    intact(chain.is_empty(), "a delta's base is stored")?;
                    return Ok(None);
                }
            }
        };
        while let Some((hash, frame, bytes)) = chain.pop() {
            let next = zip::undelta(&raw, &frame, bytes);
            raw = self.keep(hash, next.map_err(|_| Fault::Damaged("deltas decode"))?);
        }
        Ok(Some(raw))
    }

    fn keep(&mut self, hash: ContentHash, raw: Vec<u8>) -> Arc<[u8]> {
        let raw: Arc<[u8]> = raw.into();
        self.contents.put(hash, Arc::clone(&raw), raw.len());
        raw
    }

    fn pack(&mut self, conn: &Connection, k: i64) -> Result<Arc<Vec<u8>>, Fault> {
        if let Some(raw) = self.packs.get(&k, |raw| raw.len()) {
            return Ok(raw);
        }
        let mut select = conn.prepare_cached("SELECT bytes, frame FROM packs WHERE k = ?1")?;
        let row = select
            .query_row([k], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))
            .optional()?;
        let (bytes, frame) = row.ok_or(Fault::Damaged("contents name packs that are there"))?;
        let raw = Arc::new(unzip(&frame, bytes as usize)?);
        self.packs.put(k, Arc::clone(&raw), raw.len());
        Ok(raw)
    }
}

/// Whether bytes are those of a hash, as a note's text or as an asset's bytes.
pub(crate) fn has_hash(raw: &[u8], hash: &ContentHash) -> bool {
    let text = std::str::from_utf8(raw).ok();
    text.is_some_and(|text| ContentHash::of_text(text) == *hash)
        || ContentHash::of_blob(raw) == *hash
}

/// Longer than any chain this crate writes: a bound on damaged rows.
const CHAIN_MAX: usize = 1 << 10;

fn unzip(frame: &[u8], bytes: usize) -> Result<Vec<u8>, Fault> {
    zip::unzip(frame, bytes).map_err(|_| Fault::Damaged("frames decode"))
}

/// The columns [`from_row`] reads, in order.
pub(crate) const COLUMNS: &str = "k, hash, bytes, cost, pack, at, base, frame";

pub(crate) fn from_row(row: &Row<'_>) -> rusqlite::Result<Content> {
    let pack: Option<i64> = row.get(4)?;
    let base: Option<i64> = row.get(6)?;
    let form = if let Some(pack) = pack {
        Form::Packed { pack, at: row.get::<_, i64>(5)? as usize }
    } else if let Some(base) = base {
        Form::Delta { base, frame: row.get(7)? }
    } else {
        row.get::<_, Option<Vec<u8>>>(7)?.map_or(Form::Elsewhere, Form::Whole)
    };
    Ok(Content {
        k: row.get(0)?,
        hash: ContentHash::from_bytes(row.get(1)?),
        bytes: row.get::<_, i64>(2)? as usize,
        cost: row.get::<_, i64>(3)? as u64,
        form,
    })
}

pub(crate) fn find(conn: &Connection, hash: &ContentHash) -> Result<Option<Content>, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT k, hash, bytes, cost, pack, at, base, frame FROM contents
         WHERE substr(hash, 1, 5) = ?1 AND hash = ?2",
    )?;
    let key = (&hash.as_bytes()[..PREFIX], hash.as_bytes());
    Ok(select.query_row(key, from_row).optional()?)
}

pub(crate) fn by_k(conn: &Connection, k: i64) -> Result<Content, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT k, hash, bytes, cost, pack, at, base, frame FROM contents WHERE k = ?1",
    )?;
    let row = select.query_row([k], from_row).optional()?;
    row.ok_or(Fault::Damaged("rows name contents that are there"))
}

/// Whether the bytes are in this database.
pub(crate) fn is_here(conn: &Connection, hash: &ContentHash) -> Result<bool, Fault> {
    Ok(summary(conn, hash)?.is_some_and(|row| row.here))
}

/// What writing needs to know of a stored content.
#[derive(Clone, Copy)]
struct Summary {
    k: i64,
    cost: u64,
    here: bool,
}

fn summary(conn: &Connection, hash: &ContentHash) -> Result<Option<Summary>, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT k, cost, pack IS NOT NULL OR frame IS NOT NULL FROM contents
         WHERE substr(hash, 1, 5) = ?1 AND hash = ?2",
    )?;
    let key = (&hash.as_bytes()[..PREFIX], hash.as_bytes());
    let row = |row: &Row<'_>| {
        Ok(Summary { k: row.get(0)?, cost: row.get::<_, i64>(1)? as u64, here: row.get(2)? })
    };
    Ok(select.query_row(key, row).optional()?)
}

/// Stores the contents of one batch.
pub(crate) struct Incoming<'c> {
    conn: &'c Connection,
    packs: &'c [Pack],
    stored_packs: Vec<Option<i64>>,
    seen: HashMap<ContentHash, Summary>,
}

impl<'c> Incoming<'c> {
    pub(crate) fn new(conn: &'c Connection, packs: &'c [Pack]) -> Self {
        Self { conn, packs, stored_packs: vec![None; packs.len()], seen: HashMap::new() }
    }

    pub(crate) fn add(&mut self, content: &NewContent) -> Result<(), Fault> {
        let known = self.find(&content.hash)?;
        if known.is_some_and(|known| known.here) {
            return Ok(());
        }
        let (cost, form) = self.form(content)?;
        let k = write(self.conn, known.map(|known| known.k), content, cost, &form)?;
        self.seen.insert(content.hash, Summary { k, cost, here: true });
        Ok(())
    }

    /// The row of a content that a version names; made when the bytes are elsewhere.
    pub(crate) fn intern(&mut self, hash: &ContentHash, bytes: u64) -> Result<i64, Fault> {
        if let Some(known) = self.find(hash)? {
            return Ok(known.k);
        }
        let mut insert = self
            .conn
            .prepare_cached("INSERT INTO contents (hash, bytes, cost) VALUES (?1, ?2, 0)")?;
        let k = insert.insert((hash.as_bytes(), bytes as i64))?;
        self.seen.insert(*hash, Summary { k, cost: 0, here: false });
        Ok(k)
    }

    fn find(&mut self, hash: &ContentHash) -> Result<Option<Summary>, Fault> {
        if let Some(known) = self.seen.get(hash) {
            return Ok(Some(*known));
        }
        let known = summary(self.conn, hash)?;
        if let Some(known) = known {
            self.seen.insert(*hash, known);
        }
        Ok(known)
    }

    fn form(&mut self, content: &NewContent) -> Result<(u64, Form), Fault> {
        let bytes = u64::from(content.bytes);
        match &content.body {
            Body::Packed { pack, offset } => {
                let raw_bytes = self.packs.get(*pack).map(|pack| u64::from(pack.raw_bytes));
                let raw_bytes = raw_bytes.ok_or(Fault::Rule("a pack is in the batch"))?;
                let inside = u64::from(*offset) + bytes <= raw_bytes;
                rule(inside, "a packed content lies inside its pack")?;
                let pack = self.pack(*pack)?;
                Ok((kib(raw_bytes), Form::Packed { pack, at: *offset as usize }))
            }
            Body::Whole(frame) => Ok((kib(bytes), Form::Whole(frame.clone()))),
            Body::Delta { base, frame } => {
                let known = self.find(base)?.filter(|base| base.here);
                let base = known.ok_or(Fault::Rule("a delta's base is stored before it"))?;
                let cost = base.cost + link_cost(bytes);
                if cost <= cost_max(bytes) {
                    return Ok((cost, Form::Delta { base: base.k, frame: frame.clone() }));
                }
                self.shorten(base.k, frame, content.bytes as usize)
            }
        }
    }

    /// Keeps a content whose chain would be too long as a delta over the chain's first member,
    /// or whole where that is hardly larger.
    fn shorten(&self, base: i64, frame: &[u8], bytes: usize) -> Result<(u64, Form), Fault> {
        let mut decoded = Decoded::default();
        let gone = Fault::Damaged("a delta's base is stored");
        let text = decoded.decode(self.conn, by_k(self.conn, base)?)?.ok_or(gone)?;
        let raw = zip::undelta(&text, frame, bytes)
            .map_err(|_| Fault::Rule("a delta decodes over its base"))?;
        let mut first = by_k(self.conn, base)?;
        while let Form::Delta { base, .. } = first.form {
            first = by_k(self.conn, base)?;
        }
        recode(self.conn, &mut decoded, first, &raw)
    }

    fn pack(&mut self, index: usize) -> Result<i64, Fault> {
        if let Some(k) = self.stored_packs[index] {
            return Ok(k);
        }
        let k = write_pack(self.conn, &self.packs[index], false)?;
        self.stored_packs[index] = Some(k);
        Ok(k)
    }
}

/// Keeps `raw` as a delta over `base`, or whole where that is hardly larger or cheaper to read.
pub(crate) fn recode(
    conn: &Connection,
    decoded: &mut Decoded,
    base: Content,
    raw: &[u8],
) -> Result<(u64, Form), Fault> {
    let whole = zip::zip(raw);
    let (base_k, cost) = (base.k, base.cost + link_cost(raw.len() as u64));
    if cost <= cost_max(raw.len() as u64)
        && let Some(text) = decoded.decode(conn, base)?
    {
        let frame = zip::delta(&text, raw);
        if frame.len() * 2 < whole.len() {
            return Ok((cost, Form::Delta { base: base_k, frame }));
        }
    }
    Ok((kib(raw.len() as u64), Form::Whole(whole)))
}

pub(crate) fn write_pack(conn: &Connection, pack: &Pack, tight: bool) -> Result<i64, Fault> {
    let mut insert = conn
        .prepare_cached("INSERT INTO packs (bytes, tight, sum, frame) VALUES (?1, ?2, ?3, ?4)")?;
    Ok(insert.insert((pack.raw_bytes, tight, sum(&pack.frame), &pack.frame))?)
}

/// What shows that the disk has not changed a frame, at a fraction of decoding it.
pub(crate) fn sum(frame: &[u8]) -> [u8; 16] {
    let hash = ContentHash::of_blob(frame);
    *hash.as_bytes().first_chunk().expect("a hash is longer")
}

/// Where the bytes of `hash` lie in a pack.
pub(crate) fn pack_place(
    conn: &Connection,
    hash: &ContentHash,
) -> Result<Option<PackPlace>, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT c.pack, c.at, p.bytes FROM contents c JOIN packs p ON p.k = c.pack
         WHERE substr(c.hash, 1, 5) = ?1 AND c.hash = ?2",
    )?;
    let key = (&hash.as_bytes()[..PREFIX], hash.as_bytes());
    let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?, row.get(2)?));
    let found: Option<(u64, u32, u32)> = select.query_row(key, row).optional()?;
    Ok(found.map(|(pack, offset, raw_bytes)| PackPlace { pack, offset, raw_bytes }))
}

/// The pack that holds the bytes of `hash`, and where in it they lie.
pub(crate) fn pack_of(
    conn: &Connection,
    hash: &ContentHash,
) -> Result<Option<(PackPlace, Pack)>, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT c.pack, c.at, p.bytes, p.sum, p.frame FROM contents c JOIN packs p ON p.k = c.pack
         WHERE substr(c.hash, 1, 5) = ?1 AND c.hash = ?2",
    )?;
    let key = (&hash.as_bytes()[..PREFIX], hash.as_bytes());
    let row = |row: &Row<'_>| {
        let raw_bytes = row.get(2)?;
        let pack = row.get::<_, i64>(0)? as u64;
        let place = PackPlace { pack, offset: row.get(1)?, raw_bytes };
        Ok((place, Pack { raw_bytes, frame: row.get(4)? }, row.get::<_, Vec<u8>>(3)?))
    };
    let Some((place, pack, stored)) = select.query_row(key, row).optional()? else {
        return Ok(None);
    };
    intact(stored == sum(&pack.frame), "packs have their sum")?;
    Ok(Some((place, pack)))
}

/// Stores a form, in the row `k` or in a new one.
fn write(
    conn: &Connection,
    k: Option<i64>,
    content: &NewContent,
    cost: u64,
    form: &Form,
) -> Result<i64, Fault> {
    if let Some(k) = k {
        rewrite(conn, k, cost, form)?;
        return Ok(k);
    }
    let mut insert = conn.prepare_cached(
        "INSERT INTO contents (hash, bytes, cost, pack, at, base, frame)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let (pack, at, base, frame) = columns(form);
    let hash = content.hash.as_bytes();
    Ok(insert.insert((hash, content.bytes, cost as i64, pack, at, base, frame))?)
}

/// Stores another form of the same bytes.
pub(crate) fn rewrite(conn: &Connection, k: i64, cost: u64, form: &Form) -> Result<(), Fault> {
    let mut update = conn.prepare_cached(
        "UPDATE contents SET cost = ?2, pack = ?3, at = ?4, base = ?5, frame = ?6 WHERE k = ?1",
    )?;
    let (pack, at, base, frame) = columns(form);
    update.execute((k, cost as i64, pack, at, base, frame))?;
    Ok(())
}

type Columns<'f> = (Option<i64>, Option<i64>, Option<i64>, Option<&'f [u8]>);

fn columns(form: &Form) -> Columns<'_> {
    match form {
        Form::Elsewhere => (None, None, None, None),
        Form::Packed { pack, at } => (Some(*pack), Some(*at as i64), None, None),
        Form::Delta { base, frame } => (None, None, Some(*base), Some(frame)),
        Form::Whole(frame) => (None, None, None, Some(frame)),
    }
}

pub(crate) fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 10)
}

fn link_cost(bytes: u64) -> u64 {
    kib(bytes) + LINK_KIB
}

/// A large note may always rest on one other large text.
pub(crate) fn cost_max(bytes: u64) -> u64 {
    COST_MAX_KIB.max(3 * kib(bytes))
}
