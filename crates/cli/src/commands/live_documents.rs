//! `cru live-documents`: the process that keeps the CRDT documents of a server's live sessions.
//! Bytes from other people's browsers can end it; they end nothing else.

use std::io::{self, BufReader, BufWriter, stdin, stdout};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crucible_server::live::documents::{Pipes, Spawner};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::exit::{During, Exit, Outcome};

/// Address space of the process, in bytes: one document cannot take the machine with it.
const MEMORY_MAX: u64 = 4 << 30;

/// Answers questions on stdin until it closes.
pub fn run() -> Outcome {
    let limit = Rlimit { current: Some(MEMORY_MAX), maximum: Some(MEMORY_MAX) };
    // A system that has no such limit has the documents' own bounds.
    let _ = setrlimit(Resource::As, limit);
    let began = Instant::now();
    let now_us = move || u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (questions, replies) = (BufReader::new(stdin()), BufWriter::new(stdout().lock()));
    crucible_server::live::documents::serve(questions, replies, now_us)
        .during("keeping documents")?;
    Ok(Exit::Ok)
}

/// What runs here, also where a newer release has taken its place on the disk.
fn this_binary() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() }
}

/// Starts this binary again as that process.
pub fn spawner() -> Spawner {
    Arc::new(|| {
        let mut child = Command::new(this_binary()?)
            .arg0("cru")
            .arg("live-documents")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("a child has the pipes it was given");
        let questions = child.stdin.take().ok_or_else(missing)?;
        let replies = child.stdout.take().ok_or_else(missing)?;
        let complaints = child.stderr.take().ok_or_else(missing)?;
        let child = Mutex::new(child);
        let end = move || {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            // It has closed its pipe or does not answer: it is gone, or of no use.
            let _ = child.kill();
            let _ = child.wait();
        };
        Ok(Pipes {
            questions: Box::new(questions),
            replies: Box::new(replies),
            complaints: Some(Box::new(complaints)),
            end: Arc::new(end),
        })
    })
}
