//! The one thread that writes to `crdt.db`: whatever rooms bring while it writes goes into the next
//! transaction together, and all of them hear of it when it is on disk. (Nobody waits for others
//! here: a room has gathered its turn, and brings the next only after this one.)

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crucible_live::room::Write;
use crucible_store::crdt_db::{CrdtDb, Session};
use crucible_store::error::StoreError;
use tokio::sync::oneshot;

use crate::error::ApiError;

/// Writes that wait; each room has one at a time.
const WAITING_MAX: usize = 16_384;

type Answer<T> = oneshot::Sender<Result<T, ApiError>>;

enum Work {
    Write(String, Box<Write>, Answer<()>),
    Create(Box<Session>, Answer<()>),
    Load(String, Answer<Option<Session>>),
    All(Answer<Vec<String>>),
}

/// Where rooms write down what must outlive the server.
pub struct Journal {
    work: SyncSender<Work>,
}

impl Journal {
    /// Starts the thread, which ends with the last sender.
    pub fn start(crdt: CrdtDb) -> Self {
        let (work, waiting) = sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new().name("journal".to_owned());
        thread.spawn(move || run(crdt, &waiting)).expect("a server may have one more thread");
        Self { work }
    }

    /// Makes a write durable.
    ///
    /// # Errors
    /// Why it is not; nothing of it is stored then.
    pub async fn write(&self, session: &str, write: Write) -> Result<(), ApiError> {
        let session = session.to_owned();
        self.ask(|answer| Work::Write(session, Box::new(write), answer)).await
    }

    /// Makes a new session durable.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn create(&self, session: Session) -> Result<(), ApiError> {
        self.ask(|answer| Work::Create(Box::new(session), answer)).await
    }

    /// A session as it is on disk.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub async fn load(&self, session: &str) -> Result<Option<Session>, ApiError> {
        let session = session.to_owned();
        self.ask(|answer| Work::Load(session, answer)).await
    }

    /// The names of all sessions on disk.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub async fn all(&self) -> Result<Vec<String>, ApiError> {
        self.ask(Work::All).await
    }

    async fn ask<T>(&self, work: impl FnOnce(Answer<T>) -> Work) -> Result<T, ApiError> {
        let (answer, answered) = oneshot::channel();
        self.work.try_send(work(answer)).map_err(|error| match error {
            TrySendError::Full(_) => ApiError::rate_limited(1_000),
            TrySendError::Disconnected(_) => ended(),
        })?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> ApiError {
    ApiError::internal(&std::io::Error::other("the journal's thread has ended"))
}

fn run(mut crdt: CrdtDb, waiting: &Receiver<Work>) {
    while let Ok(first) = waiting.recv() {
        do_all(&mut crdt, [first].into_iter().chain(waiting.try_iter()).collect());
    }
}

fn do_all(crdt: &mut CrdtDb, batch: Vec<Work>) {
    let (mut writes, mut answers) = (Vec::new(), Vec::new());
    for work in batch {
        match work {
            Work::Write(session, write, answer) => {
                writes.push((session, *write));
                answers.push(answer);
            }
            // Whoever asks has been asking after all writes of its own were answered.
            Work::Create(session, answer) => tell(answer, crdt.create(&session)),
            Work::Load(session, answer) => tell(answer, crdt.load(&session)),
            Work::All(answer) => tell(answer, crdt.all()),
        }
    }
    if writes.is_empty() {
        return;
    }
    match crdt.commit(&writes) {
        Ok(()) => answers.into_iter().for_each(|answer| tell(answer, Ok::<_, StoreError>(()))),
        // One that cannot be stored must not take the others with it.
        Err(_) if writes.len() > 1 => {
            for (write, answer) in writes.into_iter().zip(answers) {
                tell(answer, crdt.commit(&[write]));
            }
        }
        Err(error) => answers.into_iter().for_each(|answer| tell(answer, Err(again(&error)))),
    }
}

fn tell<T, E: Into<ApiError>>(answer: Answer<T>, done: Result<T, E>) {
    // Whoever asked may be gone.
    let _ = answer.send(done.map_err(Into::into));
}

fn again(error: &StoreError) -> ApiError {
    ApiError::internal(error)
}
