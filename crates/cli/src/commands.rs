//! One file a verb: arguments in, calls, results out.

mod auth;
mod completions;
mod config;
mod conflicts;
mod demo;
mod diff;
mod doctor;
pub mod export;
mod import;
mod init;
mod invite;
mod join;
mod live;
pub mod live_documents;
mod log;
mod merge_file;
mod restore;
mod serve;
mod server;
mod show;
mod status;
mod sync;
mod undo;
mod up;
mod watch;

use crate::args::{SyncVerb, Verb};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};

/// Does what was asked.
///
/// # Errors
/// Why not.
pub fn run(verb: Verb, context: &Context) -> Outcome {
    match verb {
        Verb::Demo(args) => demo::run(&args, context),
        Verb::Up(args) => up::run(&args, context),
        Verb::Serve(args) => serve::run(&args, context),
        Verb::Join(args) => join::run(&args, context),
        Verb::Invite(args) => invite::run(&args, context),
        Verb::Init(args) => init::run(&args, context),
        Verb::Sync(args) => match args.what {
            None => sync::run(args.round, context),
            Some(SyncVerb::Now(round)) => sync::run(sync::both(args.round, round), context),
            Some(SyncVerb::Watch(watch)) => watch::run(watch, context),
            Some(SyncVerb::Status) => status::run(context),
            Some(SyncVerb::Config(config)) => config::run(&config, context),
            Some(SyncVerb::AddPeer(_)) => later("syncing with a device of the same network"),
            Some(SyncVerb::Share(_)) => later("sharing a folder with somebody else"),
            Some(SyncVerb::Revoke(_)) => later("ending what was shared"),
        },
        Verb::Live(args) => live::run(&args, context),
        Verb::Status => status::run(context),
        Verb::Log(args) => log::run(&args, context),
        Verb::Show(args) => show::run(&args, context),
        Verb::Diff(args) => diff::run(&args, context),
        Verb::Restore(args) => restore::run(&args, context),
        Verb::Undelete(args) => restore::undelete(&args, context),
        Verb::Undo(args) => undo::run(&args, context),
        Verb::Conflicts(args) => conflicts::run(args.what, context),
        Verb::Auth(args) => auth::run(args.what, context),
        Verb::Server(args) => server::run(&args.what, context),
        Verb::Doctor(args) => doctor::run(args, context),
        Verb::Export(args) => export::run(&args, context),
        Verb::Import(args) => import::run(&args, context),
        Verb::MergeFile(args) => merge_file::run(&args, context),
        Verb::LiveDocuments => live_documents::run(),
        Verb::Completions(args) => completions::run(args.shell, context),
    }
}

fn later(what: &str) -> Outcome {
    Err(Failure::new(Exit::Failed, format!("{what} comes with a later release")).hint(
        "until then: `cru invite` (--read-only, --days) for sharing, `cru auth revoke` for ending \
         it, `cru up --listen` on one device for the same network",
    ))
}
