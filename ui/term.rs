//! The terminal, taken and given back.
//!
//! [`Guard`] holds raw mode, the alternate screen, bracketed paste and the hidden cursor, and
//! gives all of it back when it is dropped, when the console's own thread panics, and when a
//! panic anywhere ends the process. A panic in another thread that the process survives does
//! not touch the terminal; it goes to the log. Signals are the loop's business: it ends, and
//! the guard falls.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread::ThreadId;

use crossterm::cursor::{Hide, Show};
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::execute;
use crossterm::terminal::{
    EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};

/// Whether the terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// The thread that draws.
static CONSOLE: Mutex<Option<ThreadId>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// The terminal in the console's state.
#[derive(Debug)]
pub struct Guard(());

impl Guard {
    /// Takes the terminal for the calling thread.
    ///
    /// # Errors
    /// What the terminal answers; it is given back before.
    pub fn take() -> io::Result<Self> {
        *CONSOLE.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current().id());
        HOOK.call_once(install_hook);
        TAKEN.store(true, Ordering::SeqCst);
        let guard = Self(());
        guard.enter()?;
        Ok(guard)
    }

    fn enter(&self) -> io::Result<()> {
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, Hide)
    }

    /// Gives the terminal back for a while.
    pub fn leave(&self) {
        give_back();
    }

    /// Takes it again.
    ///
    /// # Errors
    /// What the terminal answers.
    pub fn retake(&self) -> io::Result<()> {
        TAKEN.store(true, Ordering::SeqCst);
        self.enter()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        give_back();
        if std::thread::panicking() {
            // The frame that panicked had begun an update, which may have been flushed since.
            let _ = execute!(io::stdout(), EndSynchronizedUpdate);
        }
    }
}

/// Restores the terminal once; every step is tried, for there is nobody to report to.
fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = execute!(io::stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
    let _ = io::stdout().flush();
}

fn install_hook() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let console = *CONSOLE.lock().unwrap_or_else(PoisonError::into_inner);
        let own = console == Some(std::thread::current().id());
        if own || cfg!(panic = "abort") {
            give_back();
        } else if TAKEN.load(Ordering::SeqCst) {
            tracing::error!(panic = %info, "a thread panicked");
            return;
        }
        before(info);
    }));
}
