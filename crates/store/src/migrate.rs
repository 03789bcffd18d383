//! Upgrades of the database format: one function per step, all in one transaction.
//!
//! Invariant: a database is of its old format or of the new one, never between. A release reads
//! every older format and writes only its own; an older release refuses the file (exit 15).

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::contents::sum;
use crate::error::{Fault, OpenError};
use crate::schema::FORMAT;

/// Brings a database one format further.
type Step = fn(&Transaction<'_>) -> rusqlite::Result<()>;

/// `STEPS[n]` leads from format `n + 1` to `n + 2`; format 1 is the first.
const STEPS: &[Step] = &[sum_packs, add_co_authors];

/// Format 2: packs carry a sum of their frame, so that they can go on as they lie.
fn sum_packs(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute_batch("ALTER TABLE packs ADD COLUMN sum BLOB NOT NULL DEFAULT x''")?;
    let mut select = tx.prepare("SELECT k FROM packs")?;
    let packs: Vec<i64> = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for k in packs {
        let frame: Vec<u8> =
            tx.query_row("SELECT frame FROM packs WHERE k = ?1", [k], |row| row.get(0))?;
        tx.execute("UPDATE packs SET sum = ?1 WHERE k = ?2", (sum(&frame), k))?;
    }
    Ok(())
}

/// Format 3: commits of live sessions name all who wrote.
fn add_co_authors(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute_batch(
        "CREATE TABLE co_authors (
            first INTEGER NOT NULL,
            place INTEGER NOT NULL,
            user BLOB NOT NULL,
            device BLOB NOT NULL,
            PRIMARY KEY (first, place)
        ) STRICT, WITHOUT ROWID",
    )
}

/// Brings the open database from format `found` to [`FORMAT`].
///
/// # Errors
/// [`OpenError::TooNew`] when another process has upgraded it meanwhile; the store's errors.
pub(crate) fn upgrade(conn: &mut Connection, path: &Path, found: u32) -> Result<(), OpenError> {
    if found > FORMAT {
        return Err(OpenError::TooNew { path: path.to_owned(), found, known: FORMAT });
    }
    run(conn, found, STEPS).map_err(|fault| OpenError::Store(fault.at(path)))
}

fn run(conn: &mut Connection, found: u32, steps: &[Step]) -> Result<(), Fault> {
    if found as usize > steps.len() {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    let now: u32 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for step in steps.iter().skip(now.saturating_sub(1) as usize) {
        step(&tx)?;
    }
    tx.pragma_update(None, "user_version", now.max(steps.len() as u32 + 1))?;
    Ok(tx.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add_column(tx: &Transaction<'_>) -> rusqlite::Result<()> {
        tx.execute_batch("ALTER TABLE t ADD COLUMN b INTEGER NOT NULL DEFAULT 7")
    }

    fn fail(tx: &Transaction<'_>) -> rusqlite::Result<()> {
        tx.execute_batch("DROP TABLE t; SELECT * FROM absent")
    }

    fn old_file() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
        conn.pragma_update(None, "user_version", 1).unwrap();
        conn
    }

    fn format(conn: &Connection) -> u32 {
        conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_old_file_takes_every_step_once() {
        let mut conn = old_file();
        run(&mut conn, 1, &[add_column]).unwrap();
        run(&mut conn, 2, &[add_column]).unwrap();
        assert_eq!(format(&conn), 2);
        let row: (i64, i64) =
            conn.query_row("SELECT a, b FROM t", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(row, (1, 7));
    }

    #[test]
    fn a_step_that_fails_leaves_the_old_file() {
        let mut conn = old_file();
        assert!(run(&mut conn, 1, &[add_column, fail]).is_err());
        assert_eq!(format(&conn), 1);
        assert!(conn.query_row("SELECT b FROM t", [], |_| Ok(())).is_err());
        conn.query_row("SELECT a FROM t", [], |_| Ok(())).unwrap();
    }

    #[test]
    fn packs_of_format_1_get_the_sum_of_what_they_hold() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE packs (k INTEGER PRIMARY KEY AUTOINCREMENT, bytes INTEGER NOT NULL,
                 tight INTEGER NOT NULL, frame BLOB NOT NULL) STRICT;
             INSERT INTO packs (bytes, tight, frame) VALUES (9, 0, x'0102'), (9, 1, x'03')",
        )
        .unwrap();
        conn.pragma_update(None, "user_version", 1).unwrap();
        run(&mut conn, 1, STEPS).unwrap();
        assert_eq!(format(&conn), FORMAT);
        let mut select = conn.prepare("SELECT frame, sum FROM packs").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let rows: Vec<(Vec<u8>, [u8; 16])> = rows.map(Result::unwrap).collect();
        assert_eq!(rows, [(vec![1, 2], sum(&[1, 2])), (vec![3], sum(&[3]))]);
    }

    #[test]
    fn there_is_a_step_to_every_format() {
        assert_eq!(STEPS.len() + 1, FORMAT as usize);
    }
}
