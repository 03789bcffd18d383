//! Gathers texts that came alone, one edit at a time, into packs: notes of one vault are alike,
//! and together take half the room.
//!
//! Invariant: every content keeps its bytes and the bound on what reading it decodes (see
//! [`crate::contents`]); one pack is one transaction.

use std::collections::HashMap;

use crucible_proto::limits::PACK_RAW_AIM;
use crucible_proto::zip;
use crucible_sync::repo::Pack;
use rusqlite::{Connection, Transaction};

use crate::contents::{self, Decoded, Form, cost_max, kib};
use crate::error::{Fault, StoreError};
use crate::vault_db::VaultDb;

/// Larger texts gain nothing from company.
const ALONE_MIN: usize = 256 << 10;
/// Less than this waits for more: small packs would gain little, and be gathered never again.
const GROUP_MIN: usize = 128 << 10;

/// Texts that go into one pack.
#[derive(Debug, Default)]
struct Group {
    members: Vec<i64>,
    raw_bytes: usize,
}

impl VaultDb {
    /// Packs what is kept alone; how many packs that made.
    pub(crate) fn gather(&mut self) -> Result<u64, StoreError> {
        let groups = self.read(|conn, _| groups(conn))?;
        let made = groups.len() as u64;
        for group in groups {
            self.write(|tx| pack(tx, &group))?;
        }
        self.seen.borrow_mut().clear();
        Ok(made)
    }
}

/// A content with what rests on it.
struct Text {
    bytes: u64,
    cost: u64,
    over: Vec<i64>,
}

fn groups(conn: &Connection) -> Result<Vec<Group>, Fault> {
    let texts = texts(conn)?;
    let mut select = conn.prepare(
        "SELECT k FROM contents WHERE frame IS NOT NULL AND base IS NULL AND bytes < ?1 ORDER BY k",
    )?;
    let alone = select.query_map([ALONE_MIN as i64], |row| row.get::<_, i64>(0))?;
    let (mut groups, mut group) = (Vec::new(), Group::default());
    for k in alone {
        let k = k?;
        let bytes = texts[&k].bytes as usize;
        if !has_room(&texts, k) {
            continue;
        }
        if group.raw_bytes + bytes > PACK_RAW_AIM {
            groups.push(std::mem::take(&mut group));
        }
        group.raw_bytes += bytes;
        group.members.push(k);
    }
    groups.push(group);
    groups.retain(|group| group.raw_bytes >= GROUP_MIN && group.members.len() > 1);
    Ok(groups)
}

fn texts(conn: &Connection) -> Result<HashMap<i64, Text>, Fault> {
    let mut texts = HashMap::new();
    let mut over: Vec<(i64, i64)> = Vec::new();
    let mut select =
        conn.prepare("SELECT k, bytes, cost, base FROM contents WHERE frame IS NOT NULL")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let k: i64 = row.get(0)?;
        let (bytes, cost) = (row.get::<_, i64>(1)? as u64, row.get::<_, i64>(2)? as u64);
        texts.insert(k, Text { bytes, cost, over: Vec::new() });
        over.extend(row.get::<_, Option<i64>>(3)?.map(|base| (base, k)));
    }
    for (base, k) in over {
        // A base in a pack is no candidate, and what rests on it stays as it is.
        if let Some(text) = texts.get_mut(&base) {
            text.over.push(k);
        }
    }
    Ok(texts)
}

/// Whether `k` and all that rests on it may cost a whole pack more to read.
fn has_room(texts: &HashMap<i64, Text>, k: i64) -> bool {
    let more = kib(PACK_RAW_AIM as u64).saturating_sub(texts[&k].cost);
    resting_on(texts, k).all(|k| texts[&k].cost + more <= cost_max(texts[&k].bytes))
}

/// `k` and everything whose chain of deltas leads to it.
fn resting_on(texts: &HashMap<i64, Text>, k: i64) -> impl Iterator<Item = i64> {
    let mut open = vec![k];
    std::iter::from_fn(move || {
        let k = open.pop()?;
        open.extend(texts.get(&k).into_iter().flat_map(|text| &text.over));
        Some(k)
    })
}

fn pack(tx: &Transaction<'_>, group: &Group) -> Result<(), Fault> {
    let texts = texts(tx)?;
    let mut decoded = Decoded::default();
    let mut raw = Vec::with_capacity(group.raw_bytes);
    let mut places = Vec::with_capacity(group.members.len());
    for &k in &group.members {
        places.push((k, raw.len()));
        let gone = Fault::Damaged("a text that is kept alone is stored");
        raw.extend_from_slice(&decoded.decode(tx, contents::by_k(tx, k)?)?.ok_or(gone)?);
    }
    let raw_bytes = u32::try_from(raw.len()).map_err(|_| Fault::Damaged("packs are bounded"))?;
    let pack = Pack { raw_bytes, frame: zip::zip_tight(&raw) };
    let pack = contents::write_pack(tx, &pack, true)?;
    let cost = kib(raw.len() as u64);
    let mut dearer = tx.prepare_cached("UPDATE contents SET cost = ?2 WHERE k = ?1")?;
    for (k, at) in places {
        let before = texts[&k].cost;
        for over in resting_on(&texts, k).skip(1) {
            let chain = texts[&over].cost.saturating_sub(before);
            dearer.execute((over, (cost + chain) as i64))?;
        }
        contents::rewrite(tx, k, cost, &Form::Packed { pack, at })?;
    }
    Ok(())
}
