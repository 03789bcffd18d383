//! Progress of long work, drawn on stderr when somebody looks; nothing else depends on it.

use std::time::Duration;

use crucible_node::report::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{Output, size};

/// Steps shorter than this many parts are not worth a bar.
const PARTS_MIN: u64 = 50;

/// One line that says what is going on.
#[derive(Debug)]
pub struct Bar {
    bar: Option<ProgressBar>,
}

impl Bar {
    /// Draws nothing until there is something to draw.
    pub fn new(output: &Output) -> Self {
        let bar = output.draws().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(spinner());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar }
    }

    /// Shows where a round stands.
    pub fn show(&self, progress: Progress) {
        let Some(bar) = &self.bar else { return };
        match progress {
            Progress::Scanning => says(bar, "looking through the folder"),
            Progress::Recording { done, of } => counts(bar, "recording", done, of),
            Progress::Sending { left: 0 } => says(bar, "sending"),
            Progress::Sending { left } => says(bar, &format!("sending ({left} to go)")),
            Progress::Blob { bytes } => says(bar, &format!("carrying a file of {}", size(bytes))),
            Progress::Receiving { done: 0 } => says(bar, "receiving"),
            Progress::Receiving { done } => says(bar, &format!("receiving ({done})")),
            Progress::Placing { done, of } => counts(bar, "writing files", done, of),
        }
    }

    /// Shows something of one's own.
    pub fn say(&self, text: &str) {
        if let Some(bar) = &self.bar {
            says(bar, text);
        }
    }

    /// Shows how much of something is done.
    pub fn part(&self, text: &'static str, done: u64, of: u64) {
        if let Some(bar) = &self.bar {
            counts(bar, text, done, of);
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

fn says(bar: &ProgressBar, text: &str) {
    bar.unset_length();
    bar.set_style(spinner());
    bar.set_message(text.to_owned());
}

fn counts(bar: &ProgressBar, text: &'static str, done: u64, of: u64) {
    if of < PARTS_MIN {
        return says(bar, text);
    }
    if bar.length() != Some(of) {
        bar.set_length(of);
        bar.set_style(counted());
    }
    bar.set_message(text);
    bar.set_position(done);
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg}").expect("the template is one")
}

fn counted() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg} {bar:30} {pos}/{len}")
        .expect("the template is one")
}
