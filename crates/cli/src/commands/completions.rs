//! `cru completions SHELL`

use clap_complete::Shell;

use crate::args;
use crate::context::Context;
use crate::exit::{Exit, Outcome};

/// Prints the completions.
pub fn run(shell: Shell, context: &Context) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "cru", &mut script);
    context.output.bytes(&script)?;
    Ok(Exit::Ok)
}
