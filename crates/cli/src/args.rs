//! What can be typed: the definitions are the manual's source, so every help text says what
//! happens and what to expect.
//!
//! Invariant: every flag has a `CRU_…` variable, named after it by [`command`]; secrets are never
//! arguments.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

/// Keeps folders of Markdown in step across devices. The files stay plain; nothing is ever lost.
#[derive(Debug, Parser)]
#[command(
    name = "cru",
    version,
    propagate_version = true,
    after_help = "Tokens: CRU_TOKEN, while it is set, wins over what this device has kept in \
                  ~/.crucible (or CRU_HOME). Every flag has a variable: --allow-mass-delete is \
                  CRU_ALLOW_MASS_DELETE=1.\n\nFirst five minutes: `cru demo` shows everything in a temporary folder. Then \
                  `cru up ~/Notes` here, and the `cru join …` line that it prints on the other \
                  machine.\n\nExit codes: 0 done · 1 failed · 2 wrong usage · 3 done, but \
                  something wants a look · 10 not a vault · 11 in use by another process · 12 not \
                  allowed · 13 unreachable · 14 damaged · 15 made by a newer release · 16 refused \
                  by a safety guard · 130 interrupted"
)]
pub struct Cli {
    /// What holds for all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What holds for all commands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Works in this folder (or in the vault around it) instead of the current one.
    #[arg(short = 'C', long = "dir", value_name = "DIR", global = true)]
    pub dir: Option<PathBuf>,
    /// Prints JSON: one object, or one event a line.
    #[arg(long, global = true)]
    pub json: bool,
    /// Answers yes to every question.
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Prints results only.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Tells more; twice tells everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Prints without colours (so does NO_COLOR).
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Trusts the certificates in this PEM file instead of the public ones; `join` remembers them.
    #[arg(long, value_name = "FILE", global = true)]
    pub ca_file: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Shows two devices and a server at work in a temporary folder, and ends by itself.
    Demo(Demo),
    /// Makes a folder a vault, serves it and keeps it in step, all in this one process.
    ///
    /// Prints a `cru join` line for the next device. Ctrl-C stops it; starting it again goes on.
    Up(Up),
    /// Runs the server alone.
    ///
    /// Prints `listening on http://ADDRESS` once it answers, and for a server without users a
    /// line that lets the first device in.
    Serve(Serve),
    /// Makes a folder a copy of a vault on a server.
    ///
    /// LINK is what `cru up`, `cru invite` or `cru serve` printed: http(s)://host:port/VAULT#CODE.
    /// Without #CODE it takes a token from --token-stdin, CRU_TOKEN, or else the one this device
    /// has kept. The folder may be empty, absent or full of notes: what is on both sides is
    /// merged. In a folder that is a copy already it gets this device a new token.
    Join(Join),
    /// Prints a join line for one more device; good once, for ten minutes.
    Invite(Invite),
    /// Makes a folder a vault that has no server yet.
    Init(Init),
    /// Brings the folder and its server into step; without a server, records versions here.
    Sync(Sync),
    /// Opens a note for writing together, live; without a note, lists where somebody writes.
    Live(Live),
    /// Tells what has changed here, what waits, what is not synced and why, what ended the last
    /// round, and whether there are conflicts to look at.
    Status,
    /// Lists versions, newest first: of one note through all its names, or of the whole vault.
    Log(Log),
    /// Prints a note as it is or was, byte for byte.
    Show(Show),
    /// Shows how two versions of a note differ.
    Diff(Diff),
    /// Puts an earlier version of a note back; the present one stays in its history.
    Restore(Restore),
    /// Brings a deleted note (or all of a folder) back where it was.
    Undelete(Undelete),
    /// Takes back what the last round changed in this folder, as new versions, and names each note;
    /// again for the round before it.
    ///
    /// What was written since stays: it is merged with what the note was before. A note that was
    /// edited since at the very place is left as it is and named (exit 3).
    Undo(Undo),
    /// Lists places where a merge had to choose; shows or takes what it set aside.
    Conflicts(Conflicts),
    /// Users, devices and tokens. CRU_TOKEN, while it is set, wins over a token that was kept.
    Auth(Auth),
    /// Looks after a server's data: check, clean up, back up.
    Server(Server),
    /// Looks for trouble and says what to do about it.
    Doctor(Doctor),
    /// Writes a plain copy of the vault, or its whole history as a git repository.
    Export(Export),
    /// Brings a folder of notes, or a git repository with its history, into the vault.
    Import(Import),
    /// Merges three files like `git merge-file`, but by words; also a git merge driver.
    MergeFile(MergeFile),
    /// Prints completions for a shell.
    Completions(Completions),
    /// Keeps the documents of live sessions for the server that started it.
    #[command(hide = true)]
    LiveDocuments,
}

/// `cru demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Notes to show it on; they are copied, never touched. A small vault comes with the program.
    pub folder: Option<PathBuf>,
    /// Leaves the temporary folder behind to look at.
    #[arg(long)]
    pub keep: bool,
}

/// `cru up`
#[derive(Debug, Args)]
pub struct Up {
    /// The folder; made if it is not there. Without it: the vault that one stands in, or else a
    /// sample vault, in ./crucible-sample.
    pub folder: Option<PathBuf>,
    /// Where to listen. Otherwise where other machines reach it too: 0.0.0.0, with port 4200, or
    /// the one it had the last time. 127.0.0.1:4200 keeps it on this machine.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where the server keeps its data. Otherwise in ~/.crucible/served (or CRU_HOME/served), in a
    /// folder called like the vault's id.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// What the vault is called on the server; otherwise like the folder.
    #[arg(long)]
    pub name: Option<String>,
    /// Whose vault it is: what others see of you. Otherwise whose it was before, and at first your
    /// login name @localhost.
    #[arg(long)]
    pub email: Option<String>,
    /// Serves the folder from here again although it syncs with another server by now.
    #[arg(long)]
    pub own: bool,
}

/// `cru serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Where to keep everything.
    #[arg(long, value_name = "DIR", default_value = "crucible-data")]
    pub data: PathBuf,
    /// Where to listen; port 0 picks a free one. Beyond this machine it should speak TLS, or stand
    /// behind something that does.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4200")]
    pub listen: SocketAddr,
    /// Speaks TLS with this certificate chain (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// A name this server is reached by (several: give it again).
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub host: Vec<String>,
    /// Stands behind one proxy: takes clients' addresses from X-Forwarded-For.
    #[arg(long)]
    pub behind_proxy: bool,
    /// How the log on stderr looks.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How a log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// `cru join`
#[derive(Debug, Args)]
pub struct Join {
    /// http(s)://host:port/VAULT#CODE, or without #CODE when there is a token.
    pub link: String,
    /// The folder; made if it is not there. Without it: the copy of VAULT that one stands in, or
    /// else ./VAULT.
    pub folder: Option<PathBuf>,
    /// Reads a token from standard input.
    #[arg(long)]
    pub token_stdin: bool,
    /// What this device is called in lists; otherwise like the machine.
    #[arg(long, value_name = "NAME")]
    pub device_name: Option<String>,
}

/// `cru invite`
#[derive(Debug, Args)]
pub struct Invite {
    /// The new device may read, not change.
    #[arg(long)]
    pub read_only: bool,
    /// The new device's token ends after so many days.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub days: Option<u32>,
}

/// `cru live`
#[derive(Debug, Args)]
pub struct Live {
    /// The note, with or without its `.md`. Without it: the notes that are open.
    pub note: Option<String>,
    /// Ends the session now: what was written becomes a version. Who writes on begins another.
    #[arg(long, requires = "note")]
    pub end: bool,
    /// Opens it, prints the address and returns.
    #[arg(long, requires = "note", conflicts_with = "end")]
    pub no_wait: bool,
}

/// `cru init`
#[derive(Debug, Args)]
pub struct Init {
    /// The folder; made if it is not there.
    pub folder: Option<PathBuf>,
    /// What the vault is called; otherwise like the folder.
    #[arg(long)]
    pub name: Option<String>,
}

/// `cru sync`
#[derive(Debug, Args)]
pub struct Sync {
    /// How to go about a round.
    #[command(flatten)]
    pub round: Round,
    /// Without one: `now`.
    #[command(subcommand)]
    pub what: Option<SyncVerb>,
}

/// How to go about a round.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Round {
    /// Shows what a round would do, and does nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Goes through with deleting or emptying most of the notes.
    #[arg(long, conflicts_with = "restore_missing")]
    pub allow_mass_delete: bool,
    /// Brings missing files back instead: those gone here, and those a refused round would take.
    #[arg(long)]
    pub restore_missing: bool,
}

/// `cru sync …`
#[derive(Debug, Subcommand)]
pub enum SyncVerb {
    /// One round.
    Now(Round),
    /// Keeps going: a round whenever something changes here or there. Ctrl-C stops it.
    Watch(Watch),
    /// Like `cru status`.
    Status,
    /// Shows or changes the configuration of this vault.
    Config(Config),
    /// Devices of the same network, without a server (comes later).
    AddPeer(Later),
    /// Sharing a folder with somebody else (comes later).
    Share(Later),
    /// Ending what was shared (comes later).
    Revoke(Later),
}

/// Whatever is typed after a command that comes later.
#[derive(Debug, Args)]
pub struct Later {
    /// Not used yet.
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<String>,
}

/// `cru sync watch`
#[derive(Debug, Clone, Copy, Args)]
pub struct Watch {
    /// Waits until nothing has changed for so many milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 400)]
    pub quiet_ms: u64,
    /// Looks through the folder at least every so many seconds, whatever the system tells.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub every: u64,
}

/// `cru sync config`
#[derive(Debug, Args)]
pub struct Config {
    /// Without one: shows everything.
    #[command(subcommand)]
    pub what: Option<ConfigVerb>,
}

/// `cru sync config …`
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Says that the server has another address now.
    Server {
        /// http(s)://host:port
        url: String,
    },
    /// Says what happens below some paths when both sides change the same words.
    Policy {
        /// Over the paths of the vault, such as "Daily/**" or "**/*.png".
        glob: String,
        /// What to do there.
        #[arg(value_enum)]
        overlap: OverlapChoice,
    },
}

/// What two edits of the same words come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OverlapChoice {
    /// The later one stays in the note, the other in a conflict record (what happens anyway).
    Lww,
    /// Both stay in the note, one after the other.
    Both,
    /// As lww; where a picture or other file was replaced on both sides, a copy is put beside it.
    Copy,
    /// Takes the policy of this glob away.
    None,
}

/// `cru log`
#[derive(Debug, Args)]
pub struct Log {
    /// A note, as it is or was called, or a folder. Without it: everything.
    pub path: Option<String>,
    /// At most so many versions.
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<usize>,
    /// Every version of a live session, which are one line otherwise.
    #[arg(long)]
    pub all: bool,
}

/// `cru show`
#[derive(Debug, Args)]
pub struct Show {
    /// PATH, or PATH@VERSION with a version from `cru log` (its first 8 digits are enough).
    pub what: String,
}

/// `cru diff`
#[derive(Debug, Args)]
pub struct Diff {
    /// PATH: what has changed in the file since its last version. PATH@VERSION: since that one.
    pub from: String,
    /// @VERSION: up to that version, instead of the file.
    pub to: Option<String>,
}

/// `cru restore`
#[derive(Debug, Args)]
pub struct Restore {
    /// PATH@VERSION, with a version from `cru log`.
    pub what: String,
}

/// `cru undo`
#[derive(Debug, Args)]
pub struct Undo {
    /// Goes through with removing most of the notes, because the round had brought them.
    #[arg(long)]
    pub allow_mass_delete: bool,
}

/// `cru undelete`
#[derive(Debug, Args)]
pub struct Undelete {
    /// The note, by the name it had, or a folder: all notes that were deleted below it.
    pub path: String,
}

/// `cru conflicts`
#[derive(Debug, Args)]
pub struct Conflicts {
    /// Without one: lists them.
    #[command(subcommand)]
    pub what: Option<ConflictsVerb>,
}

/// `cru conflicts …`
#[derive(Debug, Subcommand)]
pub enum ConflictsVerb {
    /// Lists the open ones.
    List,
    /// Shows one: what stands in the note, and what was set aside.
    Show {
        /// Its number, which it keeps, or its id (the first 4 digits, if no other begins so).
        #[arg(value_name = "N")]
        which: String,
    },
    /// Settles one.
    Take {
        /// Its number, which it keeps, or its id (the first 4 digits, if no other begins so).
        #[arg(value_name = "N")]
        which: String,
        /// Which text the note is to have.
        #[arg(value_enum, value_name = "ours|theirs|both")]
        side: Side,
    },
}

/// Which side of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// What stands in the note now; settles it as it is.
    Ours,
    /// What was set aside.
    Theirs,
    /// Both, one after the other.
    Both,
}

/// `cru auth`
#[derive(Debug, Args)]
pub struct Auth {
    /// What to do.
    #[command(subcommand)]
    pub what: AuthVerb,
}

/// `cru auth …`
#[derive(Debug, Subcommand)]
pub enum AuthVerb {
    /// Adds a person to a server on this machine and prints their token, once.
    AddUser {
        /// Their address; a name, nothing is sent there.
        #[arg(long)]
        email: String,
        /// The server's data, whether it runs or not.
        #[command(flatten)]
        data: DataFolder,
        /// What the device that gets the token is called in lists.
        #[arg(long, value_name = "NAME", default_value = "first token")]
        device_name: String,
    },
    /// Keeps a token for a server, read from CRU_TOKEN or standard input, or exchanges a code.
    Login {
        /// http(s)://host:port, or http(s)://host:port/VAULT#CODE.
        url: String,
        /// Reads the token from standard input.
        #[arg(long)]
        token_stdin: bool,
        /// What this device is called in lists; otherwise like the machine.
        #[arg(long, value_name = "NAME")]
        device_name: Option<String>,
    },
    /// Tells whose token this vault (or URL) is reached with, and what it allows.
    Whoami {
        /// http(s)://host:port; otherwise this vault's server.
        url: Option<String>,
    },
    /// Lists your devices.
    Devices {
        /// http(s)://host:port; otherwise this vault's server.
        url: Option<String>,
    },
    /// Lists who has this vault.
    Members,
    /// Lets a person whom the server knows into this vault; again to change what they may.
    Add {
        /// Their address; `cru auth add-user` makes one known.
        email: String,
        /// They may read, and not change.
        #[arg(long)]
        read_only: bool,
    },
    /// Takes a person out of this vault, with all their devices; what they wrote stays.
    Remove {
        /// Their address, as `cru auth members` shows it.
        email: String,
    },
    /// Ends all tokens of a device.
    Revoke {
        /// Its id from `cru auth devices`; the first digits are enough.
        id: String,
        /// http(s)://host:port; otherwise this vault's server.
        url: Option<String>,
    },
}

/// `cru server`
#[derive(Debug, Args)]
pub struct Server {
    /// What to do.
    #[command(subcommand)]
    pub what: ServerVerb,
}

/// Where a server keeps its data.
#[derive(Debug, Args)]
pub struct DataFolder {
    /// The server's data folder. Otherwise that of the `cru up` which serves the vault one stands
    /// in, or else ./crucible-data.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// `cru server …`
#[derive(Debug, Subcommand)]
pub enum ServerVerb {
    /// Reads everything and proves that it is whole; repairs nothing.
    Check(DataFolder),
    /// Removes what nothing refers to any more.
    Gc(DataFolder),
    /// Copies everything, while the server runs or not, to a folder that is not there yet.
    Backup {
        /// Where to.
        to: PathBuf,
        /// Which server's.
        #[command(flatten)]
        of: DataFolder,
    },
}

/// `cru doctor`
#[derive(Debug, Clone, Copy, Args)]
pub struct Doctor {
    /// Puts a damaged database aside, inside .crucible, and begins a new one. No note is touched;
    /// the next `cru sync` meets the server as a device that joins does, and merges by content.
    #[arg(long)]
    pub repair: bool,
}

/// `cru export`
#[derive(Debug, Args)]
pub struct Export {
    /// Writes a plain copy of the notes here: a folder outside of any vault.
    #[arg(required_unless_present = "git", conflicts_with = "git")]
    pub to: Option<PathBuf>,
    /// Writes the whole history here, as a git repository: deleted notes and losing sides too.
    /// A relative name counts from the folder of -C.
    #[arg(long, value_name = "DIR")]
    pub git: Option<PathBuf>,
}

/// `cru import`
#[derive(Debug, Args)]
pub struct Import {
    /// A folder of notes, or a git repository.
    pub from: PathBuf,
    /// Puts everything below this folder of the vault.
    #[arg(long, value_name = "FOLDER")]
    pub into: Option<String>,
}

/// `cru merge-file`
#[derive(Debug, Args)]
pub struct MergeFile {
    /// What both started from (%O of a git merge driver).
    pub base: PathBuf,
    /// One side (%A).
    pub ours: PathBuf,
    /// The other side (%B).
    pub theirs: PathBuf,
    /// Writes the result over OURS instead of printing it, as a git merge driver must. Where the
    /// text of OURS was set aside, the file as it was is kept as OURS.orig, unless git has it.
    #[arg(long, visible_alias = "git")]
    pub write: bool,
    /// What to call the file in messages (%P of a git merge driver).
    #[arg(short = 'L', long, value_name = "PATH")]
    pub label: Option<String>,
    /// Whose words stay where both changed the same ones.
    #[arg(long, value_enum, default_value_t = Prefer::Theirs)]
    pub prefer: Prefer,
}

/// A side of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Prefer {
    /// OURS.
    Ours,
    /// THEIRS.
    Theirs,
    /// Both, one after the other.
    Both,
}

/// `cru completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// Which shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// The command with a variable for every flag.
pub fn command() -> Command {
    with_variables(Cli::command())
}

/// Reads the command line.
///
/// # Errors
/// What clap has to say: wrong usage, or the help that was asked for.
pub fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

fn with_variables(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let skip = argument.is_positional() || argument.get_env().is_some();
        let Some(long) = argument.get_long().filter(|_| !skip) else { return argument };
        if matches!(long, "help" | "version") {
            return argument;
        }
        let name = format!("CRU_{}", long.to_ascii_uppercase().replace('-', "_"));
        let is_flag = matches!(argument.get_action(), clap::ArgAction::SetTrue);
        // The definitions live as long as the program.
        let argument = argument.env(&*name.leak());
        if is_flag { argument.value_parser(FalseyValueParser::new()) } else { argument }
    });
    command.mut_subcommands(with_variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Cli {
        parse(line.split(' ').map(Into::into)).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn the_definitions_hold_together() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_variable() {
        fn check(command: &Command) {
            for argument in command.get_arguments().filter(|argument| !argument.is_positional()) {
                let id = argument.get_id();
                if matches!(id.as_str(), "help" | "version") {
                    continue;
                }
                let variable = argument.get_env().and_then(|env| env.to_str());
                assert!(
                    variable.is_some_and(|name| name.starts_with("CRU_")),
                    "{} --{id} has no variable",
                    command.get_name(),
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&command());
    }

    #[test]
    fn no_flag_takes_a_secret() {
        fn check(command: &Command) {
            for argument in command.get_arguments() {
                let takes = argument.get_action().takes_values();
                let id = argument.get_id().as_str();
                assert!(!takes || !["token", "password", "secret"].contains(&id), "{id}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&command());
    }

    #[test]
    fn global_flags_stand_before_and_after_the_verb() {
        for line in ["cru -C /x --json sync", "cru sync --json -C /x", "cru sync now -C /x --json"]
        {
            let cli = parsed(line);
            assert!(cli.global.json, "{line}");
            assert_eq!(cli.global.dir.as_deref(), Some(std::path::Path::new("/x")), "{line}");
        }
    }

    #[test]
    fn an_invitation_is_for_a_whole_vault_and_for_a_time_that_comes() {
        assert!(parse(["cru", "invite", "--days", "1"].map(Into::into)).is_ok());
        for line in ["cru invite --days 0", "cru invite --path Work/"] {
            assert!(parse(line.split(' ').map(Into::into)).is_err(), "{line}");
        }
    }

    #[test]
    fn a_round_is_asked_for_with_and_without_its_name() {
        for line in ["cru sync --dry-run", "cru sync now --dry-run", "cru sync --dry-run now"] {
            let Verb::Sync(sync) = parsed(line).verb else { panic!("{line}") };
            let named = match sync.what {
                Some(SyncVerb::Now(round)) => round.dry_run,
                _ => false,
            };
            assert!(sync.round.dry_run || named, "{line}");
        }
        let both = "cru sync --allow-mass-delete --restore-missing";
        assert!(parse(both.split(' ').map(Into::into)).is_err());
    }
}
