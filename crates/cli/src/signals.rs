//! Ctrl-C and SIGTERM.
//!
//! A command that ends by itself is ended at once: everything it does may be cut anywhere. One
//! that keeps going asks to be told instead, and ends in good order; a second Ctrl-C does not wait.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{During, Exit, Outcome};

/// The exit code of a program that SIGTERM ended.
const TERMINATED: i32 = 143;

/// Why to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM: whoever runs services asks for a clean end.
    Terminate,
}

impl Stop {
    /// What a command that was asked to end ends with.
    pub fn exit(self) -> Exit {
        match self {
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Ok,
        }
    }
}

/// Who is told about signals.
#[derive(Debug, Clone)]
pub struct Signals {
    told: Arc<Mutex<Option<Sender<Stop>>>>,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn listen() -> Outcome<Self> {
        let signals = Self { told: Arc::default() };
        let told = Arc::clone(&signals.told);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .during("preparing for Ctrl-C")?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            let interrupt = signal(SignalKind::interrupt()).during("preparing for Ctrl-C")?;
            (interrupt, signal(SignalKind::terminate()).during("preparing for SIGTERM")?)
        };
        let wait = move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => deliver(&told, Stop::Interrupt),
                        _ = terminate.recv() => deliver(&told, Stop::Terminate),
                    }
                }
            })
        };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread.spawn(wait).during("preparing for Ctrl-C")?;
        Ok(signals)
    }

    /// Tells the next signal instead of ending the program.
    pub fn take(&self) -> Receiver<Stop> {
        let (sender, receiver) = mpsc::channel();
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }
}

fn deliver(told: &Mutex<Option<Sender<Stop>>>, stop: Stop) {
    let listener = told.lock().unwrap_or_else(PoisonError::into_inner).take();
    if listener.is_some_and(|listener| listener.send(stop).is_ok()) {
        return;
    }
    std::process::exit(match stop {
        Stop::Interrupt => i32::from(Exit::Interrupted.code()),
        Stop::Terminate => TERMINATED,
    });
}
