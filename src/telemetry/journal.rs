//! What systemd's journal is told beside a line: how grave it is, by a number in
//! angle brackets before it (sd-daemon(3)).

use std::io::{self, Write};
use std::os::fd::AsFd;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Whether a stream of this process goes to the journal, by what systemd says of
/// it (`JOURNAL_STREAM`, systemd.exec(5)).
pub(super) fn is_journal(stream: impl AsFd) -> bool {
    let said = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let Ok(found) = rustix::fs::fstat(stream) else { return false };
    is_file(&said, found.st_dev, found.st_ino)
}

/// Whether a text names this file, as `device:inode`.
fn is_file(text: &str, device: u64, inode: u64) -> bool {
    text.split_once(':').is_some_and(|(of, number)| of.parse() == Ok(device) && number.parse() == Ok(inode))
}

/// What goes before a line on standard error that says why the process ends:
/// nothing, unless the journal reads it.
#[must_use]
pub fn before_errors() -> &'static str {
    if is_journal(io::stderr()) { priority(Level::ERROR) } else { "" }
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Makes writers of lines, with their priority where the journal reads them.
pub(super) struct Lines<W> {
    pub inner: W,
    pub to_journal: bool,
}

impl<W: Write + Clone> MakeWriter<'_> for Lines<W> {
    type Writer = Line<W>;

    fn make_writer(&self) -> Line<W> {
        Line { inner: self.inner.clone(), prefix: "" }
    }

    fn make_writer_for(&self, meta: &Metadata<'_>) -> Line<W> {
        let prefix = if self.to_journal { priority(*meta.level()) } else { "" };
        Line { inner: self.inner.clone(), prefix }
    }
}

/// Writes what is said at once, which may be several lines.
pub(super) struct Line<W> {
    inner: W,
    prefix: &'static str,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.prefix.is_empty() {
            return self.inner.write(text);
        }
        // In one piece, since the lines of other threads come between pieces.
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        let marked: Vec<u8> = lines.flat_map(|line| [self.prefix.as_bytes(), line].concat()).collect();
        self.inner.write_all(&marked)?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(to_journal: bool) -> String {
        let kept = Kept::default();
        let log = tracing_subscriber::fmt()
            .with_writer(Lines { inner: kept.clone(), to_journal })
            .with_max_level(Level::TRACE)
            .without_time()
            .with_target(false)
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::error!("an error");
            tracing::warn!("in two\nlines");
            tracing::info!("news");
            tracing::debug!("a detail");
            tracing::trace!("less");
        });
        let bytes = kept.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn each_line_has_its_priority() {
        let log = logged(true);
        assert!(log.lines().all(|line| line.starts_with('<')), "{log}");
        for (said, priority) in
            [("an error", "<3>"), ("in two", "<4>"), ("news", "<6>"), ("a detail", "<7>"), ("less", "<7>")]
        {
            let line = log.lines().find(|line| line.contains(said)).expect("it was logged");
            assert!(line.starts_with(priority), "{line}");
        }
        assert!(!logged(false).contains('<'));
    }

    #[test]
    fn several_lines_have_it_each() {
        let kept = Kept::default();
        let mut line = Line { inner: kept.clone(), prefix: "<4>" };
        line.write_all(b"one\ntwo\n").expect("kept");
        assert_eq!(*kept.0.lock().expect("no panic"), b"<4>one\n<4>two\n");
    }

    #[test]
    fn a_stream_is_known_by_device_and_inode() {
        assert!(is_file("8:1234", 8, 1234));
        for other in ["", "8", "8:", ":1234", "8:1235", "9:1234", "8:1234:5", " 8:1234", "a:b"] {
            assert!(!is_file(other, 8, 1234), "{other}");
        }
    }
}
