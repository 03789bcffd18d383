//! `cru sync [now]`: one round, or with --dry-run what one would do.

use crucible_node::link::Link;
use crucible_node::outlook::{Operation, Plan, Side, Step};
use serde_json::{Value, json};

use crate::args::Round;
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::last_failure;
use crate::output::{BAD, GOOD, MARK, Output, WARN, plain};
use crate::progress::Bar;
use crate::rounds;
use crate::vault_folder::VaultFolder;
use crate::words::{notice_as_json, notice_in_words};
use crate::world::Machine;

/// Flags may stand before and after `now`.
pub fn both(before: Round, after: Round) -> Round {
    Round {
        dry_run: before.dry_run || after.dry_run,
        allow_mass_delete: before.allow_mass_delete || after.allow_mass_delete,
        restore_missing: before.restore_missing || after.restore_missing,
    }
}

/// Makes a round.
pub fn run(round: Round, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let mut vault = folder.open_for_rounds(context)?;
    if round.dry_run {
        let mut link = folder.link(context)?;
        let link = link.as_mut().map(|link| link as &mut dyn Link);
        let plan = vault.replica.plan(link, &mut Machine)?;
        return tell(&plan, &context.output);
    }
    last_failure::noting(&folder.root, || {
        let mut link = folder.link(context)?;
        let bar = Bar::new(&context.output);
        let there = link.as_mut().map(|link| link as &mut dyn Link);
        let mut done = rounds::make(&mut vault, there, rounds::options(round), &bar)?;
        let there = link.as_mut().map(|link| link as &mut dyn Link);
        rounds::keep_copies(&mut vault, &folder, context, there, &mut done, &bar)?;
        bar.clear();
        rounds::tell(context, &done)
    })
}

/// Tells a plan, step by step.
pub fn tell(plan: &Plan, output: &Output) -> Outcome {
    for step in &plan.steps {
        output.value(&step_as_json(step))?;
        output.line(step_in_words(output, step))?;
    }
    for notice in &plan.notices {
        output.value(&notice_as_json(notice))?;
        if !output.json {
            output.warn(notice_in_words(notice));
        }
    }
    output.value(&json!({
        "type": "plan",
        "steps": plan.steps.len(),
        "there_is_more": plan.there_is_more,
    }))?;
    if plan.there_is_more {
        output.line("and more: only the first page of the other side's news was asked for")?;
    } else if plan.steps.is_empty() {
        output.line("nothing to do")?;
    }
    Ok(Exit::Ok)
}

/// A step for scripts.
pub fn step_as_json(step: &Step) -> Value {
    let (operation, to) = match &step.operation {
        Operation::Create => ("create", None),
        Operation::Edit => ("edit", None),
        Operation::Rename(to) => ("rename", Some(to.as_str())),
        Operation::Delete => ("delete", None),
        Operation::Merge => ("merge", None),
    };
    json!({
        "type": "step",
        "side": match step.side { Side::Here => "here", Side::There => "there" },
        "op": operation,
        "path": step.path.as_str(),
        "to": to,
    })
}

/// A step in words, with an arrow to where it happens.
pub fn step_in_words(output: &Output, step: &Step) -> String {
    let arrow = match step.side {
        Side::Here => output.paint(MARK, "<-"),
        Side::There => output.paint(MARK, "->"),
    };
    let path = plain(step.path.as_str());
    let what = match &step.operation {
        Operation::Create => format!("{} {path}", output.paint(GOOD, "new   ")),
        Operation::Edit => format!("edit   {path}"),
        Operation::Rename(to) => format!("rename {path} to {}", plain(to.as_str())),
        Operation::Delete => format!("{} {path}", output.paint(BAD, "delete")),
        Operation::Merge => format!("{} {path}", output.paint(WARN, "merge ")),
    };
    format!("{arrow} {what}")
}
