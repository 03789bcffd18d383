//! `cru show PATH[@VERSION]`: a note as it is or was, byte for byte.

use std::fs;
use std::io;

use crate::args::Show;
use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::output::{Output, plain};
use crate::past::Past;
use crate::vault_folder::VaultFolder;

/// Prints a note.
pub fn run(args: &Show, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    let (path, version) = folder.path_at(context, &args.what)?;
    let Some(version) = version else {
        let file = folder.root.join(path.as_str());
        return match fs::read(&file) {
            Ok(bytes) => context.output.bytes(&bytes).map(|()| Exit::Ok),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let past = Past::open(&folder, context)?;
                if past.list_here(Some(&path), 1)?.is_empty() {
                    return Err(past.never_was(&path, "`cru log` lists everything that was"));
                }
                let shown = plain(path.as_str());
                Err(Failure::failed(format!("there is no {shown} in the vault any more")).hint(
                    format!("`cru log '{shown}'` has its versions, `cru undelete '{shown}'` brings it back"),
                ))
            }
            Err(error) => Err(error).during(format!("reading {}", file.display())),
        };
    };
    let mut past = Past::open(&folder, context)?;
    let entry = past.find(&path, &version)?;
    let mut unwritten = None;
    let told = past.bytes_to(&entry, &mut |piece| {
        context.output.piece(piece).inspect_err(|error| unwritten = Some(Output::unwritten(error)))
    });
    match unwritten {
        Some(failure) => Err(failure),
        None => told.map(|()| Exit::Ok),
    }
}
