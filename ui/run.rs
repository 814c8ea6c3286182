//! The loop: keys, signals, snapshots and answers in; messages to `update`; effects out; the
//! screen drawn when something changed.
//!
//! A key is drawn at once, bursts at most 30 times a second, a resize 50 ms after the last one,
//! and otherwise once a second, because ages tick. Terminal writes block this thread only.

use std::io::{self, BufWriter, Stdout, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result};
use crossterm::event::{Event, EventStream};
use crossterm::terminal::{BeginSynchronizedUpdate, EndSynchronizedUpdate};
use crossterm::{execute, queue};
use eventkit::admin::Client;
use futures::StreamExt as _;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::client::{Asker, Poller};
use super::message::{Effect, Msg, What};
use super::model::Model;
use super::term::Guard;
use super::theme::Theme;
use super::update::update;
use super::view;
use super::{Exit, Options};

const FRAME: Duration = Duration::from_millis(33);
const RESIZE_REST: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_secs(1);
const WRITE_BUFFER_BYTES: usize = 64 << 10;

/// The running console.
struct Console {
    model: Model,
    started: Instant,
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    guard: Guard,
    asker: Asker,
    poller: Poller,
    /// When the screen is to be drawn, if something changed.
    due: Option<Instant>,
    drawn: Instant,
    /// SIGCONT, after a suspension.
    continued: Signal,
}

/// Runs the console on the terminal.
///
/// # Errors
/// Where the terminal cannot be taken or drawn on.
pub async fn run(options: &Options, theme: Theme) -> Result<Exit> {
    // Colourlessness is the theme's: the library's own way would reset reverse video.
    crossterm::style::force_color_output(true);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let continued = signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?;
    let client = Client::new(&options.socket);
    let (asker, mut answers) = Asker::new(client.clone());
    let guard = Guard::take().context("the terminal cannot be taken")?;
    let writer = BufWriter::with_capacity(WRITE_BUFFER_BYTES, io::stdout());
    let terminal = Terminal::new(CrosstermBackend::new(writer)).context("the terminal")?;
    let size = terminal.size().context("the terminal's size")?;
    let now = Instant::now();
    let mut console = Console {
        model: Model::new(theme, options, (size.width, size.height)),
        started: now,
        terminal,
        guard,
        asker,
        poller: Poller::start(client, options.refresh),
        due: None,
        drawn: now,
        continued,
    };
    console.draw()?;
    let done = if options.embedded { Exit::CloseConsole } else { Exit::Quit };
    let mut input = EventStream::new();
    loop {
        let due = console.due.unwrap_or(console.drawn + TICK);
        let what = tokio::select! {
            biased;
            _ = terminate.recv() => return Ok(done),
            _ = hangup.recv() => return Ok(done),
            _ = interrupt.recv() => return Ok(done),
            () = tokio::time::sleep_until(due) => {
                console.take(What::Tick).await?;
                console.draw()?;
                continue;
            }
            event = input.next() => match event {
                // The terminal is gone.
                None | Some(Err(_)) => return Ok(done),
                Some(Ok(event)) => what(event),
            },
            Some((number, reply)) = answers.recv() => Some(What::Reply { number, reply }),
            Some(news) = console.poller.next() => Some(news.into()),
        };
        if let Some(what) = what
            && let Some(exit) = console.take(what).await?
        {
            return Ok(exit);
        }
    }
}

fn what(event: Event) -> Option<What> {
    match event {
        Event::Key(key) => Some(What::Key(key)),
        Event::Paste(text) => Some(What::Paste(text)),
        Event::Resize(width, height) => Some(What::Resize(width, height)),
        Event::FocusGained | Event::FocusLost | Event::Mouse(_) => None,
    }
}

impl Console {
    /// Takes one message in and carries its effects out; answers how to leave, if so.
    async fn take(&mut self, what: What) -> Result<Option<Exit>> {
        let rest = match what {
            What::Resize(..) => RESIZE_REST,
            _ => Duration::ZERO,
        };
        let due = (Instant::now() + rest).max(self.drawn + FRAME);
        self.due = Some(if rest.is_zero() { self.due.unwrap_or(due).min(due) } else { due });
        let at = self.started.elapsed();
        for effect in update(&mut self.model, Msg { at, what }) {
            match effect {
                Effect::Ask { number, request } => self.asker.ask(number, request),
                Effect::Reconnect => self.poller.wake(),
                Effect::Redraw => self.terminal.clear()?,
                Effect::Suspend => self.suspend().await?,
                Effect::Exit(exit) => return Ok(Some(exit)),
            }
        }
        Ok(None)
    }

    fn draw(&mut self) -> Result<()> {
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
        let model = &self.model;
        self.terminal.draw(|frame| view::draw(model, frame))?;
        execute!(self.terminal.backend_mut(), EndSynchronizedUpdate)?;
        self.drawn = Instant::now();
        self.due = None;
        let at = self.started.elapsed();
        update(&mut self.model, Msg { at, what: What::Drawn });
        Ok(())
    }

    async fn suspend(&mut self) -> Result<()> {
        self.terminal.backend_mut().flush()?;
        self.guard.leave();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TSTP)?;
        // The signal may take effect a moment later: the terminal is taken again only when
        // somebody has said to go on.
        self.continued.recv().await;
        self.guard.retake()?;
        self.terminal.clear()?;
        Ok(())
    }
}
