//! `cru sync [now]`: one round, or with --dry-run what one would do.

use std::collections::BTreeMap;

use crucible_node::link::Link;
use crucible_node::outlook::{Operation, Plan, Side, Step};
use serde_json::{Value, json};

use crate::args::Round;
use crate::context::Context;
use crate::exit::{Exit, Outcome, guard};
use crate::last_failure;
use crate::output::{BAD, GOOD, MARK, Output, WARN, plain};
use crate::progress::Bar;
use crate::rounds;
use crate::vault_folder::VaultFolder;
use crate::words::{notice_as_json, notice_in_words};
use crate::world::Machine;

/// Steps of one kind that are all told.
const STEPS_TOLD: usize = 20;
/// Steps told of a kind that has more than that.
const STEPS_FOLDED: usize = 10;

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
        let asks = !round.allow_mass_delete && !round.restore_missing;
        let plan = Plan { refusal: plan.refusal.filter(|_| asks), ..plan };
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

/// Tells a plan, step by step; of many steps of one kind the first, and how many more.
pub fn tell(plan: &Plan, output: &Output) -> Outcome {
    for step in &plan.steps {
        output.value(&step_as_json(step))?;
    }
    let refusal = plan.refusal.as_ref().map(guard);
    if let Some(failure) = &refusal {
        output
            .line(output.paint(WARN, format!("a round would be refused: {}", failure.message)))?;
        output.line(format!("  {}", failure.hint))?;
    }
    if plan.steps.len() > STEPS_TOLD {
        output.line(counts(&plan.steps))?;
    }
    tell_steps(&plan.steps, "", output)?;
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
        "refused": refusal.map(|failure| json!({
            "message": failure.message,
            "hint": failure.hint,
        })),
    }))?;
    if plan.there_is_more {
        output.line(
            "and more: only the first page of the other side's news was asked for, so what is \
             shown as new there may be there already, and is merged then",
        )?;
    } else if plan.steps.is_empty() {
        output.line("nothing to do")?;
    }
    Ok(Exit::Ok)
}

/// Steps in words, a line each; of many of one kind the first, and how many more.
pub fn tell_steps(steps: &[Step], indent: &str, output: &Output) -> Outcome<()> {
    for of_kind in steps_by_kind(steps).values() {
        let told = if of_kind.len() > STEPS_TOLD { STEPS_FOLDED } else { of_kind.len() };
        for step in &of_kind[..told] {
            output.line(format!("{indent}{}", step_in_words(output, step)))?;
        }
        if told < of_kind.len() {
            let arrow = arrow(output, of_kind[0].side);
            let (more, what) = (of_kind.len() - told, kind(of_kind[0]).1);
            output.line(format!("{indent}{arrow} {what} and {more} more"))?;
        }
    }
    Ok(())
}

/// How many there are of each kind.
fn counts(steps: &[Step]) -> String {
    let counted = steps_by_kind(steps).into_values().map(|of_kind| {
        let place = match of_kind[0].side {
            Side::Here => "here",
            Side::There => "there",
        };
        match &of_kind[0].operation {
            Operation::Create => format!("{} new {place}", of_kind.len()),
            Operation::Edit => format!("{} edited {place}", of_kind.len()),
            Operation::Rename(_) => format!("{} renamed {place}", of_kind.len()),
            Operation::Delete => format!("{} deleted {place}", of_kind.len()),
            Operation::Merge => format!("{} on both sides, to be merged", of_kind.len()),
        }
    });
    counted.collect::<Vec<_>>().join(", ")
}

fn steps_by_kind(steps: &[Step]) -> BTreeMap<(Side, u8), Vec<&Step>> {
    let mut by_kind = BTreeMap::<_, Vec<&Step>>::new();
    for step in steps {
        by_kind.entry((step.side, kind(step).0)).or_default().push(step);
    }
    by_kind
}

/// The place of a kind among the others, and its word as wide as the longest.
fn kind(step: &Step) -> (u8, &'static str) {
    match step.operation {
        Operation::Create => (0, "new   "),
        Operation::Edit => (1, "edit  "),
        Operation::Rename(_) => (2, "rename"),
        Operation::Delete => (3, "delete"),
        Operation::Merge => (4, "merge "),
    }
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
    let path = plain(step.path.as_str());
    let word = kind(step).1;
    let what = match &step.operation {
        Operation::Create => format!("{} {path}", output.paint(GOOD, word)),
        Operation::Edit => format!("{word} {path}"),
        Operation::Rename(to) => format!("{word} {path} to {}", plain(to.as_str())),
        Operation::Delete => format!("{} {path}", output.paint(BAD, word)),
        Operation::Merge => format!("{} {path}", output.paint(WARN, word)),
    };
    format!("{} {what}", arrow(output, step.side))
}

fn arrow(output: &Output, side: Side) -> String {
    match side {
        Side::Here => output.paint(MARK, "<-"),
        Side::There => output.paint(MARK, "->"),
    }
}
