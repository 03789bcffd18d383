//! The process with the documents, and its supervision (`docs/decisions/0015`).
//!
//! Invariants: no question is at the process that is not being worked on; when the process ends,
//! whoever waits hears so at once, and the next ask starts another; what may have ended it is tried
//! in a process of its own, never in the one that others use.

mod serve;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crucible_live::document::Sender as Writer;
use crucible_live::documents::{Answer, Ask, Brought, DocId, Question, Reply, receive, send};
use crucible_live::limits::WORKERS;
pub use serve::serve;
use tokio::sync::{Semaphore, oneshot};

/// Between two starts of the process, at least.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest time for one answer. (The largest document opens in under a second.)
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Processes that something must have ended before it is said to end them.
const CONVICTED_AFTER: usize = 2;
/// Trials at a time: each has a process of its own.
const TRIALS_MAX: usize = 2;
/// Of what the process says on its way out, lines of at most this many bytes go to the log.
const LINE_BYTES_MAX: u64 = 2_000;

/// The pipes of a process that was started.
pub struct Pipes {
    /// Where questions go.
    pub questions: Box<dyn Write + Send>,
    /// Where replies come from.
    pub replies: Box<dyn Read + Send>,
    /// What it complains about, if it has a place for that.
    pub complaints: Option<Box<dyn Read + Send>>,
    /// Ends it, and waits until it has; more than once means the same.
    pub end: Arc<dyn Fn() + Send + Sync>,
}

/// Starts a process that does what [`serve()`] does.
pub type Spawner = Arc<dyn Fn() -> io::Result<Pipes> + Send + Sync>;

/// The process ended before it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process with the documents has ended")]
pub struct Died {
    /// The question was being worked on: it may be what ended the process.
    pub suspect: bool,
}

/// What a trial found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trial {
    /// Places of updates that end the process.
    pub killers: Vec<usize>,
    /// Places of records in the journal that do.
    pub bad_records: Vec<usize>,
    /// Who wrote those.
    pub poisoners: Vec<Writer>,
}

/// Keeps the documents of all sessions.
pub struct DocumentsHost {
    spawner: Spawner,
    running: Mutex<Running>,
    trials: Semaphore,
}

#[derive(Default)]
struct Running {
    process: Option<Arc<Process>>,
    started: Option<Instant>,
}

impl DocumentsHost {
    /// Nothing is started before the first question.
    pub fn new(spawner: Spawner) -> Self {
        Self { spawner, running: Mutex::default(), trials: Semaphore::new(TRIALS_MAX) }
    }

    /// Asks about a document.
    ///
    /// # Errors
    /// The process could not be started, or ended.
    pub async fn ask(&self, doc: DocId, ask: Ask) -> Result<Reply, Died> {
        let wait = self.until_next_start();
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        self.process()?.ask(doc, ask).await
    }

    fn until_next_start(&self) -> Duration {
        let running = held(&self.running);
        match (&running.process, running.started) {
            (Some(process), _) if process.is_alive() => Duration::ZERO,
            (_, Some(started)) => PAUSE.saturating_sub(started.elapsed()),
            (_, None) => Duration::ZERO,
        }
    }

    fn process(&self) -> Result<Arc<Process>, Died> {
        let mut running = held(&self.running);
        if let Some(process) = running.process.as_ref().filter(|process| process.is_alive()) {
            return Ok(Arc::clone(process));
        }
        running.started = Some(Instant::now());
        let process = Arc::new(Process::start(&self.spawner)?);
        running.process = Some(Arc::clone(&process));
        Ok(process)
    }

    /// Finds what ends the process: records of the journal that `open` has, then updates, each
    /// imported and looked at alone.
    ///
    /// # Errors
    /// There is no verdict: no process could be started, or none lives with what is beyond doubt.
    pub async fn trial(&self, open: Ask, updates: Vec<Brought>) -> Result<Trial, Died> {
        let _permit = self.trials.acquire().await;
        let mut trial = Trial::default();
        let Ask::Open(snapshot, records, owners) = open else { return Ok(trial) };
        let opened =
            |records: &[Brought]| Ask::Open(snapshot.clone(), records.to_vec(), owners.clone());
        let mut stand = Stand { spawner: &self.spawner, process: None };
        let mut good: Vec<Brought> = Vec::new();
        // One by one only where there is something to be found: each is opened with all before it.
        if !records.is_empty() && !stand.convicts(&[], &opened(&records)).await? {
            good = records;
        } else {
            for (place, record) in records.into_iter().enumerate() {
                let before = opened(&good);
                good.push(record);
                if stand.convicts(&[before], &opened(&good)).await? {
                    trial.poisoners.extend(good.pop().map(|record| record.by));
                    trial.bad_records.push(place);
                }
            }
        }
        let mut taken = Vec::new();
        for (place, update) in updates.into_iter().enumerate() {
            let before = [opened(&good), imported(&taken)];
            if stand.convicts(&before, &imported(std::slice::from_ref(&update))).await? {
                trial.killers.push(place);
            } else {
                taken.push(update);
            }
        }
        Ok(trial)
    }
}

fn imported(updates: &[Brought]) -> Ask {
    Ask::Import(updates.to_vec(), true, Vec::new())
}

/// Where suspects are tried: processes of the trial's own, one after the other.
struct Stand<'a> {
    spawner: &'a Spawner,
    process: Option<Process>,
}

impl Stand<'_> {
    /// Whether a question ends two processes, each of which lived with all that was before it: once
    /// it may have been something else.
    async fn convicts(&mut self, before: &[Ask], ask: &Ask) -> Result<bool, Died> {
        for _ in 0..CONVICTED_AFTER {
            let process = match self.process.take() {
                Some(process) => process,
                None => self.start(before).await?,
            };
            if process.lives_through(ask).await {
                self.process = Some(process);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A process that lives with all this.
    async fn start(&self, before: &[Ask]) -> Result<Process, Died> {
        tokio::time::sleep(PAUSE).await;
        let process = Process::start(self.spawner)?;
        for ask in before {
            if !process.lives_through(ask).await {
                return Err(Died { suspect: false });
            }
        }
        Ok(process)
    }
}

/// Who waits for the reply of which number; `None` once the process has ended.
type Waiting = Arc<Mutex<Option<BTreeMap<u64, oneshot::Sender<Reply>>>>>;

/// One started process.
struct Process {
    questions: Sender<Question>,
    waiting: Waiting,
    /// As many questions as it works on at a time.
    turns: Semaphore,
    next: AtomicU64,
    end: Arc<dyn Fn() + Send + Sync>,
}

impl Process {
    fn start(spawner: &Spawner) -> Result<Self, Died> {
        let pipes = spawner().map_err(|error| {
            tracing::error!(%error, "the process with the documents does not start");
            Died { suspect: false }
        })?;
        let Pipes { questions: writes, replies: reads, complaints, end } = pipes;
        let waiting: Waiting = Arc::new(Mutex::new(Some(BTreeMap::new())));
        let (questions, asked) = channel();
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let at_writer = Arc::clone(&waiting);
        let writer = thread("questions").spawn(move || write_all(writes, &asked, &at_writer));
        let at_reader = Arc::clone(&waiting);
        let at_end = Arc::clone(&end);
        let reader = thread("replies").spawn(move || {
            read_all(reads, &at_reader);
            at_end();
        });
        let listener = complaints
            .map(|complaints| thread("complaints").spawn(move || log_all(complaints)).map(drop));
        let started = writer.map(drop).and(reader.map(drop)).and(listener.unwrap_or(Ok(())));
        started.map_err(|error| {
            tracing::error!(%error, "no thread for the process with the documents");
            Died { suspect: false }
        })?;
        let (turns, next) = (Semaphore::new(WORKERS), AtomicU64::new(0));
        Ok(Self { questions, waiting, turns, next, end })
    }

    fn is_alive(&self) -> bool {
        held(&self.waiting).is_some()
    }

    /// Whether it lives through a question, a look at the text, and giving all of it to somebody
    /// new.
    async fn lives_through(&self, ask: &Ask) -> bool {
        self.ask(0, ask.clone()).await.is_ok()
            && self.ask(0, Ask::Text).await.is_ok_and(|r| matches!(r.answer, Answer::Text(..)))
            && self.ask(0, Ask::Snapshot).await.is_ok()
    }

    async fn ask(&self, doc: DocId, ask: Ask) -> Result<Reply, Died> {
        let ended = Died { suspect: false };
        // In the order in which they were asked.
        let _turn = self.turns.acquire().await.map_err(|_| ended)?;
        let no = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        held(&self.waiting).as_mut().ok_or(ended)?.insert(no, answer);
        self.questions.send(Question { doc, ask, no }).map_err(|_| ended)?;
        let suspect = Died { suspect: true };
        match tokio::time::timeout(ANSWER_MAX, answered).await {
            Ok(answered) => answered.map_err(|_| suspect),
            Err(_) => {
                tracing::error!(doc, "the process with the documents takes too long; it is ended");
                let end = Arc::clone(&self.end);
                // Whoever else's question it was at hears it as a suspect as well.
                drop(tokio::task::spawn_blocking(move || end()).await);
                Err(suspect)
            }
        }
    }
}

/// Dropping the pipe at the end ends the process.
fn write_all(mut pipe: Box<dyn Write + Send>, asked: &Receiver<Question>, waiting: &Waiting) {
    while let Ok(question) = asked.recv() {
        if let Err(error) = send(&mut pipe, &question) {
            tracing::debug!(%error, "the process with the documents takes no questions");
            end_all(waiting);
            return;
        }
    }
}

fn read_all(pipe: Box<dyn Read + Send>, waiting: &Waiting) {
    let mut pipe = BufReader::new(pipe);
    loop {
        let reply = match receive::<Reply>(&mut pipe) {
            Ok(Some(reply)) => reply,
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, "the process with the documents says what is no reply");
                break;
            }
        };
        match held(waiting).as_mut().and_then(|waiting| waiting.remove(&reply.no)) {
            // Whoever asked may be gone.
            Some(answer) => drop(answer.send(reply)),
            None => break,
        }
    }
    end_all(waiting);
}

/// Tells all who wait, who hear that nobody answers any more.
fn end_all(waiting: &Waiting) {
    drop(held(waiting).take());
}

fn log_all(complaints: Box<dyn Read + Send>) {
    let mut complaints = BufReader::new(complaints);
    loop {
        let mut line = Vec::new();
        match complaints.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let line = String::from_utf8_lossy(&line);
                tracing::warn!(line = line.trim_end(), "the process with the documents");
            }
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use crucible_live::document::Document;
    use crucible_live::documents::Documents;

    use super::*;

    /// Processes of which those that `fate` says end at the first update, or do not start.
    fn with_fates(fate: impl Fn(usize) -> Fate + Send + Sync + 'static) -> Spawner {
        let started = AtomicUsize::new(0);
        Arc::new(move || {
            let fate = fate(started.fetch_add(1, Ordering::SeqCst));
            if fate == Fate::Unborn {
                return Err(io::Error::other("no descriptor is free"));
            }
            let (mut asked, questions) = io::pipe()?;
            let (replies, mut answers) = io::pipe()?;
            std::thread::spawn(move || {
                let documents = Documents::default();
                while let Ok(Some(question)) = receive::<Question>(&mut asked) {
                    let ends = match &question.ask {
                        Ask::Import(new, ..) => fate == Fate::EndsAtUpdate && !new.is_empty(),
                        Ask::Open(_, records, _) => {
                            fate == Fate::EndsAtOpen
                                || fate == Fate::EndsAtRecord && !records.is_empty()
                        }
                        _ => false,
                    };
                    if ends || send(&mut answers, &documents.answer(question, || 0)).is_err() {
                        return;
                    }
                }
            });
            Ok(Pipes {
                questions: Box::new(questions),
                replies: Box::new(replies),
                complaints: None,
                end: Arc::new(|| {}),
            })
        })
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fate {
        Lives,
        EndsAtUpdate,
        EndsAtRecord,
        EndsAtOpen,
        Unborn,
    }
    use Fate::{EndsAtOpen, EndsAtRecord, EndsAtUpdate, Lives, Unborn};

    fn brought() -> Brought {
        Brought { by: 1, person: 1, bytes: b"whatever".to_vec() }
    }

    /// What a trial of a record and an update finds where the first processes have these fates.
    async fn tried(
        fates: &'static [Fate],
        records: usize,
        updates: usize,
    ) -> Result<(Vec<usize>, Vec<usize>), Died> {
        let snapshot = Document::seed("one").snapshot().unwrap().to_vec();
        let host =
            DocumentsHost::new(with_fates(|no| fates.get(no).copied().unwrap_or(Fate::Lives)));
        let open = Ask::Open(snapshot, vec![brought(); records], Vec::new());
        let trial = host.trial(open, vec![brought(); updates]).await?;
        assert_eq!(trial.poisoners.len(), trial.bad_records.len());
        Ok((trial.bad_records, trial.killers))
    }

    #[tokio::test]
    async fn an_update_is_convicted_where_it_ends_two_processes_and_not_for_one() {
        assert_eq!(tried(&[EndsAtUpdate], 0, 1).await, Ok((vec![], vec![])));
        assert_eq!(tried(&[EndsAtUpdate, EndsAtUpdate], 0, 1).await, Ok((vec![], vec![0])));
    }

    #[tokio::test]
    async fn a_record_is_convicted_where_it_ends_two_processes_and_not_for_one() {
        assert_eq!(tried(&[EndsAtRecord], 1, 0).await, Ok((vec![], vec![])));
        let thrice = &[EndsAtRecord, EndsAtRecord, EndsAtRecord];
        assert_eq!(tried(thrice, 1, 0).await, Ok((vec![], vec![])));
        let always = &[EndsAtRecord; 4];
        assert_eq!(tried(always, 1, 0).await, Ok((vec![0], vec![])));
    }

    #[tokio::test]
    async fn where_no_process_starts_nothing_is_convicted() {
        let none = Err(Died { suspect: false });
        for fates in [&[Unborn; 9][..], &[Unborn], &[EndsAtRecord, Unborn], &[EndsAtOpen; 3]] {
            assert_eq!(tried(fates, 1, 0).await, none, "{fates:?}");
        }
        for fates in [&[Unborn][..], &[EndsAtUpdate, Unborn], &[EndsAtUpdate, EndsAtOpen]] {
            assert_eq!(tried(fates, 0, 1).await, none, "{fates:?}");
        }
        assert_eq!(tried(&[Lives], 1, 1).await, Ok((vec![], vec![])));
    }
}
