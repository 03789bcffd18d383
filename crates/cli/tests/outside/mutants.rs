//! Updates of a live session with changed bits, their checksum made right again, against the
//! process that keeps documents: whatever it takes, every client can take, now and later.

use std::io::{BufReader, BufWriter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crucible_live::documents::{
    Answer, Ask, Brought, Question, Reply, Verdict, Version, receive, send,
};
use loro::{ExportMode, LoroDoc, VersionVector};
use xxhash_rust::xxh32::xxh32;

use crate::kit::{Dice, cru_binary};

const NOTE: &str = "hello world, this is a note\n";
/// In the head of an update: where the checksum stands, of what, and with which seed.
const CHECKSUM: std::ops::Range<usize> = 16..20;
const SEED: u32 = u32::from_le_bytes(*b"LORO");

/// `MUTANTS`, or a few.
fn mutants() -> usize {
    std::env::var("MUTANTS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_500)
}

/// `cru live-documents`, started again whenever an update ends it.
struct Process {
    child: Child,
    questions: BufWriter<ChildStdin>,
    replies: BufReader<ChildStdout>,
}

impl Process {
    fn start() -> Self {
        let mut child = Command::new(cru_binary())
            .arg("live-documents")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let questions = BufWriter::new(child.stdin.take().unwrap());
        let replies = BufReader::new(child.stdout.take().unwrap());
        Self { child, questions, replies }
    }

    /// `None` when the process ended.
    fn ask(&mut self, ask: Ask) -> Option<Reply> {
        send(&mut self.questions, &Question { doc: 1, ask, no: 0 }).ok()?;
        receive(&mut self.replies).ok().flatten()
    }

    fn must(&mut self, ask: Ask, what: &str) -> Answer {
        let asked = format!("{ask:?}");
        self.ask(ask).unwrap_or_else(|| panic!("{what}: {asked} ended the process")).answer
    }

    fn seed(&mut self, text: &str) -> LoroDoc {
        self.must(Ask::Seed(text.to_owned()), "seed");
        joined(&self.whole("seed"))
    }

    fn whole(&mut self, what: &str) -> Vec<u8> {
        match self.must(Ask::Since(Vec::new()), what) {
            Answer::Since(bytes, _) => bytes,
            other => panic!("{what}: {other:?} to somebody new"),
        }
    }

    fn text(&mut self, what: &str) -> String {
        match self.must(Ask::Text, what) {
            Answer::Text(text, _) => text,
            other => panic!("{what}: {other:?} instead of the text"),
        }
    }

    /// The verdict, and what everybody hears.
    fn import(&mut self, bytes: Vec<u8>) -> Option<(Verdict, Vec<u8>)> {
        let brought = Brought { by: 1, person: 2, bytes };
        match self.ask(Ask::Import(vec![brought], true, Vec::new()))?.answer {
            Answer::Imported(mut verdicts, merged, Version(_), _) => {
                Some((verdicts.pop()?, merged))
            }
            other => panic!("{other:?} to an update"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn joined(bytes: &[u8]) -> LoroDoc {
    let doc = LoroDoc::new();
    doc.import(bytes).unwrap();
    doc
}

fn text_of(doc: &LoroDoc) -> String {
    doc.get_text("text").to_string()
}

/// What a page would send, which has this document; written in a name of its own.
fn update(doc: &LoroDoc, dice: &mut Dice) -> Vec<u8> {
    let page = joined(&doc.export(ExportMode::Snapshot).unwrap());
    let before: VersionVector = page.oplog_vv();
    let text = page.get_text("text");
    let at = dice.below(text.len_unicode() + 1);
    text.insert(at, ["mutant", "é", "\n\n", "a 🦀 b"][dice.below(4)]).unwrap();
    if dice.below(2) == 0 && text.len_unicode() > 8 {
        text.delete(2, 1 + dice.below(4)).unwrap();
        text.insert(1, "x").unwrap();
    }
    page.commit();
    page.export(ExportMode::updates(&before)).unwrap()
}

fn mutated(mut update: Vec<u8>, flips: usize, dice: &mut Dice) -> Vec<u8> {
    for _ in 0..flips {
        let at = CHECKSUM.end + dice.below(update.len() - CHECKSUM.end);
        update[at] ^= 1 << dice.below(8);
    }
    let sum = xxh32(&update[CHECKSUM.end..], SEED);
    update[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    update
}

#[test]
fn an_update_with_changed_bits_is_refused_or_everybody_can_take_it() {
    let seed = u64::from(std::process::id());
    let mut dice = Dice(seed);
    let mut process = Process::start();
    let mut page = process.seed(NOTE);
    let (mut ended, mut refused, mut taken) = (0, 0, 0);
    for no in 0..mutants() {
        let honest = update(&page, &mut dice);
        let flips = 1 + no % 3;
        let mutant = mutated(honest, flips, &mut dice);
        let what = format!("seed {seed}, mutant {no}: {mutant:02x?}");
        let Some((verdict, merged)) = process.import(mutant) else {
            ended += 1;
            process = Process::start();
            page = process.seed(NOTE);
            continue;
        };
        if !matches!(verdict, Verdict::Taken(_)) {
            refused += 1;
            continue;
        }
        taken += 1;
        let import = catch_unwind(AssertUnwindSafe(|| page.import(&merged).unwrap()));
        assert!(import.is_ok_and(|status| status.pending.is_none()), "{what}: who was there");
        let text = process.text(&what);
        assert_eq!(text_of(&page), text, "{what}: who was there");
        let new = catch_unwind(AssertUnwindSafe(|| text_of(&joined(&process.whole(&what)))));
        assert_eq!(new.ok().as_ref(), Some(&text), "{what}: somebody new");
        let honest = update(&page, &mut dice);
        let (verdict, merged) = process.import(honest).expect("an honest update ends nothing");
        assert!(matches!(verdict, Verdict::Taken(_)), "{what}: then an honest one: {verdict:?}");
        page.import(&merged).unwrap();
        if text.len() > 4_000 {
            page = process.seed(NOTE);
        }
    }
    println!("{ended} ended the process, {refused} were refused, {taken} taken");
    assert!(refused > 0 && taken > 0, "the checksum lets some through: {refused}, {taken}");
}
