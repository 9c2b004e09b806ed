//! Reads server-sent events as they come.

use std::io::{BufRead as _, BufReader, Read};

use serde_json::Value;

/// One frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub id: Option<i64>,
    pub event: String,
    pub data: String,
    pub retry: Option<u64>,
    pub comment: bool,
}

impl Frame {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {:?}", self.data))
    }

    /// Whether no event comes after it.
    pub fn is_final(&self) -> bool {
        ["job.succeeded", "job.failed", "job.cancelled", "job.dead"].contains(&self.event.as_str())
    }
}

/// A stream of frames; dropping it hangs up.
pub struct Stream {
    reader: BufReader<Box<dyn Read + Send>>,
}

impl Stream {
    pub fn new(reader: impl Read + Send + 'static) -> Self {
        Self { reader: BufReader::new(Box::new(reader)) }
    }

    /// The next frame, also when it holds no event; `None` at the end.
    #[track_caller]
    pub fn frame(&mut self) -> Option<Frame> {
        let (mut frame, mut any) = (Frame::default(), false);
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).expect("the stream goes on or ends") == 0 {
                assert!(!any, "the stream ended inside a frame: {frame:?}");
                return None;
            }
            let line = line.trim_end_matches('\n');
            if line.is_empty() {
                if any {
                    return Some(frame);
                }
                continue;
            }
            any = true;
            match line.split_once(": ").or_else(|| line.split_once(':')) {
                Some(("", _)) => frame.comment = true,
                Some(("id", value)) => frame.id = Some(value.parse().expect("a number")),
                Some(("event", value)) => frame.event = value.into(),
                Some(("data", value)) => frame.data.push_str(value),
                Some(("retry", value)) => frame.retry = Some(value.parse().expect("a number")),
                _ => panic!("not a line of a stream: {line:?}"),
            }
        }
    }

    /// The next event; `None` when the stream ends without another.
    #[track_caller]
    pub fn event(&mut self) -> Option<Frame> {
        loop {
            let frame = self.frame()?;
            if frame.id.is_some() {
                return Some(frame);
            }
        }
    }

    /// Reads up to an event of that type.
    #[track_caller]
    pub fn until(&mut self, event: &str) -> Frame {
        let mut seen = Vec::new();
        while let Some(frame) = self.event() {
            if frame.event == event {
                return frame;
            }
            seen.push(frame.event);
        }
        panic!("the stream ended without {event}: {seen:?}");
    }

    /// Every event that is left; the stream must end by itself, and with a
    /// final event.
    #[track_caller]
    pub fn into_events(mut self) -> Vec<Frame> {
        let mut events = Vec::new();
        while let Some(frame) = self.event() {
            events.push(frame);
        }
        assert!(events.last().is_none_or(Frame::is_final), "the stream was cut: {events:?}");
        events
    }
}
