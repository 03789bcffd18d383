//! The only way to say something: results on stdout, everything else on stderr.
//!
//! Invariants: with `--json` stdout holds JSON values alone, one a line; an error is the last
//! line of stderr; a note's bytes go out as they are. A reader that is gone (`| head`) ends the
//! program without a word.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use anstyle::{AnsiColor, Style};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::exit::{Exit, Failure, Outcome};

/// For names of notes and headings.
pub const STRONG: Style = Style::new().bold();
/// For what is less important.
pub const FAINT: Style = Style::new().dimmed();
/// For what went well or was added.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// For what wants a look.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// For what went wrong or was removed.
pub const BAD: Style = AnsiColor::Red.on_default();
/// For ids and places.
pub const MARK: Style = AnsiColor::Cyan.on_default();

/// How to say things.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// JSON instead of words.
    pub json: bool,
    /// Results only.
    pub quiet: bool,
    color_out: bool,
    color_err: bool,
    terminal_err: bool,
}

impl Output {
    /// Decides from flags, the environment and whether somebody is looking.
    pub fn new(json: bool, quiet: bool, no_color: bool) -> Self {
        let terminal_err = io::stderr().is_terminal();
        Self {
            json,
            quiet,
            color_out: !no_color && !json && io::stdout().is_terminal(),
            color_err: !no_color && terminal_err,
            terminal_err,
        }
    }

    /// The same, saying results alone.
    #[must_use]
    pub fn silent(&self) -> Self {
        Self { quiet: true, ..*self }
    }

    /// Whether progress may be drawn.
    pub fn draws(&self) -> bool {
        self.terminal_err && !self.quiet && !self.json
    }

    /// Whether somebody can be asked.
    pub fn asks(&self) -> bool {
        self.terminal_err && io::stdin().is_terminal()
    }

    /// Paints text for stdout.
    pub fn paint(&self, style: Style, text: impl Display) -> String {
        painted(self.color_out, style, &text)
    }

    /// Paints text for stderr.
    pub fn paint_err(&self, style: Style, text: impl Display) -> String {
        painted(self.color_err, style, &text)
    }

    /// A line of the result, for people; nothing with `--json`.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn line(&self, text: impl Display) -> Outcome<()> {
        if self.json {
            return Ok(());
        }
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// A value of the result, for scripts; nothing without `--json`.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn value(&self, value: &Value) -> Outcome<()> {
        if !self.json {
            return Ok(());
        }
        self.bytes(format!("{value}\n").as_bytes())
    }

    /// Bytes of the result as they are.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn bytes(&self, bytes: &[u8]) -> Outcome<()> {
        write_whole(&mut io::stdout().lock(), bytes).map_err(|error| Self::unwritten(&error))
    }

    /// A piece of the result, as it is, for who hands on bytes as they come.
    ///
    /// # Errors
    /// What the system says; [`Self::unwritten`] makes a failure of it.
    pub fn piece(&self, bytes: &[u8]) -> io::Result<()> {
        write_whole(&mut io::stdout().lock(), bytes)
    }

    /// Why the output could not be written.
    pub fn unwritten(error: &io::Error) -> Failure {
        match error.kind() {
            // Whoever read it has seen enough.
            io::ErrorKind::BrokenPipe => Failure::new(Exit::Ok, ""),
            _ => Failure::failed(format!("the output cannot be written: {error}")),
        }
    }

    /// Something for people to know beside the result; on stderr, silenced by `--quiet`.
    pub fn note(&self, text: impl Display) {
        if !self.quiet && !self.json {
            self.err(&format!("{text}"));
        }
    }

    /// Something that wants a look; on stderr.
    pub fn warn(&self, text: impl Display) {
        self.err(&format!("{} {text}", self.paint_err(WARN, "note:")));
    }

    /// Why the program ends; the last line of stderr.
    pub fn fail(&self, failure: &Failure) {
        if failure.message.is_empty() {
            return;
        }
        if self.json {
            let error = json!({
                "type": "error",
                "code": failure.exit.word(),
                "exit": failure.exit.code(),
                "message": failure.message,
                "hint": failure.hint,
            });
            return self.err(&error.to_string());
        }
        let mut text = format!("{} {}", self.paint_err(BAD.bold(), "cru:"), failure.message);
        if !failure.hint.is_empty() {
            let separator = if text.len() + failure.hint.len() < 80 { "; " } else { "\n     " };
            text.push_str(separator);
            text.push_str(&failure.hint);
        }
        self.err(&text);
    }

    /// Asks a person; without one, `yes` decides or nobody does.
    ///
    /// # Errors
    /// Exit 16 when there is nobody to ask and `yes` was not said.
    pub fn confirm(&self, question: &str, yes: bool) -> Outcome<bool> {
        if yes {
            return Ok(true);
        }
        if !self.asks() {
            let message = format!("{question} There is nobody here to answer");
            return Err(Failure::new(Exit::Refused, message).hint("say --yes to go ahead"));
        }
        let mut stderr = io::stderr().lock();
        let asked = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
        drop(stderr);
        let mut answer = String::new();
        let heard = asked.and_then(|()| io::stdin().read_line(&mut answer));
        heard.map_err(|error| Failure::failed(format!("the answer cannot be read: {error}")))?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    fn err(&self, text: &str) {
        // With stderr gone there is nobody left to tell.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Writes all of it, waiting for a reader that is slower than a pipe which does not block: some
/// programs hand those to the ones they start.
fn write_whole<W: Write + AsFd>(to: &mut W, mut bytes: &[u8]) -> io::Result<()> {
    loop {
        let done = match bytes {
            [] => to.flush().map(|()| 0),
            more => to.write(more),
        };
        match done {
            Ok(0) if bytes.is_empty() => return Ok(()),
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match poll(&mut [PollFd::new(to, PollFlags::OUT)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn painted(color: bool, style: Style, text: &impl Display) -> String {
    if color { format!("{style}{text}{style:#}") } else { text.to_string() }
}

/// `1 note`, `2 notes`.
pub fn count(number: impl TryInto<u64>, one: &str, many: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {}", if number == 1 { one } else { many })
}

/// `812 B`, `4.1 KB`, `3.0 MB`: by thousands, as disks and networks are counted.
pub fn size(bytes: u64) -> String {
    let units = ["KB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// A moment in local time, to the second.
pub fn moment(ms: u64) -> String {
    let stamp = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match stamp {
        Some(stamp) => {
            let local = stamp.to_zoned_datetime(jiff::tz::TimeZone::system());
            local.strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        None => "at no time".to_owned(),
    }
}

/// A duration in the two largest units that matter.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Control characters as `\u{…}`: a name must not move the cursor of who reads it.
pub fn plain(text: &str) -> String {
    let escape = |c: char| match c {
        '\t' => c.to_string(),
        _ if c.is_control() => c.escape_unicode().to_string(),
        _ => c.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(1u64, "note", "notes"), "1 note");
        assert_eq!(count(0usize, "note", "notes"), "0 notes");
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (4_130, "4.1 KB"),
            (999_999, "1.0 MB"),
            (3 << 30, "3.2 GB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
        for (ms, shown) in [(12, "12 ms"), (59_000, "59 s"), (61_000, "1 min 1 s")] {
            assert_eq!(span(ms), shown);
        }
    }

    #[test]
    fn a_slow_reader_of_a_pipe_that_does_not_block_gets_everything() {
        use std::io::Read;
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let bytes: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
        let sent = bytes.clone();
        let writing = std::thread::spawn(move || write_whole(&mut { writer }, &sent));
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        writing.join().unwrap().unwrap();
        assert!(read == bytes, "{} of {} bytes came", read.len(), bytes.len());
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(plain("Crème\tbrûlée"), "Crème\tbrûlée");
    }

    #[test]
    fn without_a_terminal_only_yes_is_an_answer() {
        let output = Output {
            json: false,
            quiet: false,
            color_out: false,
            color_err: false,
            terminal_err: false,
        };
        assert_eq!(output.confirm("Really?", true), Ok(true));
        assert_eq!(output.confirm("Really?", false).unwrap_err().exit, Exit::Refused);
    }
}
