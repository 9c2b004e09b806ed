//! Logs: one line each to standard output, JSON for machines, text for a
//! terminal, with priorities for systemd's journal. Writing happens on a thread
//! of its own, so a reader that stops reading (a paused terminal, a full pipe)
//! never stops the service; lines that do not fit are dropped and counted.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write};
use std::sync::OnceLock;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::time::FormatTime;

use super::journal::{Lines, is_journal};
use crate::config::{LogFormat, LogSection};

/// Lines that may wait for standard output.
const LINES_WAITING: usize = 16_384;
/// How long lines gather behind one that was written.
const GATHER: Duration = Duration::from_millis(2);

/// Keeps the writing thread alive; dropping it writes what waits.
pub struct LogGuard {
    _worker: WorkerGuard,
}

/// Of the one log that a process has.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;
static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// Writes from now on what this level or these directives say.
///
/// # Errors
/// When they cannot be read; then nothing changes.
pub fn set_level(section: &LogSection) -> Result<(), String> {
    let filter = section.filter()?;
    SET_FILTER.get().map_or(Ok(()), |set| set(filter))
}

/// Lines that were dropped because standard output did not take them.
pub(super) fn dropped_lines() -> usize {
    DROPPED.get().map_or(0, ErrorCounter::dropped_lines)
}

struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(w, "{}", crate::clock::system_now())
    }
}

/// Standard output, for a thread that flushes whenever no line is left. It rests
/// after that, so that under load many lines share one write, and those who send
/// them need not wake it for each: waking takes longer than making a line.
struct Gathered(BufWriter<Stdout>);

impl Write for Gathered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        std::thread::sleep(GATHER);
        Ok(())
    }
}

/// Starts logging for this process.
///
/// # Errors
/// When the filter cannot be read or logging has already been started.
pub fn start(section: &LogSection) -> Result<LogGuard, String> {
    let filter = section.filter()?;
    let stdout = Gathered(BufWriter::with_capacity(64 * 1024, std::io::stdout()));
    let (writer, worker): (NonBlocking, _) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_WAITING)
        .lossy(true)
        .thread_name("agentd-log")
        .finish(stdout);
    let _ = DROPPED.set(writer.error_counter());
    let json = match section.format {
        LogFormat::Auto => !std::io::stdout().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(Utc)
        .with_span_events(FmtSpan::NONE)
        .with_writer(Lines { inner: writer, to_journal: is_journal(std::io::stdout()) });
    let started = if json {
        let builder = builder.json().flatten_event(true).with_current_span(false).with_span_list(false);
        let builder = builder.with_filter_reloading();
        let filter = builder.reload_handle();
        let _ = SET_FILTER.set(Box::new(move |new| filter.reload(new).map_err(|error| error.to_string())));
        builder.try_init()
    } else {
        let builder = builder.with_ansi(std::io::stdout().is_terminal()).with_filter_reloading();
        let filter = builder.reload_handle();
        let _ = SET_FILTER.set(Box::new(move |new| filter.reload(new).map_err(|error| error.to_string())));
        builder.try_init()
    };
    started.map_err(|error| error.to_string())?;
    Ok(LogGuard { _worker: worker })
}
