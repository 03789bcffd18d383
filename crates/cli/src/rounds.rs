//! One round as a command makes it: with a bar, then told in words or as JSON.

use std::time::Instant;

use crucible_core::conflict::Clash;
use crucible_node::actions::Take;
use crucible_node::config::{Config, Overlap};
use crucible_node::link::Link;
use crucible_node::replica::Options;
use crucible_node::report::{Notice, Report};
use serde_json::{Value, json};

use crate::args::Round;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome, of_vault};
use crate::output::{GOOD, STRONG, count, plain, size};
use crate::past;
use crate::progress::Bar;
use crate::vault_folder::{OpenVault, VaultFolder};
use crate::words::{clash_in_words, conflict_as_json, notice_as_json, notice_in_words};
use crate::world::{Earlier, Machine};

/// Conflicts told one by one; more are counted.
const CONFLICTS_TOLD: usize = 5;
/// Files that came back told one by one; more are counted.
const BROUGHT_BACK_TOLD: usize = 20;

/// How a round is to be gone about.
pub fn options(round: Round) -> Options {
    Options { allow_mass_delete: round.allow_mass_delete, restore_missing: round.restore_missing }
}

/// What a round did, and how long it took.
pub struct Done {
    /// What it did.
    pub report: Report,
    /// Milliseconds.
    pub ms: u64,
    /// Whether there was another side.
    pub remote: bool,
}

/// Makes a round: with the other side if there is one, else versions are made here alone.
///
/// # Errors
/// What kept it from its end.
pub fn make(
    vault: &mut OpenVault,
    link: Option<&mut dyn Link>,
    options: Options,
    bar: &Bar,
) -> Outcome<Done> {
    let begun = Instant::now();
    let remote = link.is_some();
    let mut progress = |progress| bar.show(progress);
    let made = match link {
        Some(link) => vault.replica.sync(link, &mut Machine, options, &mut progress),
        None => vault.replica.commit_local(&mut Machine, options, &mut progress),
    };
    let mut report = made.map_err(|error| of_vault(error.into(), vault.replica.fs().place()))?;
    if !remote {
        report.server_root = None;
    }
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Done { report, ms, remote })
}

/// Makes versions of what changed in the folder, as of an earlier time: a vault that has newer ones
/// gives them the next stamps it can, because a replica's stamps never go back.
///
/// # Errors
/// What kept it from its end.
pub fn record_at(vault: &mut OpenVault, at_ms: u64, options: Options, bar: &Bar) -> Outcome<()> {
    let mut progress = |progress| bar.show(progress);
    let made = vault.replica.commit_local(&mut Earlier { at_ms }, options, &mut progress);
    made.map(drop).map_err(|error| of_vault(error.into(), vault.replica.fs().place()))
}

/// Puts copies beside files that both sides replaced, where the policy says so, and sends them.
///
/// # Errors
/// What kept it from its end; what was copied stays.
pub fn keep_copies(
    vault: &mut OpenVault,
    folder: &VaultFolder,
    context: &Context,
    mut link: Option<&mut dyn Link>,
    done: &mut Done,
    bar: &Bar,
) -> Outcome<()> {
    let wanted: Vec<_> = done
        .report
        .conflicts
        .iter()
        .filter(|conflict| {
            conflict.clash == Clash::Content && copies(&folder.config, conflict.path.as_str())
        })
        .map(|conflict| conflict.id)
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut fetcher = past::Fetcher::new(folder, context);
    for id in wanted {
        let mut fetch = |version: &_| fetcher.bytes(version);
        let taken = vault.replica.take(&id, Take::Both, &mut Machine, &mut fetch);
        taken.map_err(|error| fetcher.explained(error))?;
    }
    let after = match link.take() {
        Some(link) => make(vault, Some(link), Options::default(), bar)?,
        None => make(vault, None, Options::default(), bar)?,
    };
    add(&mut done.report, after.report);
    done.ms += after.ms;
    Ok(())
}

fn copies(config: &Config, path: &str) -> bool {
    let matches = |glob: &str| {
        let glob = globset::GlobBuilder::new(glob).literal_separator(true).build();
        glob.is_ok_and(|glob| glob.compile_matcher().is_match(path))
    };
    let first = config.policies.iter().find(|policy| matches(&policy.glob));
    first.is_some_and(|policy| policy.overlap == Overlap::Copy)
}

fn add(report: &mut Report, after: Report) {
    report.root = after.root;
    report.unplaced = after.unplaced;
    report.server_root = after.server_root;
    report.pushed += after.pushed;
    report.pulled += after.pulled;
    report.merged += after.merged;
    report.brought_back.extend(after.brought_back);
    report.conflicts.extend(after.conflicts);
    for notice in after.notices {
        if !report.notices.contains(&notice) {
            report.notices.push(notice);
        }
    }
    // A link counts from its beginning.
    report.traffic = after.traffic;
}

/// The line that closes a round, for scripts.
pub fn as_json(done: &Done) -> Value {
    let Done { report, ms, .. } = done;
    json!({
        "type": "done",
        "root": report.root.map(|root| root.to_string()),
        "server_root": report.server_root.map(|root| root.to_string()),
        "pushed": report.pushed,
        "pulled": report.pulled,
        "merged": report.merged,
        "conflicts": report.conflicts.len(),
        "requests": report.traffic.requests,
        "bytes_up": report.traffic.bytes_up,
        "bytes_down": report.traffic.bytes_down,
        "ms": ms,
        "unplaced": report.unplaced,
    })
}

/// Tells what a round did; its exit code.
///
/// # Errors
/// When stdout is gone; exit 12 when changes had to stay here because this device may only read.
pub fn tell(context: &Context, done: &Done) -> Outcome {
    let output = &context.output;
    for conflict in &done.report.conflicts {
        let mut event = conflict_as_json(conflict);
        event["type"] = json!("conflict");
        output.value(&event)?;
    }
    tell_notices(context, done.report.notices.iter())?;
    for path in &done.report.brought_back {
        output.value(&json!({ "type": "brought_back", "path": path.as_str() }))?;
    }
    output.value(&as_json(done))?;
    tell_in_words(context, done)?;
    let waiting = done.report.notices.iter().find_map(|notice| match notice {
        Notice::ReadOnly { unsent } => Some(*unsent),
        _ => None,
    });
    if let Some(unsent) = waiting {
        let changes = count(unsent as u64, "change stays", "changes stay");
        let message = format!("this device may read this vault, not change it: {changes} here");
        return Err(Failure::new(Exit::NotAllowed, message)
            .hint("ask for an invitation that allows writing, and run it in this folder"));
    }
    let skipped = |notice: &Notice| matches!(notice, Notice::Skipped { .. });
    let attention = done.report.wants_attention() || done.report.notices.iter().any(skipped);
    Ok(if attention { Exit::Attention } else { Exit::Ok })
}

fn tell_in_words(context: &Context, done: &Done) -> Outcome<()> {
    let output = &context.output;
    output.line(summary(context, done))?;
    let back = &done.report.brought_back;
    for path in back.iter().take(BROUGHT_BACK_TOLD) {
        let path = output.paint(STRONG, plain(path.as_str()));
        output.line(format!("  {path}: brought back"))?;
    }
    if back.len() > BROUGHT_BACK_TOLD {
        output.line(format!("  and {} more", back.len() - BROUGHT_BACK_TOLD))?;
    }
    tell_conflicts(context, done)
}

/// What a round has to say besides; for scripts, all that is not synced in one list.
///
/// # Errors
/// When stdout is gone.
pub fn tell_notices<'n>(
    context: &Context,
    notices: impl Iterator<Item = &'n Notice>,
) -> Outcome<()> {
    let output = &context.output;
    let mut skipped = Vec::new();
    for notice in notices {
        match notice {
            Notice::Skipped { path, .. } => {
                skipped.push(json!({ "path": path, "message": notice_in_words(notice) }));
            }
            notice => output.value(&notice_as_json(notice))?,
        }
        if !output.json {
            output.warn(notice_in_words(notice));
        }
    }
    if skipped.is_empty() {
        return Ok(());
    }
    output.value(&json!({ "type": "skipped", "files": skipped }))
}

/// The conflicts of a round, a line each.
///
/// # Errors
/// When stdout is gone.
pub fn tell_conflicts(context: &Context, done: &Done) -> Outcome<()> {
    let output = &context.output;
    let conflicts = &done.report.conflicts;
    for conflict in conflicts.iter().take(CONFLICTS_TOLD) {
        let path = output.paint(STRONG, plain(conflict.path.as_str()));
        output.line(format!("  {path}: {}", clash_in_words(&conflict.clash)))?;
    }
    if conflicts.len() > CONFLICTS_TOLD {
        output.line(format!("  and {} more", conflicts.len() - CONFLICTS_TOLD))?;
    }
    if !conflicts.is_empty() {
        output.note("`cru conflicts` lists them; `cru conflicts show N` has what was set aside");
    }
    Ok(())
}

/// One line of what a round did.
pub fn summary(context: &Context, done: &Done) -> String {
    let Report { pushed, pulled, merged, conflicts, unplaced, traffic, brought_back, .. } =
        &done.report;
    let mut parts = Vec::new();
    if *pushed > 0 {
        parts.push(format!("{pushed} sent"));
    }
    if *pulled > 0 {
        parts.push(format!("{pulled} received"));
    }
    if *merged > 0 {
        parts.push(format!("{merged} merged"));
    }
    if !brought_back.is_empty() {
        parts.push(format!("{} brought back", brought_back.len()));
    }
    if !conflicts.is_empty() {
        parts.push(count(conflicts.len(), "conflict", "conflicts"));
    }
    if *unplaced > 0 {
        parts.push(format!("{unplaced} not written here"));
    }
    let what = match (parts.is_empty(), done.remote) {
        (true, true) => "nothing to do".to_owned(),
        (true, false) => "recorded here; this vault has no other side yet".to_owned(),
        (false, _) => parts.join(", "),
    };
    let bytes = traffic.bytes_up + traffic.bytes_down;
    let requests = count(traffic.requests, "request", "requests");
    let cost = match done.remote {
        true => format!(" ({requests}, {}, {} ms)", size(bytes), done.ms),
        false => String::new(),
    };
    let in_step = if done.remote { "in step" } else { "done" };
    format!("{}: {what}{cost}", context.output.paint(GOOD, in_step))
}
