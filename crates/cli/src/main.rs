//! `cru`: parse, call, print.
//!
//! This file alone reads the environment and the current folder, subscribes to the log and picks
//! the exit code. In reading order: [`args`] is what can be typed, [`mod@context`] what every command
//! is given, [`commands`] one file a verb, [`output`] how things are said, [`exit`] how it ends.

mod args;
mod attach;
mod commands;
mod context;
mod exit;
mod home;
mod join_link;
mod last_failure;
mod nesting;
mod output;
mod past;
mod progress;
mod resembling;
mod rounds;
mod salvage;
mod sample;
mod service;
mod signals;
mod vault_folder;
mod words;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use tracing_subscriber::filter::LevelFilter;

use crate::args::{Cli, LogFormat, Verb};
use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::home::Home;
use crate::output::Output;
use crate::signals::Signals;

fn main() -> ExitCode {
    let cli = match args::parse(env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let no_color = cli.global.no_color || env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let output = Output::new(cli.global.json, cli.global.quiet, no_color);
    log_to_stderr(&cli);
    let outcome = context(&cli, output).and_then(|context| commands::run(cli.verb, &context));
    let exit = outcome.unwrap_or_else(|failure| {
        output.fail(&failure);
        failure.exit
    });
    ExitCode::from(exit.code())
}

/// Help and version go to stdout and are no failure; with `--json` an error stays JSON.
fn usage(error: &clap::Error) -> ExitCode {
    let json = env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let message = text.trim_start_matches("error: ").lines().next().unwrap_or("wrong usage");
        let failure = Failure::new(Exit::Usage, message).hint("`cru --help` lists everything");
        Output::new(true, false, true).fail(&failure);
        return ExitCode::from(Exit::Usage.code());
    }
    // With nobody to print to there is nothing more to say.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { Exit::Usage.code() } else { Exit::Ok.code() })
}

fn context(cli: &Cli, output: Output) -> Outcome<Context> {
    if let Some(offset) = env::var("CRU_CLOCK_OFFSET_MS").ok().filter(|text| !text.is_empty()) {
        let offset = offset.parse().map_err(|_| {
            Failure::new(Exit::Usage, "CRU_CLOCK_OFFSET_MS is not a number of milliseconds")
        })?;
        world::set_offset_ms(offset);
    }
    let here = env::current_dir().during("finding out which folder this is")?;
    let start = cli.global.dir.as_ref().map_or(here.clone(), |dir| here.join(dir));
    let path = |name: &str| env::var_os(name).map(PathBuf::from);
    let home = Home::find(path("CRU_HOME").map(|home| here.join(home)), path("HOME"))?;
    Ok(Context {
        output,
        start,
        home,
        token: env::var("CRU_TOKEN").ok(),
        yes: cli.global.yes,
        machine: machine_name(),
        ca_file: cli.global.ca_file.as_ref().map(|file| here.join(file)),
        signals: Signals::listen()?,
    })
}

/// What lists call this device unless somebody says otherwise.
fn machine_name() -> String {
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    let told = files.iter().find_map(|file| fs::read_to_string(file).ok());
    let name = told.or_else(|| env::var("HOSTNAME").ok()).unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(80).collect();
    if name.is_empty() { "a device".to_owned() } else { name }
}

fn log_to_stderr(cli: &Cli) {
    let serving = matches!(cli.verb, Verb::Serve(_));
    let level = match (cli.global.verbose, cli.global.quiet) {
        (_, true) => LevelFilter::ERROR,
        (0, _) if serving => LevelFilter::INFO,
        // Somebody sits before it: what went wrong, and nothing else.
        (0, _) if matches!(cli.verb, Verb::Up(_)) => LevelFilter::ERROR,
        (0, _) => LevelFilter::OFF,
        (1, _) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let format = match &cli.verb {
        Verb::Serve(serve) => serve.log_format,
        _ => LogFormat::Text,
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
