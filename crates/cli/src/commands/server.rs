//! `cru server check|gc|backup`: looking after a server's data.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crucible_core::id::VaultId;
use crucible_store::server_repo::Vaults;
use crucible_store::server_vault::ServerVault;
use serde_json::json;

use crate::args::{DataFolder, ServerVerb};
use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome, of_server_data};
use crate::nesting;
use crate::output::{BAD, GOOD, STRONG, count, size};
use crate::service;
use crate::vault_folder::VaultFolder;
use crate::world;

/// Where `cru serve` keeps its data unless somebody says otherwise.
const DATA: &str = "crucible-data";

/// What was asked about a server's data.
pub fn run(what: &ServerVerb, context: &Context) -> Outcome {
    let done = match what {
        ServerVerb::Check(folder) => check(&data_of(folder, context)?, context),
        ServerVerb::Gc(folder) => gc(&data_of(folder, context)?, context),
        ServerVerb::Backup { to, of } => backup(&data_of(of, context)?, &context.path(to), context),
    };
    done.map_err(of_server_data)
}

/// The data folder that is meant: the one that was named, that of the `cru up` which serves the
/// vault one stands in, or the one `cru serve` makes.
pub fn data_of(folder: &DataFolder, context: &Context) -> Outcome<PathBuf> {
    if let Some(data) = &folder.data {
        return Ok(context.path(data));
    }
    let start = std::path::absolute(&context.start).during("finding out which folder this is")?;
    let around = VaultFolder::around(&start)?;
    let served = around.map(|around| context.home.served(&around.config.vault_id));
    let served = served.filter(|data| data.join("accounts.db").is_file());
    Ok(served.unwrap_or_else(|| context.path(Path::new(DATA))))
}

fn check(data: &Path, context: &Context) -> Outcome {
    let output = &context.output;
    let mut broken = accounts_found(data, context)?;
    each(data, |id, name, vault| {
        let report = match vault.and_then(|vault| Ok(vault.check()?)) {
            Ok(report) => report,
            // One vault that cannot even be opened keeps nobody from looking at the others.
            Err(failure) if failure.exit == Exit::Integrity => {
                broken += 1;
                output.value(&json!({
                    "type": "checked",
                    "vault": name,
                    "vault_id": id.to_string(),
                    "findings": [&failure.message],
                }))?;
                let verdict = output.paint(BAD, "cannot be opened");
                output.line(format!("{}: {verdict}", output.paint(STRONG, name)))?;
                return output.line(format!("  {}", failure.message));
            }
            Err(failure) => return Err(failure),
        };
        broken += report.findings.len();
        let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        output.value(&json!({
            "type": "checked",
            "vault": name,
            "vault_id": id.to_string(),
            "versions": report.versions,
            "contents": report.contents,
            "blobs": report.blobs,
            "findings": findings,
        }))?;
        let verdict = match findings.is_empty() {
            true => output.paint(GOOD, "whole"),
            false => output.paint(BAD, count(findings.len(), "finding", "findings")),
        };
        output.line(format!(
            "{}: {verdict} ({}, {}, {})",
            output.paint(STRONG, name),
            count(report.versions, "version", "versions"),
            count(report.contents, "content", "contents"),
            count(report.blobs, "blob", "blobs"),
        ))?;
        for finding in findings {
            output.line(format!("  {finding}"))?;
        }
        Ok(())
    })?;
    if broken == 0 {
        return Ok(Exit::Ok);
    }
    let found = count(broken, "thing is", "things are");
    let message = format!("{found} not what it should be in {}", data.display());
    Err(Failure::new(Exit::Integrity, message))
}

/// What is wrong with the accounts and the live sessions: told, and how many lines of it.
fn accounts_found(data: &Path, context: &Context) -> Outcome<usize> {
    require(data)?;
    let mut count = 0;
    let accounts = service::accounts(data)?.check()?;
    let sessions = service::sessions(data)?.map(|sessions| sessions.check()).transpose()?;
    for (name, findings) in
        [("accounts.db", accounts), (service::SESSIONS, sessions.unwrap_or_default())]
    {
        if findings.is_empty() {
            continue;
        }
        count += findings.len();
        let file = data.join(name).display().to_string();
        context.output.value(&json!({ "type": "checked", "file": file, "findings": findings }))?;
        for finding in &findings {
            context.output.line(format!("{file}: {finding}"))?;
        }
    }
    Ok(count)
}

fn gc(data: &Path, context: &Context) -> Outcome {
    let output = &context.output;
    each(data, |id, name, vault| {
        let swept = vault?.gc(world::now_ms())?;
        output.value(&json!({
            "type": "swept",
            "vault": name,
            "vault_id": id.to_string(),
            "contents": swept.contents,
            "blobs": swept.blobs,
            "blob_bytes": swept.blob_bytes,
            "partial_blobs": swept.partial_blobs,
        }))?;
        output.line(format!(
            "{}: {}, {} ({}), {}",
            output.paint(STRONG, name),
            count(swept.contents, "content", "contents"),
            count(swept.blobs, "blob", "blobs"),
            size(swept.blob_bytes),
            count(swept.partial_blobs, "unfinished blob", "unfinished blobs"),
        ))
    })?;
    Ok(Exit::Ok)
}

fn backup(data: &Path, to: &Path, context: &Context) -> Outcome {
    if to.exists() {
        let message = format!("{} is there already; nothing was written", to.display());
        return Err(Failure::new(Exit::Refused, message).hint("name a folder that is not there"));
    }
    require(data)?;
    require_apart(data, to)?;
    let vaults = to.join("vaults");
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&vaults);
    made.during(format!("making {}", vaults.display()))?;
    // Accounts first: a vault that they do not name yet is not missed by anybody.
    service::accounts(data)?.backup(&to.join("accounts.db"))?;
    let output = &context.output;
    let mut copied = 0u64;
    // Before the vaults: what a session has made a version of meanwhile is found there.
    if let Some(sessions) = service::sessions(data)? {
        sessions.backup(&to.join(service::SESSIONS))?;
    }
    each(data, |id, name, vault| {
        let done = vault?.backup(&vaults.join(id.to_string()))?;
        copied += 1;
        output.value(&json!({
            "type": "backed_up",
            "vault": name,
            "vault_id": id.to_string(),
            "database_bytes": done.database_bytes,
            "blobs": done.blobs,
        }))?;
        output.line(format!(
            "{}: {}, {}",
            output.paint(STRONG, name),
            size(done.database_bytes),
            count(done.blobs, "blob", "blobs"),
        ))
    })?;
    output.line(format!("{} copied to {}", count(copied, "vault", "vaults"), to.display()))?;
    Ok(Exit::Ok)
}

/// A copy inside of what is copied would be a part of the next one, and one inside a vault would go
/// to all its devices.
fn require_apart(data: &Path, to: &Path) -> Outcome<()> {
    nesting::require_unsynced(to)?;
    let data = fs::canonicalize(data).during(format!("reading {}", data.display()))?;
    let to = std::path::absolute(to).during("finding out where the copy goes")?;
    let there = to.ancestors().find_map(|folder| fs::canonicalize(folder).ok());
    if !there.is_some_and(|there| there.starts_with(&data)) {
        return Ok(());
    }
    let message = format!("{} is inside of the data folder itself", to.display());
    Err(Failure::new(Exit::Refused, message)
        .hint("name a folder outside of it, best on another disk"))
}

fn require(data: &Path) -> Outcome<()> {
    if data.join("accounts.db").is_file() {
        return Ok(());
    }
    let message = format!("{} is not the data folder of a server", data.display());
    Err(Failure::failed(message).hint("--data names it"))
}

/// Every vault of a data folder, with its name; or why it cannot be opened.
fn each(
    data: &Path,
    mut work: impl FnMut(&VaultId, &str, Outcome<ServerVault>) -> Outcome<()>,
) -> Outcome<()> {
    require(data)?;
    let accounts = service::accounts(data)?;
    let mut names = std::collections::BTreeMap::new();
    let mut after = None;
    loop {
        let page = accounts.vaults(after.as_ref(), 500)?;
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        names.extend(page.into_iter().map(|vault| (vault.id, vault.name.to_string())));
    }
    let vaults = service::vaults(data);
    for id in vaults.list()? {
        let vault = match vaults.open(&id) {
            Ok(None) => continue,
            Ok(Some(vault)) => Ok(vault),
            Err(error) => Err(error.into()),
        };
        let name = names.get(&id).cloned().unwrap_or_else(|| format!("(nobody's) {}", id.short()));
        work(&id, &name, vault)?;
    }
    Ok(())
}
