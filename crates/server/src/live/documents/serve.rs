//! What the process with the documents does: it answers, [`WORKERS`] questions at a time.

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender as Channel, channel};
use std::sync::{Arc, Mutex};

use crucible_live::documents::{Documents, Question, Reply, receive, send};
use crucible_live::limits::WORKERS;

use super::held;

/// Answers questions until the other end closes, [`WORKERS`] at a time.
///
/// # Errors
/// What the pipes say; a message that is none; an answer that panicked.
pub fn serve(
    questions: impl Read + Send + 'static,
    mut replies: impl Write,
    now_us: impl Fn() -> u64 + Send + Sync + 'static,
) -> io::Result<()> {
    let (asked, work) = channel();
    let (answered, done) = channel();
    let worker = Arc::new(Worker {
        documents: Documents::default(),
        work: Mutex::new(work),
        now_us: Box::new(now_us),
    });
    for no in 0..WORKERS {
        let (worker, answered) = (Arc::clone(&worker), answered.clone());
        let thread = std::thread::Builder::new().name(format!("documents {no}"));
        thread.stack_size(STACK_BYTES).spawn(move || worker.run(&answered))?;
    }
    std::thread::Builder::new().name("questions".into()).spawn(move || {
        if let Err(error) = ask_all(questions, &asked) {
            // Nobody hears it when all is over.
            let _ = answered.send(Err(error));
        }
    })?;
    while let Ok(reply) = done.recv() {
        send(&mut replies, &reply?)?;
    }
    Ok(())
}

/// Stack of a thread that reads foreign bytes: what a process begins with.
const STACK_BYTES: usize = 8 << 20;

/// Gives questions on, until there are no more.
fn ask_all(mut questions: impl Read, asked: &Channel<Question>) -> io::Result<()> {
    while let Some(question) = receive(&mut questions)? {
        if asked.send(question).is_err() {
            break;
        }
    }
    Ok(())
}

/// What the threads that answer share.
struct Worker {
    documents: Documents,
    work: Mutex<Receiver<Question>>,
    now_us: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Worker {
    /// Answers until there are no more questions, or nobody who hears.
    fn run(&self, answered: &Channel<io::Result<Reply>>) {
        loop {
            let Ok(question) = held(&self.work).recv() else { return };
            let answer = || self.documents.answer(question, &self.now_us);
            let reply = catch_unwind(AssertUnwindSafe(answer));
            let reply = reply.map_err(|_| io::Error::other("an answer panicked"));
            if answered.send(reply).is_err() {
                return;
            }
        }
    }
}
