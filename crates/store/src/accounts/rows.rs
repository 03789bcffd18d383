//! Between rows and values: what SQLite keeps as integers, blobs and text, checked on the way in.

use std::collections::BTreeSet;

use crucible_core::vault_path::VaultPath;
use crucible_trust::name::VaultName;
use crucible_trust::rights::{Access, Rights, Within};
use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::{Email, User, Vault};
use crate::error::Fault;

/// Reads at most one row.
pub fn one<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row(params, |row| Ok(read(row))).optional()?.transpose()
}

/// Reads every row; the query bounds them.
pub fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(read(row)?);
    }
    Ok(out)
}

/// A time as SQLite holds it; the year 292 million is the end of time.
pub fn ms(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// A time from a column.
pub fn time(row: &Row<'_>, column: &str) -> Result<u64, Fault> {
    u64::try_from(row.get::<_, i64>(column)?)
        .map_err(|_| Fault::Damaged("times are not before 1970"))
}

/// A time from a column that may be NULL.
pub fn time_if(row: &Row<'_>, column: &str) -> Result<Option<u64>, Fault> {
    let ms: Option<i64> = row.get(column)?;
    ms.map(|ms| u64::try_from(ms).map_err(|_| Fault::Damaged("times are not before 1970")))
        .transpose()
}

/// An id from a blob column.
pub fn id<T, const N: usize>(
    row: &Row<'_>,
    column: &str,
    wrap: impl FnOnce([u8; N]) -> T,
) -> Result<T, Fault> {
    let bytes: Vec<u8> = row.get(column)?;
    Ok(wrap(bytes.try_into().map_err(|_| Fault::Damaged("ids have their length"))?))
}

/// A row of `users`.
pub fn user(row: &Row<'_>) -> Result<User, Fault> {
    Ok(User {
        id: id(row, "user", crucible_core::id::UserId::from_bytes)?,
        email: Email::new(&row.get::<_, String>("email")?)
            .map_err(|_| Fault::Damaged("addresses of people are some"))?,
        created_ms: time(row, "created_ms")?,
    })
}

/// A row of `vaults`.
pub fn vault(row: &Row<'_>) -> Result<Vault, Fault> {
    Ok(Vault {
        id: id(row, "vault", crucible_core::id::VaultId::from_bytes)?,
        name: name(&row.get::<_, String>("name")?)?,
        owner: id(row, "owner", crucible_core::id::UserId::from_bytes)?,
        created_ms: time(row, "created_ms")?,
    })
}

/// How access is stored.
pub fn access_code(access: Access) -> u8 {
    match access {
        Access::Read => 1,
        Access::Write => 2,
    }
}

/// Reads [`access_code`].
pub fn access(row: &Row<'_>) -> Result<Access, Fault> {
    match row.get::<_, u8>("access")? {
        1 => Ok(Access::Read),
        2 => Ok(Access::Write),
        _ => Err(Fault::Damaged("access is to read or to write")),
    }
}

/// One item a line; NULL for all.
pub fn lines<T: Ord>(within: &Within<T>, text: impl Fn(&T) -> String) -> Option<String> {
    match within {
        Within::All => None,
        Within::Only(items) => Some(items.iter().map(|item| text(item) + "\n").collect()),
    }
}

/// Rights from the columns `access`, `may_create`, `vaults`, `folders` and `expires`.
pub fn rights(row: &Row<'_>, expires: &str) -> Result<Rights, Fault> {
    let path = |line: &str| {
        VaultPath::new(line).map_err(|_| Fault::Damaged("folders in rights are paths"))
    };
    Ok(Rights {
        access: access(row)?,
        create: row.get("may_create")?,
        vaults: within(row.get("vaults")?, name)?,
        folders: within(row.get("folders")?, path)?,
        expires_ms: time_if(row, expires)?,
    })
}

fn within<T: Ord>(
    lines: Option<String>,
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> Result<Within<T>, Fault> {
    match lines {
        None => Ok(Within::All),
        Some(text) => {
            Ok(Within::Only(text.lines().map(parse).collect::<Result<BTreeSet<_>, _>>()?))
        }
    }
}

fn name(text: &str) -> Result<VaultName, Fault> {
    VaultName::new(text).map_err(|_| Fault::Damaged("names of vaults are some"))
}
